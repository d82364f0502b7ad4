"""The house's rings: who may import whom."""

import ast
from pathlib import Path

import pytest

import dixa_assets

HOUSE = Path(dixa_assets.__file__).parent
# From the inside out: a module imports from rings before its own, and from the one before it in
# its own. Nothing else.
PURE = [
    "errors",
    "alert",
    "pace",
    "client",
    "catalogue",
    "values",
    "schema",
    "staging",
    "extract",
    "plan",
    "tables",
    "warehouse",
    "quality",
    "report",
    "load",
]
DAGSTER = [
    "partitions",
    "resources",
    "checks",
    "assets",
    "schedules",
    "sensors",
    "component",
    "definitions",
    "doctor",
]


def file_of(module: str) -> Path:
    """A module's file; of a package that has rings of its own, what others import."""
    return HOUSE / module / "__init__.py" if (HOUSE / module).is_dir() else HOUSE / f"{module}.py"


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            found.add(node.module or "")
            if node.module == "dixa_assets":
                found |= {f"dixa_assets.{alias.name}" for alias in node.names}
    return found


def test_every_module_has_its_place() -> None:
    packages = {path.parent.name for path in HOUSE.glob("*/__init__.py")} - {"simulator"}
    modules = {path.stem for path in HOUSE.glob("*.py")} | packages
    assert modules == {*PURE, *DAGSTER, "__init__"}


@pytest.mark.parametrize("module", [*PURE, *DAGSTER])
def test_a_module_imports_only_from_the_rings_inside_it(module: str) -> None:
    order = [*PURE, *DAGSTER]
    allowed = {f"dixa_assets.{name}" for name in order[: order.index(module)]}
    own = {name for name in imports_of(file_of(module)) if name.startswith("dixa_assets")}
    inside = {name for name in own if name.startswith(f"dixa_assets.{module}.")}
    assert own - {"dixa_assets"} - inside <= allowed


@pytest.mark.parametrize("module", PURE)
def test_the_pure_modules_know_no_dagster(module: str) -> None:
    roots = {name.partition(".")[0] for name in imports_of(file_of(module))}
    assert not {root for root in roots if root.startswith("dagster")}


@pytest.mark.parametrize(
    ("package", "houses"),
    [
        ("httpx", {"client"}),
        ("duckdb", {"tables", "warehouse"}),
        ("pyrate_limiter", {"pace"}),
        ("plotly", {"report"}),
        ("jinja2", {"report"}),
    ],
)
def test_a_foreign_package_has_one_house(package: str, houses: set[str]) -> None:
    users = {
        module
        for module in [*PURE, *DAGSTER]
        if package in {name.partition(".")[0] for name in imports_of(file_of(module))}
    }
    assert users == houses


def test_the_report_reads_only_through_the_warehouse_and_the_checks() -> None:
    allowed = {f"dixa_assets.{name}" for name in PURE[: PURE.index("report")]}
    own = imports_of(HOUSE / "report/contents.py")
    names = {name for name in own if name.startswith("dixa_assets.")}
    assert names <= allowed
    assert not {name for name in own if name.startswith(("dagster", "duckdb"))}


def test_the_simulator_is_an_island() -> None:
    for path in (HOUSE / "simulator").glob("*.py"):
        own = {name for name in imports_of(path) if name.startswith("dixa_assets")}
        assert all(name.startswith("dixa_assets.simulator") for name in own), path.name
    for module in [*PURE, *DAGSTER]:
        names = imports_of(file_of(module))
        assert not {name for name in names if name.startswith("dixa_assets.simulator")}
