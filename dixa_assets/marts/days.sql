-- Which local days are loaded, and how long is each of them?
--
-- day DATE: A local day of which a metric or record is loaded.
-- week DATE: The first day of its week.
-- month DATE: The first day of its month.
-- weekday BIGINT: 1 is Monday, 7 is Sunday.
-- starts_at TIMESTAMPTZ: The first instant of the day.
-- ends_at TIMESTAMPTZ: The first instant after the day.
-- hours DOUBLE: Its length: 24, or 23 or 25 when the clocks change.
-- is_whole_week BOOLEAN: Whether all seven days of its week are loaded.
-- is_whole_month BOOLEAN: Whether all days of its month are loaded.
-- records VARCHAR[]: The records of which the day is loaded, by table name.
WITH loaded_days AS (
    SELECT partition_date AS day, min(interval_start) AS starts_at, max(interval_end) AS ends_at,
           list(split_part(asset_key, '/', 2) ORDER BY asset_key)
               FILTER (asset_key LIKE 'dixa_records/%') AS records
    FROM dixa_catalogue.loads
    WHERE partition_date IS NOT NULL
    GROUP BY partition_date
),
dated AS (
    SELECT loaded_days.*, date_trunc('month', day)::DATE AS month,
           day - ((isodow(day) - week_starts_on + 7) % 7)::INTEGER AS week
    FROM loaded_days CROSS JOIN account
)
SELECT day, week, month, isodow(day) AS weekday, starts_at, ends_at,
       (epoch_us(ends_at) - epoch_us(starts_at)) / 3600000000 AS hours,
       count(*) OVER (PARTITION BY week) = 7 AS is_whole_week,
       count(*) OVER (PARTITION BY month) = day(last_day(month)) AS is_whole_month,
       coalesce(records, []) AS records
FROM dated
