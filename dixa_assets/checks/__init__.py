"""Whether loaded data are complete and right, asked of the warehouse."""

# Fills the registry.
import dixa_assets.checks.checks  # noqa: F401
