-- How does each queue do, week by week?
-- One row for each week and queue, with 0 where nothing happened, and one for events without a
-- queue. Each figure is by the queue in its own record: at the creation, at the closing, and so on.
--
-- requires: created|closings|ratings|first_responses|handling|assignments|transfers
-- per: week
--
-- period DATE: The first local day of the week.
-- is_whole BOOLEAN: Whether each day of the week is loaded for each record of this mart.
-- queue_id VARCHAR: The queue; NULL for events without a queue.
-- queue VARCHAR: The name of the queue today; 'none' for events without a queue.
-- created BIGINT: New conversations, by the queue at the creation.
-- closed BIGINT: Closings, by the queue at the closing.
-- answers BIGINT: Answers to satisfaction surveys, by the queue and day of the offer.
-- satisfied BIGINT: Answers of 4 or 5.
-- csat DOUBLE: Answers of 4 or 5, in percent (0 to 100).
-- first_responses BIGINT: First replies, by the queue at the reply.
-- first_response_average DOUBLE: Mean time to the first reply, in seconds.
-- first_response_median DOUBLE: Median of it, in seconds.
-- first_response_p90 DOUBLE: 90th percentile of it, in seconds.
-- within_sla DOUBLE: First replies within the promised time, in percent (0 to 100).
-- handling_average DOUBLE: Mean work on a conversation until it was closed, in seconds.
-- handling_median DOUBLE: Median of it, in seconds.
-- handling_hours DOUBLE: Sum of that work. An agent may handle several conversations at once.
-- offers BIGINT: Offers of a conversation to an agent, by the queue at the offer.
-- acceptance DOUBLE: Accepted offers, in percent (0 to 100).
-- wait_average DOUBLE: Mean wait until an offer was accepted, in seconds.
-- passed_on BIGINT: Transfers from this queue to another one.
-- received BIGINT: Transfers from another queue to this one.
WITH parts AS (
    SELECT queue_id AS part, queue FROM queues
    UNION ALL SELECT '', 'none'
),
opened AS (
    SELECT period, coalesce(queue_id, '') AS part, count(*) AS created
    FROM created JOIN calendar USING (day)
    GROUP BY ALL
),
ended AS (
    SELECT period, coalesce(queue_id, '') AS part, count(*) AS closed
    FROM closings JOIN calendar USING (day)
    GROUP BY ALL
),
rated AS (
    SELECT period, coalesce(queue_id, '') AS part, count(*) AS answers,
           count(*) FILTER (score >= 4) AS satisfied, 100 * avg((score >= 4)::INTEGER) AS csat
    FROM ratings JOIN calendar USING (day)
    GROUP BY ALL
),
replied AS (
    SELECT period, coalesce(queue_id, '') AS part, count(*) AS first_responses,
           avg(seconds) AS first_response_average, median(seconds) AS first_response_median,
           quantile_cont(seconds, 0.9) AS first_response_p90,
           100 * avg(is_within_sla::INTEGER) AS within_sla
    FROM first_responses JOIN calendar USING (day)
    GROUP BY ALL
),
handled AS (
    SELECT period, coalesce(queue_id, '') AS part, avg(seconds) AS handling_average,
           median(seconds) AS handling_median, sum(seconds) / 3600 AS handling_hours
    FROM handling JOIN calendar USING (day)
    GROUP BY ALL
),
offered AS (
    SELECT period, coalesce(queue_id, '') AS part, count(*) AS offers,
           100 * avg(is_accepted::INTEGER) AS acceptance,
           avg(seconds) FILTER (is_accepted IS NOT false) AS wait_average
    FROM assignments JOIN calendar USING (day)
    GROUP BY ALL
),
moved AS (
    SELECT period, coalesce(from_queue_id, '') AS from_part, coalesce(to_queue_id, '') AS to_part,
           count(*) AS transfers
    FROM transfers JOIN calendar USING (day)
    WHERE from_queue_id IS DISTINCT FROM to_queue_id
    GROUP BY ALL
),
gone AS (
    SELECT period, from_part AS part, sum(transfers)::BIGINT AS passed_on
    FROM moved
    GROUP BY ALL
),
come AS (
    SELECT period, to_part AS part, sum(transfers)::BIGINT AS received
    FROM moved
    GROUP BY ALL
)
SELECT period, is_whole, nullif(part, '') AS queue_id, queue,
       CASE WHEN 'created' IN names THEN coalesce(created, 0) END AS created,
       CASE WHEN 'closings' IN names THEN coalesce(closed, 0) END AS closed,
       CASE WHEN 'ratings' IN names THEN coalesce(answers, 0) END AS answers,
       CASE WHEN 'ratings.score' IN names THEN coalesce(satisfied, 0) END AS satisfied, csat,
       CASE WHEN 'first_responses' IN names THEN coalesce(first_responses, 0) END
           AS first_responses,
       first_response_average, first_response_median, first_response_p90, within_sla,
       handling_average, handling_median,
       CASE WHEN 'handling.seconds' IN names THEN coalesce(handling_hours, 0) END
           AS handling_hours,
       CASE WHEN 'assignments' IN names THEN coalesce(offers, 0) END AS offers,
       acceptance, wait_average,
       CASE WHEN 'transfers.from_queue_id' IN names THEN coalesce(passed_on, 0) END AS passed_on,
       CASE WHEN 'transfers.to_queue_id' IN names THEN coalesce(received, 0) END AS received
FROM periods
CROSS JOIN parts
LEFT JOIN opened USING (period, part)
LEFT JOIN ended USING (period, part)
LEFT JOIN rated USING (period, part)
LEFT JOIN replied USING (period, part)
LEFT JOIN handled USING (period, part)
LEFT JOIN offered USING (period, part)
LEFT JOIN gone USING (period, part)
LEFT JOIN come USING (period, part)
