-- What is each agent called today, and since when is the agent known?
--
-- requires: listed_agents|closings|ratings|nps|first_responses|assignments|
--   handling|messages|transfers|presence
--
-- agent_id VARCHAR: Dixa's id. It stays the same when the agent is renamed.
-- agent VARCHAR: The name today: the name in Dixa's list, or else the latest name in a record.
-- former_names VARCHAR[]: Other names in records.
-- is_listed BOOLEAN: Whether Dixa offers the agent as a value of a filter; NULL without the list.
-- first_day DATE: The first loaded day with the agent in a record; NULL if there is none.
-- last_day DATE: The last one.
WITH named AS (
    SELECT agent_id, agent_name, day, happened_at FROM closings
    UNION ALL SELECT agent_id, agent_name, day, happened_at FROM ratings
    UNION ALL SELECT agent_id, agent_name, day, happened_at FROM nps
    UNION ALL SELECT agent_id, agent_name, day, happened_at FROM first_responses
    UNION ALL SELECT agent_id, agent_name, day, happened_at FROM assignments
    UNION ALL SELECT agent_id, agent_name, day, happened_at FROM handling
    UNION ALL SELECT agent_id, agent_name, day, happened_at FROM messages
    UNION ALL SELECT agent_id, agent_name, day, happened_at FROM transfers
    UNION ALL SELECT agent_id, agent_name, day, happened_at FROM presence
),
spelled AS (
    SELECT agent_id, agent_name, min(day) AS first_day, max(day) AS last_day,
           max(happened_at) AS named_at
    FROM named
    WHERE agent_id IS NOT NULL
    GROUP BY agent_id, agent_name
),
seen AS (
    SELECT agent_id, min(first_day) AS first_day, max(last_day) AS last_day,
           max({'named_at': named_at, 'name': agent_name})
               FILTER (agent_name IS NOT NULL).name AS latest_name,
           list(agent_name ORDER BY agent_name) FILTER (agent_name IS NOT NULL) AS names
    FROM spelled
    GROUP BY agent_id
),
today AS (
    SELECT agent_id, coalesce(listed.name, latest_name, agent_id) AS agent, names,
           CASE WHEN EXISTS (FROM listed_agents) THEN listed.agent_id IS NOT NULL END AS is_listed,
           first_day, last_day
    FROM seen
    FULL JOIN (SELECT id AS agent_id, name FROM listed_agents) AS listed USING (agent_id)
)
SELECT agent_id, agent,
       list_filter(coalesce(names, []), lambda name: name <> agent) AS former_names, is_listed,
       first_day, last_day
FROM today
