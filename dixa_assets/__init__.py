"""Every metric and record of Dixa's Analytics API as a daily-partitioned DuckDB table."""

from dixa_assets.zones import use_newest_rules

# Before anything asks for a zone: one that exists already keeps the rules it was made with.
use_newest_rules()
