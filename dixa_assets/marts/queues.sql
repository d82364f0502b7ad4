-- What is each queue called today, and since when is the queue known?
--
-- requires: listed_queues|created|closings|ratings|nps|first_responses|assignments|
--   handling|transfers
--
-- queue_id VARCHAR: Dixa's id. It stays the same when the queue is renamed.
-- queue VARCHAR: The name today: the name in Dixa's list, or else the latest name in a record.
-- former_names VARCHAR[]: Other names in records.
-- is_listed BOOLEAN: Whether Dixa offers the queue as a value of a filter; NULL without the list.
-- first_day DATE: The first loaded day with the queue in a record; NULL if there is none.
-- last_day DATE: The last one.
WITH named AS (
    SELECT queue_id, queue_name, day, happened_at FROM created
    UNION ALL SELECT queue_id, queue_name, day, happened_at FROM closings
    UNION ALL SELECT queue_id, queue_name, day, happened_at FROM ratings
    UNION ALL SELECT queue_id, queue_name, day, happened_at FROM nps
    UNION ALL SELECT queue_id, queue_name, day, happened_at FROM first_responses
    UNION ALL SELECT queue_id, queue_name, day, happened_at FROM assignments
    UNION ALL SELECT queue_id, queue_name, day, happened_at FROM handling
    UNION ALL SELECT from_queue_id, from_queue_name, day, happened_at FROM transfers
    UNION ALL SELECT to_queue_id, to_queue_name, day, happened_at FROM transfers
),
spelled AS (
    SELECT queue_id, queue_name, min(day) AS first_day, max(day) AS last_day,
           max(happened_at) AS named_at
    FROM named
    WHERE queue_id IS NOT NULL
    GROUP BY queue_id, queue_name
),
seen AS (
    SELECT queue_id, min(first_day) AS first_day, max(last_day) AS last_day,
           max({'named_at': named_at, 'name': queue_name})
               FILTER (queue_name IS NOT NULL).name AS latest_name,
           list(queue_name ORDER BY queue_name) FILTER (queue_name IS NOT NULL) AS names
    FROM spelled
    GROUP BY queue_id
),
today AS (
    SELECT queue_id, coalesce(listed.name, latest_name, queue_id) AS queue, names,
           CASE WHEN EXISTS (FROM listed_queues) THEN listed.queue_id IS NOT NULL END AS is_listed,
           first_day, last_day
    FROM seen
    FULL JOIN (SELECT id AS queue_id, name FROM listed_queues) AS listed USING (queue_id)
)
SELECT queue_id, queue,
       list_filter(coalesce(names, []), lambda name: name <> queue) AS former_names, is_listed,
       first_day, last_day
FROM today
