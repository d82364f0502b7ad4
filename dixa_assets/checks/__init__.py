"""Checks of the loaded data. They read the warehouse and never call the API.

`registry.py` has the types and `CHECKS`, the list of all checks, which Dagster and the report read.
`checks.py` has the checks of days, `periods.py` of weeks and months. To add one, write a function
there with the decorator `@check`.
"""

# Importing the checks registers them.
import dixa_assets.checks.checks  # noqa: F401
import dixa_assets.checks.periods  # noqa: F401
