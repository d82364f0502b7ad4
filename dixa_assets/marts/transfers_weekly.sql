-- Between which queues are conversations transferred?
-- One row for each week and pair of queues with a transfer.
--
-- requires: transfers
-- per: week
--
-- period DATE: The first local day of the week.
-- is_whole BOOLEAN: Whether each day of the week is loaded.
-- from_queue_id VARCHAR: The queue before; NULL if there was none.
-- from_queue VARCHAR: The name of that queue today; 'none' if there was none.
-- to_queue_id VARCHAR: The queue after.
-- to_queue VARCHAR: The name of that queue today; 'none' if there is none.
-- is_same_queue BOOLEAN: Whether both are the same queue.
-- transfers BIGINT: Transfers.
-- conversations BIGINT: Different conversations among them.
WITH counted AS (
    SELECT period, from_queue_id, to_queue_id, count(*) AS transfers,
           count(DISTINCT conversation_id) AS conversations
    FROM transfers JOIN calendar USING (day)
    GROUP BY ALL
)
SELECT period, is_whole, from_queue_id, coalesce(source.queue, 'none') AS from_queue,
       to_queue_id, coalesce(target.queue, 'none') AS to_queue,
       CASE WHEN coalesce(from_queue_id, to_queue_id) IS NOT NULL
            THEN from_queue_id IS NOT DISTINCT FROM to_queue_id END AS is_same_queue,
       transfers, conversations
FROM counted
JOIN periods USING (period)
LEFT JOIN queues AS source ON source.queue_id = from_queue_id
LEFT JOIN queues AS target ON target.queue_id = to_queue_id
