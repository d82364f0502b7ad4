-- How did the {period} go, all in all?
-- Each figure comes from the rows of the whole {period}, never from daily figures. A row belongs to
-- the {period} of its partition_date. Not loaded is NULL; loaded and nothing happened is 0.
--
-- requires: created|closings|ratings|nps|first_responses|assignments|
--   handling|messages|transfers|presence
-- per: day week month
--
-- period DATE: The first local day of the {period}.
-- days BIGINT: Loaded days of the {period}.
-- is_whole BOOLEAN: Whether each day of the {period} is loaded for each record of this mart.
-- created BIGINT: New conversations.
-- closed BIGINT: Closings. A reopened conversation is closed several times.
-- conversations_closed BIGINT: Different conversations among the closings.
-- closed_again BIGINT: Closings of conversations with an earlier closing on a loaded day.
-- net_new BIGINT: Created less closed for the first time.
-- answers BIGINT: Answers to satisfaction surveys, by the day of the offer. Some come days later.
-- csat DOUBLE: Answers of 4 or 5, in percent (0 to 100).
-- csat_low DOUBLE: Lower end of the 95 % interval of csat (Wilson).
-- csat_high DOUBLE: Upper end of that interval.
-- score DOUBLE: Mean score, 1 to 5.
-- answers_per_100_closings DOUBLE: Answers per 100 closings.
-- nps DOUBLE: Answers of 9 or 10 less answers of 0 to 6, in percent (-100 to 100).
-- nps_answers BIGINT: Answers to recommendation surveys.
-- first_responses BIGINT: First replies.
-- first_response_average DOUBLE: Mean time to the first reply, in seconds.
-- first_response_median DOUBLE: Median of it, in seconds.
-- first_response_p90 DOUBLE: 90th percentile of it, in seconds.
-- within_sla DOUBLE: First replies within the promised time, in percent (0 to 100).
-- offers BIGINT: Offers of a conversation to an agent.
-- acceptance DOUBLE: Accepted offers, in percent (0 to 100).
-- wait_average DOUBLE: Mean wait until an offer was accepted, in seconds.
-- wait_p90 DOUBLE: 90th percentile of it, in seconds.
-- handling_average DOUBLE: Mean work on a conversation until it was closed, in seconds.
-- handling_median DOUBLE: Median of it, in seconds.
-- handling_p90 DOUBLE: 90th percentile of it, in seconds.
-- handling_hours DOUBLE: Sum of that work. An agent may handle several conversations at once.
-- transfers BIGINT: Transfers to a queue.
-- messages BIGINT: Messages.
-- agent_messages BIGINT: Messages from agents.
-- customers BIGINT: Different customers of the new conversations.
-- agents BIGINT: Different agents who worked, by their presence.
-- working_hours DOUBLE: Hours of presence at work; an interval counts on the day on which it ended.
WITH opened AS (
    SELECT period, count(*) AS created, count(DISTINCT customer_id) AS customers
    FROM created JOIN calendar USING (day)
    GROUP BY period
),
numbered AS (
    SELECT day, conversation_id,
           row_number() OVER (PARTITION BY conversation_id ORDER BY happened_at) AS number
    FROM closings
),
ended AS (
    SELECT period, count(*) AS closed, count(DISTINCT conversation_id) AS conversations_closed,
           count(*) FILTER (number > 1) AS closed_again
    FROM numbered JOIN calendar USING (day)
    GROUP BY period
),
rated AS (
    SELECT period, count(*) AS answers, avg(score) AS score,
           count(score) AS scores, avg((score >= 4)::INTEGER) AS share
    FROM ratings JOIN calendar USING (day)
    GROUP BY period
),
recommended AS (
    SELECT period, count(*) AS nps_answers,
           100 * avg((score >= 9)::INTEGER - (score <= 6)::INTEGER) AS nps
    FROM nps JOIN calendar USING (day)
    GROUP BY period
),
replied AS (
    SELECT period, count(*) AS first_responses, avg(seconds) AS first_response_average,
           median(seconds) AS first_response_median,
           quantile_cont(seconds, 0.9) AS first_response_p90,
           100 * avg(is_within_sla::INTEGER) AS within_sla
    FROM first_responses JOIN calendar USING (day)
    GROUP BY period
),
offered AS (
    SELECT period, count(*) AS offers, 100 * avg(is_accepted::INTEGER) AS acceptance,
           avg(seconds) FILTER (is_accepted IS NOT false) AS wait_average,
           quantile_cont(seconds, 0.9) FILTER (is_accepted IS NOT false) AS wait_p90
    FROM assignments JOIN calendar USING (day)
    GROUP BY period
),
handled AS (
    SELECT period, avg(seconds) AS handling_average, median(seconds) AS handling_median,
           quantile_cont(seconds, 0.9) AS handling_p90, sum(seconds) / 3600 AS handling_hours
    FROM handling JOIN calendar USING (day)
    GROUP BY period
),
moved AS (
    SELECT period, count(*) AS transfers
    FROM transfers JOIN calendar USING (day)
    GROUP BY period
),
written AS (
    SELECT period, count(*) AS messages,
           count(*) FILTER (upper(author_type) = 'AGENT') AS agent_messages
    FROM messages JOIN calendar USING (day)
    GROUP BY period
),
worked AS (
    SELECT period, count(DISTINCT agent_id) FILTER (is_working) AS agents,
           sum(seconds) FILTER (is_working) / 3600 AS working_hours
    FROM presence JOIN calendar USING (day)
    GROUP BY period
),
counted AS (
    SELECT period, days, is_whole,
           CASE WHEN 'created' IN names THEN coalesce(created, 0) END AS created,
           CASE WHEN 'closings' IN names THEN coalesce(closed, 0) END AS closed,
           CASE WHEN 'closings' IN names THEN coalesce(conversations_closed, 0) END
               AS conversations_closed,
           CASE WHEN 'closings' IN names THEN coalesce(closed_again, 0) END AS closed_again,
           CASE WHEN 'ratings' IN names THEN coalesce(answers, 0) END AS answers,
           scores, share, score, nps,
           CASE WHEN 'nps' IN names THEN coalesce(nps_answers, 0) END AS nps_answers,
           CASE WHEN 'first_responses' IN names THEN coalesce(first_responses, 0) END
               AS first_responses,
           first_response_average, first_response_median, first_response_p90, within_sla,
           CASE WHEN 'assignments' IN names THEN coalesce(offers, 0) END AS offers,
           acceptance, wait_average, wait_p90, handling_average, handling_median, handling_p90,
           CASE WHEN 'handling.seconds' IN names THEN coalesce(handling_hours, 0) END
               AS handling_hours,
           CASE WHEN 'transfers' IN names THEN coalesce(transfers, 0) END AS transfers,
           CASE WHEN 'messages' IN names THEN coalesce(messages, 0) END AS messages,
           CASE WHEN 'messages.author_type' IN names THEN coalesce(agent_messages, 0) END
               AS agent_messages,
           CASE WHEN 'created.customer_id' IN names THEN coalesce(customers, 0) END AS customers,
           CASE WHEN 'presence.is_working' IN names THEN coalesce(agents, 0) END AS agents,
           CASE WHEN 'presence.is_working' IN names THEN coalesce(working_hours, 0) END
               AS working_hours
    FROM periods
    LEFT JOIN opened USING (period)
    LEFT JOIN ended USING (period)
    LEFT JOIN rated USING (period)
    LEFT JOIN recommended USING (period)
    LEFT JOIN replied USING (period)
    LEFT JOIN offered USING (period)
    LEFT JOIN handled USING (period)
    LEFT JOIN moved USING (period)
    LEFT JOIN written USING (period)
    LEFT JOIN worked USING (period)
),
wilson AS (
    -- The square of 1.96, the standard errors of 95 %, by the number of scores.
    SELECT *, 3.841458820694124 / scores AS z,
           sqrt(z * (share * (1 - share) + z / 4)) AS half
    FROM counted
)
SELECT period, days, is_whole, created, closed, conversations_closed, closed_again,
       created - (closed - closed_again) AS net_new,
       answers, 100 * share AS csat,
       100 * (share + z / 2 - half) / (1 + z) AS csat_low,
       100 * (share + z / 2 + half) / (1 + z) AS csat_high,
       score, 100 * answers / nullif(closed, 0) AS answers_per_100_closings,
       nps, nps_answers,
       first_responses, first_response_average, first_response_median, first_response_p90,
       within_sla, offers, acceptance, wait_average, wait_p90,
       handling_average, handling_median, handling_p90, handling_hours,
       transfers, messages, agent_messages, customers, agents, working_hours
FROM wilson
