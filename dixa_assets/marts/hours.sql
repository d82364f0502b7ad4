-- When do customers come, hour by hour?
-- One row for each hour of each loaded day and channel, with 0 in quiet hours. A day of 25 hours
-- has one hour twice, a day of 23 hours lacks one.
--
-- requires: created
--
-- hour_start TIMESTAMPTZ: When the hour begins; an instant. Hours count from the day's midnight.
-- local_start TIMESTAMP: The same on the local clock.
-- hour BIGINT: The local hour, 0 to 23.
-- weekday BIGINT: 1 is Monday, 7 is Sunday.
-- day DATE: The local day.
-- week DATE: The first day of its week.
-- month DATE: The first day of its month.
-- is_whole_week BOOLEAN: Whether all seven days of the week are loaded.
-- channel VARCHAR: The channel on which the conversation began; 'none' if it is not known.
-- created BIGINT: New conversations.
WITH spine AS (
    SELECT days.*, unnest(range(ceil(hours)::BIGINT)) AS number
    FROM days JOIN loaded USING (day)
    WHERE 'created' IN names
),
parts AS (
    SELECT DISTINCT coalesce(channel, 'none') AS channel
    FROM created
),
arrived AS (
    SELECT day, (epoch_us(happened_at) - epoch_us(starts_at)) // 3600000000 AS number,
           coalesce(channel, 'none') AS channel, count(*) AS created
    FROM created JOIN days USING (day)
    GROUP BY ALL
)
SELECT starts_at + to_hours(number) AS hour_start,
       timezone(timezone, starts_at + to_hours(number)) AS local_start,
       hour(timezone(timezone, starts_at + to_hours(number))) AS hour,
       weekday, day, week, month, is_whole_week, channel, coalesce(created, 0) AS created
FROM spine
CROSS JOIN parts
CROSS JOIN account
LEFT JOIN arrived USING (day, number, channel)
