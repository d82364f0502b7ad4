-- What happened to each conversation?
-- One row for each conversation that was created or closed on a loaded day. A count is 0 if its
-- record is loaded for the first day of the row and nothing happened, and NULL if it is not loaded.
--
-- requires: created|closings
--
-- conversation_id BIGINT: Dixa's number. Records call it csid or conversation_id.
-- is_whole BOOLEAN: Whether the creation is loaded. If not, earlier events are missing in the row.
-- created_at TIMESTAMPTZ: When it was created; an instant, its local day is created_day.
-- created_day DATE: The local day of the creation.
-- created_week DATE: The first day of the week of the creation.
-- channel VARCHAR: The channel on which it began.
-- direction VARCHAR: Who began it.
-- language VARCHAR: The customer's language.
-- customer_id VARCHAR: The customer.
-- first_queue_id VARCHAR: The queue at the creation.
-- first_queue VARCHAR: The name of that queue today.
-- last_queue_id VARCHAR: The queue at the last closing.
-- last_queue VARCHAR: The name of that queue today.
-- first_response_at TIMESTAMPTZ: When an agent first replied; an instant.
-- first_response_seconds DOUBLE: From the creation to the first reply, as Dixa computed it.
-- is_within_sla BOOLEAN: Whether the first reply came within the promised time.
-- first_agent_id VARCHAR: The agent who first replied.
-- first_agent VARCHAR: The name of that agent today.
-- wait_seconds DOUBLE: From the creation to the first offer that an agent accepted.
-- closings BIGINT: How often it was closed. It is closed again after it was reopened.
-- first_closed_at TIMESTAMPTZ: When it was first closed; an instant.
-- first_closed_day DATE: The local day of the first closing.
-- last_closed_at TIMESTAMPTZ: When it was last closed; an instant.
-- last_closed_day DATE: The local day of the last closing.
-- last_closed_week DATE: The first day of the week of the last closing.
-- first_resolution_seconds DOUBLE: From the creation to the first closing; NULL if either is not
--   loaded.
-- resolution_seconds DOUBLE: From the creation to the last closing; NULL if either is not loaded.
-- closed_by VARCHAR: Who closed it last: Agent, Enduser or Unknown.
-- last_agent_id VARCHAR: The agent who had it at the last closing. The customer may have closed it.
-- last_agent VARCHAR: The name of that agent today.
-- tags VARCHAR[]: The tags at the last closing.
-- offers BIGINT: How often it was offered to an agent.
-- acceptances BIGINT: How many of the offers were accepted.
-- agents BIGINT: How many different agents accepted it.
-- transfers BIGINT: How often it was transferred.
-- handling_seconds DOUBLE: Work on it, which Dixa reports when it is closed; NULL before.
-- agent_messages BIGINT: Messages from agents.
-- customer_messages BIGINT: Other messages.
-- answers BIGINT: Answers to satisfaction surveys.
-- last_score DOUBLE: The score of the last answer, 1 to 5.
-- is_one_touch BOOLEAN: One closing, one message from an agent and no transfer.
WITH begun AS (
    SELECT conversation_id, min(happened_at) AS created_at,
           arg_min({'day': day, 'channel': channel, 'direction': direction, 'language': language,
                    'customer_id': customer_id, 'queue_id': queue_id}, happened_at) AS creation
    FROM created
    WHERE conversation_id IS NOT NULL
    GROUP BY conversation_id
),
ended AS (
    SELECT conversation_id, count(*) AS closings,
           min(happened_at) AS first_closed_at, arg_min(day, happened_at) AS first_closed_day,
           max(happened_at) AS last_closed_at, arg_max(day, happened_at) AS last_closed_day,
           -- arg_max skips NULL, but not a struct of NULLs.
           arg_max({'channel': channel, 'direction': direction, 'queue_id': queue_id,
                    'agent_id': agent_id, 'closed_by': closed_by, 'tags': tags},
                   happened_at) AS closing
    FROM closings
    WHERE conversation_id IS NOT NULL
    GROUP BY conversation_id
),
replied AS (
    SELECT conversation_id,
           arg_min({'happened_at': happened_at, 'seconds': seconds, 'channel': channel,
                    'is_within_sla': is_within_sla, 'agent_id': agent_id}, happened_at) AS reply
    FROM first_responses
    GROUP BY conversation_id
),
offered AS (
    SELECT conversation_id, count(*) AS offers, sum(is_accepted::INTEGER)::BIGINT AS acceptances,
           CASE WHEN count(is_accepted) > 0
                THEN count(DISTINCT agent_id) FILTER (is_accepted) END AS agents,
           (arg_min({'seconds': seconds}, happened_at) FILTER (is_accepted)).seconds AS wait_seconds
    FROM assignments
    GROUP BY conversation_id
),
handled AS (
    SELECT conversation_id, sum(seconds) AS handling_seconds
    FROM handling
    GROUP BY conversation_id
),
written AS (
    SELECT conversation_id, min(channel) AS written_channel,
           sum((upper(author_type) = 'AGENT')::INTEGER)::BIGINT AS agent_messages,
           sum((upper(author_type) <> 'AGENT')::INTEGER)::BIGINT AS customer_messages
    FROM messages
    GROUP BY conversation_id
),
moved AS (
    SELECT conversation_id, count(*) AS transfers
    FROM transfers
    GROUP BY conversation_id
),
rated AS (
    SELECT conversation_id, count(*) AS answers,
           arg_max({'score': score}, happened_at).score AS last_score
    FROM ratings
    GROUP BY conversation_id
),
joined AS (
    SELECT *, coalesce(creation.day, first_closed_day) AS day,
           coalesce(creation.channel, closing.channel, reply.channel, written_channel) AS channel
    FROM begun
    FULL JOIN ended USING (conversation_id)
    LEFT JOIN replied USING (conversation_id)
    LEFT JOIN offered USING (conversation_id)
    LEFT JOIN handled USING (conversation_id)
    LEFT JOIN written USING (conversation_id)
    LEFT JOIN moved USING (conversation_id)
    LEFT JOIN rated USING (conversation_id)
),
counted AS (
    SELECT * REPLACE (
        coalesce(closings, CASE WHEN 'closings' IN names THEN 0 END) AS closings,
        coalesce(offers, CASE WHEN 'assignments' IN names THEN 0 END) AS offers,
        coalesce(acceptances, CASE WHEN 'assignments.is_accepted' IN names THEN 0 END)
            AS acceptances,
        coalesce(agents, CASE WHEN 'assignments.is_accepted' IN names THEN 0 END) AS agents,
        coalesce(transfers, CASE WHEN 'transfers' IN names THEN 0 END) AS transfers,
        coalesce(agent_messages, CASE WHEN 'messages.author_type' IN names THEN 0 END)
            AS agent_messages,
        coalesce(customer_messages, CASE WHEN 'messages.author_type' IN names THEN 0 END)
            AS customer_messages,
        coalesce(answers, CASE WHEN 'ratings' IN names THEN 0 END) AS answers)
    FROM joined LEFT JOIN loaded USING (day)
)
SELECT conversation_id, created_at IS NOT NULL AS is_whole,
       created_at, creation.day AS created_day, began.week AS created_week,
       channel, coalesce(creation.direction, closing.direction) AS direction,
       creation.language AS language, creation.customer_id AS customer_id,
       creation.queue_id AS first_queue_id, first_queue.queue AS first_queue,
       closing.queue_id AS last_queue_id, last_queue.queue AS last_queue,
       reply.happened_at AS first_response_at, reply.seconds AS first_response_seconds,
       reply.is_within_sla AS is_within_sla,
       reply.agent_id AS first_agent_id, first_agent.agent AS first_agent,
       wait_seconds, closings, first_closed_at, first_closed_day,
       last_closed_at, last_closed_day, finished.week AS last_closed_week,
       (epoch_us(first_closed_at) - epoch_us(created_at)) / 1000000 AS first_resolution_seconds,
       (epoch_us(last_closed_at) - epoch_us(created_at)) / 1000000 AS resolution_seconds,
       closing.closed_by AS closed_by,
       closing.agent_id AS last_agent_id, last_agent.agent AS last_agent, closing.tags AS tags,
       offers, acceptances, counted.agents, transfers, handling_seconds,
       agent_messages, customer_messages, answers, last_score,
       closings = 1 AND agent_messages = 1 AND transfers = 0 AS is_one_touch
FROM counted
LEFT JOIN days AS began ON began.day = creation.day
LEFT JOIN days AS finished ON finished.day = last_closed_day
LEFT JOIN queues AS first_queue ON first_queue.queue_id = creation.queue_id
LEFT JOIN queues AS last_queue ON last_queue.queue_id = closing.queue_id
LEFT JOIN agents AS first_agent ON first_agent.agent_id = reply.agent_id
LEFT JOIN agents AS last_agent ON last_agent.agent_id = closing.agent_id
