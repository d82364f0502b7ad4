-- What do customers write about, and what rises?
-- One row for each week and tag, with 0 where nothing happened. A conversation with two tags counts
-- for both, so tags do not add up to a total.
--
-- requires: tagged
-- per: week
--
-- period DATE: The first local day of the week.
-- is_whole BOOLEAN: Whether each day of the week is loaded.
-- tag_id VARCHAR: The tag.
-- tag VARCHAR: The name of the tag today.
-- conversations BIGINT: Different conversations that got the tag in the week.
-- share_of_tagged DOUBLE: Their share of all conversations that got a tag in the week, in percent.
WITH used AS (
    SELECT tag_id, max({'happened_at': happened_at, 'name': tag_name})
               FILTER (tag_name IS NOT NULL).name AS latest_name
    FROM tagged
    WHERE tag_id IS NOT NULL
    GROUP BY tag_id
),
parts AS (
    SELECT tag_id, coalesce(name, latest_name, tag_id) AS tag
    FROM used FULL JOIN (SELECT id AS tag_id, name FROM listed_tags) USING (tag_id)
),
counted AS (
    SELECT period, tag_id, count(DISTINCT conversation_id) AS conversations
    FROM tagged JOIN calendar USING (day)
    GROUP BY ALL
),
totals AS (
    SELECT period, count(DISTINCT conversation_id) AS all_tagged
    FROM tagged JOIN calendar USING (day)
    GROUP BY period
)
SELECT period, is_whole, tag_id, tag,
       CASE WHEN 'tagged' IN names THEN coalesce(conversations, 0) END AS conversations,
       100 * coalesce(conversations, 0) / nullif(all_tagged, 0) AS share_of_tagged
FROM periods
CROSS JOIN parts
LEFT JOIN counted USING (period, tag_id)
LEFT JOIN totals USING (period)
