-- Which answers did customers give, where, to whom, and how late?
-- One row for each answer to a satisfaction survey.
--
-- requires: ratings
--
-- conversation_id BIGINT: The conversation.
-- day DATE: The local day of the offer, as Dixa counts it. The answer comes then or days later.
-- week DATE: The first day of the week of the offer.
-- month DATE: The first day of the month of the offer.
-- score DOUBLE: 1 to 5.
-- is_satisfied BOOLEAN: Whether the score is 4 or 5, which is Dixa's CSAT.
-- offered_at TIMESTAMPTZ: When the survey was offered; an instant, its local day is day.
-- answered_at TIMESTAMPTZ: When the customer answered; an instant.
-- answered_day DATE: The local day of the answer.
-- days_late BIGINT: Local days from the offer to the answer.
-- channel VARCHAR: The channel of the conversation; NULL if neither its creation nor a closing is
--   loaded.
-- agent_id VARCHAR: The agent who had the conversation.
-- agent VARCHAR: The name of that agent today.
-- queue_id VARCHAR: The queue when the survey was offered.
-- queue VARCHAR: The name of that queue today.
-- comment VARCHAR: The customer's words.
-- first_response_seconds DOUBLE: From the creation of the conversation to the first reply.
-- transfers BIGINT: How often the conversation was transferred.
-- tags VARCHAR[]: The tags of the conversation at its last closing.
WITH answered AS (
    SELECT ratings.*, timezone(timezone, answered_at)::DATE AS answered_day
    FROM ratings CROSS JOIN account
)
SELECT answered.conversation_id, answered.day, week, month, score, score >= 4 AS is_satisfied,
       happened_at AS offered_at, answered_at, answered_day,
       date_diff('day', answered.day, answered_day) AS days_late, channel,
       answered.agent_id, agent, answered.queue_id, queue, comment,
       first_response_seconds, transfers, conversations.tags
FROM answered
JOIN days USING (day)
LEFT JOIN conversations USING (conversation_id)
LEFT JOIN agents USING (agent_id)
LEFT JOIN queues USING (queue_id)
