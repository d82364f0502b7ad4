-- Which totals of Dixa changed after they were first loaded?
-- One row for each total that a reload changed.
--
-- metric VARCHAR: The metric's id.
-- day DATE: The local day.
-- week DATE: The first day of its week.
-- month DATE: The first day of its month.
-- measure VARCHAR: Dixa's measure: Count, Sum, Average, Percentage and so on.
-- status VARCHAR: Presence status; only presence durations have one.
-- old_value DOUBLE: The total before the reload; NULL if there was none.
-- new_value DOUBLE: The total after it; NULL if there is none any more.
-- change DOUBLE: The new value less the old one.
-- old_loaded_at TIMESTAMPTZ: When the old total was loaded; an instant.
-- new_loaded_at TIMESTAMPTZ: When the new total was loaded; an instant.
-- new_loaded_day DATE: The local day of that.
SELECT metric, day, week, month, measure, status, old_value, new_value,
       new_value - old_value AS change, old_loaded_at, new_loaded_at,
       timezone(account.timezone, new_loaded_at)::DATE AS new_loaded_day
FROM (SELECT * RENAME (partition_date AS day) FROM dixa_catalogue.revisions)
LEFT JOIN days USING (day)
CROSS JOIN account
