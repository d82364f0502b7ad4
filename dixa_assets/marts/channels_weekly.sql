-- How does each channel do, week by week?
-- One row for each week and channel, with 0 where nothing happened. The channel is the one on which
-- the conversation began, also for ratings, closings and handling, which have no channel.
--
-- requires: created
-- per: week
--
-- period DATE: The first local day of the week.
-- is_whole BOOLEAN: Whether each day of the week is loaded for each record of this mart.
-- channel VARCHAR: The channel of the conversation; 'none' if it is not known.
-- created BIGINT: New conversations.
-- closed BIGINT: Closings. A reopened conversation is closed several times.
-- conversations_closed BIGINT: Different conversations among the closings.
-- answers BIGINT: Answers to satisfaction surveys, by the day of the offer.
-- satisfied BIGINT: Answers of 4 or 5.
-- csat DOUBLE: Answers of 4 or 5, in percent (0 to 100).
-- first_responses BIGINT: First replies.
-- first_response_average DOUBLE: Mean time to the first reply, in seconds.
-- first_response_median DOUBLE: Median of it, in seconds.
-- first_response_p90 DOUBLE: 90th percentile of it, in seconds.
-- within_sla DOUBLE: First replies within the promised time, in percent (0 to 100).
-- handled BIGINT: Conversations with work that ended with a closing; once for each closing.
-- handling_average DOUBLE: Mean of that work, in seconds.
-- handling_median DOUBLE: Median of it, in seconds.
-- handling_p90 DOUBLE: 90th percentile of it, in seconds.
-- handling_hours DOUBLE: Sum of that work. An agent may handle several conversations at once.
WITH known AS (
    SELECT conversation_id, channel AS known_channel
    FROM conversations
),
parts AS (
    SELECT DISTINCT known_channel AS channel FROM known WHERE known_channel IS NOT NULL
    UNION ALL SELECT 'none'
),
opened AS (
    SELECT period, coalesce(known_channel, 'none') AS channel, count(*) AS created
    FROM created JOIN calendar USING (day) LEFT JOIN known USING (conversation_id)
    GROUP BY ALL
),
ended AS (
    SELECT period, coalesce(known_channel, 'none') AS channel, count(*) AS closed,
           count(DISTINCT conversation_id) AS conversations_closed
    FROM closings JOIN calendar USING (day) LEFT JOIN known USING (conversation_id)
    GROUP BY ALL
),
rated AS (
    SELECT period, coalesce(known_channel, 'none') AS channel, count(*) AS answers,
           count(*) FILTER (score >= 4) AS satisfied, 100 * avg((score >= 4)::INTEGER) AS csat
    FROM ratings JOIN calendar USING (day) LEFT JOIN known USING (conversation_id)
    GROUP BY ALL
),
replied AS (
    SELECT period, coalesce(known_channel, 'none') AS channel, count(*) AS first_responses,
           avg(seconds) AS first_response_average, median(seconds) AS first_response_median,
           quantile_cont(seconds, 0.9) AS first_response_p90,
           100 * avg(is_within_sla::INTEGER) AS within_sla
    FROM first_responses JOIN calendar USING (day) LEFT JOIN known USING (conversation_id)
    GROUP BY ALL
),
handled AS (
    SELECT period, coalesce(known_channel, 'none') AS channel, count(*) AS handled,
           avg(seconds) AS handling_average, median(seconds) AS handling_median,
           quantile_cont(seconds, 0.9) AS handling_p90, sum(seconds) / 3600 AS handling_hours
    FROM handling JOIN calendar USING (day) LEFT JOIN known USING (conversation_id)
    GROUP BY ALL
)
SELECT period, is_whole, channel,
       CASE WHEN 'created' IN names THEN coalesce(created, 0) END AS created,
       CASE WHEN 'closings' IN names THEN coalesce(closed, 0) END AS closed,
       CASE WHEN 'closings' IN names THEN coalesce(conversations_closed, 0) END
           AS conversations_closed,
       CASE WHEN 'ratings' IN names THEN coalesce(answers, 0) END AS answers,
       CASE WHEN 'ratings.score' IN names THEN coalesce(satisfied, 0) END AS satisfied, csat,
       CASE WHEN 'first_responses' IN names THEN coalesce(first_responses, 0) END
           AS first_responses,
       first_response_average, first_response_median, first_response_p90, within_sla,
       CASE WHEN 'handling' IN names THEN coalesce(handled, 0) END AS handled,
       handling_average, handling_median, handling_p90,
       CASE WHEN 'handling.seconds' IN names THEN coalesce(handling_hours, 0) END
           AS handling_hours
FROM periods
CROSS JOIN parts
LEFT JOIN opened USING (period, channel)
LEFT JOIN ended USING (period, channel)
LEFT JOIN rated USING (period, channel)
LEFT JOIN replied USING (period, channel)
LEFT JOIN handled USING (period, channel)
