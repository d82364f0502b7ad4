-- How late do ratings come, and when is a week's CSAT final?
-- Only offers that are old enough for the latest answer ever seen.
--
-- requires: ratings
--
-- days_late BIGINT: Local days from the offer to the answer.
-- answers BIGINT: Answers that came so late.
-- arrived DOUBLE: The share of answers that had come by then, in percent (0 to 100).
WITH delays AS (
    SELECT day, days_late
    FROM satisfaction
    WHERE days_late >= 0
),
ends AS (
    SELECT max(days_late) AS longest,
           (SELECT max(day) FROM loaded WHERE 'ratings' IN names) AS last_day
    FROM delays
),
counted AS (
    SELECT days_late, count(*) AS answers
    FROM delays CROSS JOIN ends
    WHERE day + longest::INTEGER <= last_day
    GROUP BY days_late
),
filled AS (
    SELECT days_late, coalesce(answers, 0) AS answers
    FROM (SELECT unnest(range(longest + 1)) AS days_late FROM ends)
    LEFT JOIN counted USING (days_late)
)
SELECT days_late, answers,
       100 * sum(answers) OVER (ORDER BY days_late) / nullif(sum(answers) OVER (), 0) AS arrived
FROM filled
