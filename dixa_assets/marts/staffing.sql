-- How many agents were at work, hour by hour?
-- One row for each hour of each loaded day. A presence counts in the hours that it covers, while
-- Dixa counts all of it on the day on which it ended. The last hours of the last loaded day lack
-- presences that had not ended.
--
-- requires: presence
--
-- hour_start TIMESTAMPTZ: When the hour begins; an instant. Hours count from the day's midnight.
-- local_start TIMESTAMP: The same on the local clock.
-- hour BIGINT: The local hour, 0 to 23.
-- weekday BIGINT: 1 is Monday, 7 is Sunday.
-- day DATE: The local day.
-- week DATE: The first day of its week.
-- month DATE: The first day of its month.
-- is_whole_week BOOLEAN: Whether all seven days of the week are loaded.
-- agents BIGINT: Different agents who were at work for a part of the hour.
-- working_hours DOUBLE: Hours of presence at work within the hour.
-- other_hours DOUBLE: Hours of other presence within the hour, such as breaks.
WITH spine AS (
    SELECT days.*, unnest(range(ceil(hours)::BIGINT)) AS number, names
    FROM days JOIN loaded USING (day)
    WHERE 'presence' IN names
),
intervals AS (
    SELECT agent_id, is_working, happened_at AS ended_at,
           coalesce(started_at, happened_at - to_microseconds((seconds * 1000000)::BIGINT))
               AS began_at
    FROM presence
),
by_day AS (
    SELECT intervals.*,
           unnest(generate_series(timezone(timezone, began_at)::DATE,
                                  timezone(timezone, ended_at)::DATE, INTERVAL 1 DAY))::DATE AS day
    FROM intervals CROSS JOIN account
    WHERE began_at < ended_at
),
by_hour AS (
    SELECT day, starts_at, ends_at, agent_id, is_working, began_at, ended_at,
           unnest(range(
               (epoch_us(greatest(began_at, starts_at)) - epoch_us(starts_at)) // 3600000000,
               (epoch_us(least(ended_at, ends_at)) - epoch_us(starts_at) + 3599999999) // 3600000000
           )) AS number
    FROM by_day JOIN days USING (day)
),
cut AS (
    SELECT day, number, agent_id, is_working,
           (epoch_us(least(ended_at, ends_at, starts_at + to_hours(number + 1)))
            - epoch_us(greatest(began_at, starts_at + to_hours(number)))) / 3600000000 AS hours_cut
    FROM by_hour
),
summed AS (
    SELECT day, number, count(DISTINCT agent_id) FILTER (is_working) AS agents,
           sum(hours_cut) FILTER (is_working) AS working_hours,
           sum(hours_cut) FILTER (NOT is_working) AS other_hours
    FROM cut
    GROUP BY day, number
)
SELECT starts_at + to_hours(number) AS hour_start,
       timezone(timezone, starts_at + to_hours(number)) AS local_start,
       hour(timezone(timezone, starts_at + to_hours(number))) AS hour,
       weekday, day, week, month, is_whole_week,
       CASE WHEN 'presence.is_working' IN names THEN coalesce(agents, 0) END AS agents,
       CASE WHEN 'presence.is_working' IN names THEN coalesce(working_hours, 0) END
           AS working_hours,
       CASE WHEN 'presence.is_working' IN names THEN coalesce(other_hours, 0) END AS other_hours
FROM spine
CROSS JOIN account
LEFT JOIN summed USING (day, number)
