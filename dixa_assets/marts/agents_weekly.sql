-- How did each agent's week go?
-- One row for each week and agent who was known by then, with 0 where nothing happened, and one for
-- events without an agent. Each figure is by the agent in its own record.
--
-- requires: closings|ratings|first_responses|assignments|handling|messages|transfers|presence
-- per: week
--
-- period DATE: The first local day of the week.
-- is_whole BOOLEAN: Whether each day of the week is loaded for each record of this mart.
-- agent_id VARCHAR: The agent; NULL for events without an agent.
-- agent VARCHAR: The name of the agent today; 'none' for events without an agent.
-- closed BIGINT: Closings of conversations that the agent had. Customers made some of them.
-- closed_by_agent BIGINT: The closings that an agent made.
-- answers BIGINT: Answers to satisfaction surveys, by the day of the offer.
-- satisfied BIGINT: Answers of 4 or 5.
-- csat DOUBLE: Answers of 4 or 5, in percent (0 to 100).
-- first_responses BIGINT: First replies.
-- first_response_median DOUBLE: Median time from the creation to the first reply, in seconds.
-- offers BIGINT: Offers of a conversation to the agent.
-- accepted BIGINT: The offers that the agent accepted.
-- acceptance DOUBLE: Accepted offers, in percent (0 to 100).
-- handled BIGINT: Conversations with work that ended with a closing; once for each closing.
-- handling_average DOUBLE: Mean of that work, in seconds.
-- handling_median DOUBLE: Median of it, in seconds.
-- handling_hours DOUBLE: Sum of that work. An agent may handle several conversations at once.
-- messages BIGINT: Messages that the agent wrote.
-- transfers BIGINT: Transfers while the agent had the conversation.
-- working_hours DOUBLE: Hours of presence at work; an interval counts on the day on which it ended.
-- present_hours DOUBLE: Hours of presence with any status.
-- days_worked BIGINT: Local days with presence at work.
WITH parts AS (
    SELECT DISTINCT period, agent_id AS part, agent
    FROM calendar JOIN agents ON coalesce(first_day, day) <= day
    UNION ALL SELECT period, '', 'none' FROM periods
),
ended AS (
    SELECT period, coalesce(agent_id, '') AS part, count(*) AS closed,
           count(*) FILTER (upper(closed_by) = 'AGENT') AS closed_by_agent
    FROM closings JOIN calendar USING (day)
    GROUP BY ALL
),
rated AS (
    SELECT period, coalesce(agent_id, '') AS part, count(*) AS answers,
           count(*) FILTER (score >= 4) AS satisfied, 100 * avg((score >= 4)::INTEGER) AS csat
    FROM ratings JOIN calendar USING (day)
    GROUP BY ALL
),
replied AS (
    SELECT period, coalesce(agent_id, '') AS part, count(*) AS first_responses,
           median(seconds) AS first_response_median
    FROM first_responses JOIN calendar USING (day)
    GROUP BY ALL
),
offered AS (
    SELECT period, coalesce(agent_id, '') AS part, count(*) AS offers,
           count(*) FILTER (is_accepted) AS accepted, 100 * avg(is_accepted::INTEGER) AS acceptance
    FROM assignments JOIN calendar USING (day)
    GROUP BY ALL
),
handled AS (
    SELECT period, coalesce(agent_id, '') AS part, count(*) AS handled,
           avg(seconds) AS handling_average, median(seconds) AS handling_median,
           sum(seconds) / 3600 AS handling_hours
    FROM handling JOIN calendar USING (day)
    GROUP BY ALL
),
written AS (
    SELECT period, coalesce(agent_id, '') AS part, count(*) AS messages
    FROM messages JOIN calendar USING (day)
    WHERE upper(author_type) = 'AGENT'
    GROUP BY ALL
),
moved AS (
    SELECT period, coalesce(agent_id, '') AS part, count(*) AS transfers
    FROM transfers JOIN calendar USING (day)
    GROUP BY ALL
),
worked AS (
    SELECT period, coalesce(agent_id, '') AS part,
           sum(seconds) FILTER (is_working) / 3600 AS working_hours,
           sum(seconds) / 3600 AS present_hours,
           count(DISTINCT day) FILTER (is_working) AS days_worked
    FROM presence JOIN calendar USING (day)
    GROUP BY ALL
)
SELECT period, is_whole, nullif(part, '') AS agent_id, agent,
       CASE WHEN 'closings' IN names THEN coalesce(closed, 0) END AS closed,
       CASE WHEN 'closings.closed_by' IN names THEN coalesce(closed_by_agent, 0) END
           AS closed_by_agent,
       CASE WHEN 'ratings' IN names THEN coalesce(answers, 0) END AS answers,
       CASE WHEN 'ratings.score' IN names THEN coalesce(satisfied, 0) END AS satisfied, csat,
       CASE WHEN 'first_responses' IN names THEN coalesce(first_responses, 0) END
           AS first_responses,
       first_response_median,
       CASE WHEN 'assignments' IN names THEN coalesce(offers, 0) END AS offers,
       CASE WHEN 'assignments.is_accepted' IN names THEN coalesce(accepted, 0) END AS accepted,
       acceptance,
       CASE WHEN 'handling' IN names THEN coalesce(handled, 0) END AS handled,
       handling_average, handling_median,
       CASE WHEN 'handling.seconds' IN names THEN coalesce(handling_hours, 0) END
           AS handling_hours,
       CASE WHEN 'messages.author_type' IN names THEN coalesce(messages, 0) END AS messages,
       CASE WHEN 'transfers' IN names THEN coalesce(transfers, 0) END AS transfers,
       CASE WHEN 'presence.is_working' IN names THEN coalesce(working_hours, 0) END
           AS working_hours,
       CASE WHEN 'presence.seconds' IN names THEN coalesce(present_hours, 0) END AS present_hours,
       CASE WHEN 'presence.is_working' IN names THEN coalesce(days_worked, 0) END AS days_worked
FROM periods
JOIN parts USING (period)
LEFT JOIN ended USING (period, part)
LEFT JOIN rated USING (period, part)
LEFT JOIN replied USING (period, part)
LEFT JOIN offered USING (period, part)
LEFT JOIN handled USING (period, part)
LEFT JOIN written USING (period, part)
LEFT JOIN moved USING (period, part)
LEFT JOIN worked USING (period, part)
