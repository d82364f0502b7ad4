-- How much was open at the end of the day, and how old was it?
-- Exact for conversations that were created on a loaded day, if no day since then is missing.
-- Conversations from before the first loaded day are not counted.
--
-- requires: created closings
-- per: day
--
-- period DATE: The local day.
-- not_yet_closed BIGINT: Conversations that were created and never closed until the end of the day.
-- older_than_a_day BIGINT: The part of not_yet_closed that is older than 24 hours.
-- oldest_hours DOUBLE: The age of the oldest conversation in not_yet_closed.
-- open_again BIGINT: Closed conversations with a message after the last closing. This is inferred,
--   and NULL if messages are not loaded.
-- still_open BIGINT: not_yet_closed and open_again together; NULL if messages are not loaded.
WITH closed AS (
    SELECT conversation_id, happened_at AS closed_at,
           lead(happened_at) OVER (PARTITION BY conversation_id ORDER BY happened_at)
               AS closed_again_at
    FROM closings
),
fresh AS (
    SELECT min(created.happened_at) AS opened_at, min(closed_at) AS closed_at
    FROM created LEFT JOIN closed USING (conversation_id)
    GROUP BY conversation_id
),
reopened AS (
    SELECT messages.happened_at AS opened_at, closed_again_at AS closed_at
    FROM closed ASOF JOIN messages
      ON closed.conversation_id = messages.conversation_id AND closed_at < messages.happened_at
    WHERE closed_again_at IS NULL OR messages.happened_at < closed_again_at
),
stretches AS (
    SELECT true AS is_fresh, opened_at, coalesce(closed_at, 'infinity') AS closed_at FROM fresh
    UNION ALL SELECT false, opened_at, coalesce(closed_at, 'infinity') FROM reopened
),
counted AS (
    SELECT day, count(*) FILTER (is_fresh) AS not_yet_closed,
           count(*) FILTER (is_fresh AND opened_at < ends_at - INTERVAL 24 HOUR)
               AS older_than_a_day,
           (epoch_us(any_value(ends_at)) - epoch_us(min(opened_at) FILTER (is_fresh))) / 3600000000
               AS oldest_hours,
           count(*) FILTER (NOT is_fresh) AS open_again
    FROM days JOIN stretches ON opened_at < ends_at AND closed_at >= ends_at
    GROUP BY day
)
SELECT period,
       CASE WHEN 'created' IN names AND 'closings' IN names THEN coalesce(not_yet_closed, 0) END
           AS not_yet_closed,
       CASE WHEN 'created' IN names AND 'closings' IN names THEN coalesce(older_than_a_day, 0) END
           AS older_than_a_day,
       CASE WHEN 'created' IN names AND 'closings' IN names THEN oldest_hours END AS oldest_hours,
       CASE WHEN 'messages' IN names AND 'closings' IN names THEN coalesce(open_again, 0) END
           AS open_again,
       CASE WHEN 'created' IN names AND 'closings' IN names AND 'messages' IN names
            THEN coalesce(not_yet_closed, 0) + coalesce(open_again, 0) END AS still_open
FROM periods LEFT JOIN counted ON day = period
