"""The house: what each folder may import, and what importing it loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dixa_assets

HOUSE = Path(dixa_assets.__file__).parent

# What the files of a folder, or a file on top, may import of this project, and which foreign
# packages it alone may use. A folder may always import itself.
MAY_IMPORT: dict[str, set[str]] = {
    "__init__": {"zones"},
    "errors": set(),
    "zones": set(),
    "scaffold": set(),
    "model": {"errors"},
    "staging": {"errors", "model"},
    "settings": {"errors", "model"},
    "api": {"errors", "model", "staging"},
    "warehouse": {"errors", "zones", "model", "staging"},
    "checks": {"model", "warehouse"},
    "load": {"errors", "model", "staging", "api", "warehouse"},
    "report": {"errors", "model", "warehouse", "checks"},
    "orchestration": {
        "errors",
        "settings",
        "model",
        "api",
        "warehouse",
        "checks",
        "load",
        "report",
    },
    "component": {"errors", "scaffold", "settings", "model", "api", "warehouse", "orchestration"},
    "project": {"errors", "settings", "orchestration", "component"},
    "definitions": set(),
    "probe": {"errors", "model", "api", "orchestration", "component", "project"},
    "doctor": {
        "errors",
        "zones",
        "settings",
        "model",
        "api",
        "warehouse",
        "orchestration",
        "component",
        "project",
    },
    "launch": {"errors", "zones", "settings", "model", "orchestration", "component", "project"},
    "__main__": {
        "errors",
        "settings",
        "report",
        "orchestration",
        "component",
        "project",
        "probe",
        "doctor",
    },
    "simulator": set(),
}
HAS_ALONE: dict[str, set[str]] = {
    "httpx": {"api"},
    "tenacity": {"api"},
    "pyrate_limiter": {"api"},
    "psycopg": {"api", "warehouse"},
    "duckdb": {"warehouse"},
    "jinja2": {"report"},
    "plotly": {"report"},
    "starlette": {"simulator"},
    "uvicorn": {"simulator"},
    "dagster": {
        "settings",
        "scaffold",
        "orchestration",
        "component",
        "project",
        "definitions",
        "launch",
    },
    "dagster_duckdb": {"orchestration"},
    "dagster_shared": {"orchestration"},
}
# Where SQL may stand: a statement is recognised by how it begins.
# The pace that machines share is one statement, and no table of the warehouse.
MAY_SPEAK_SQL = {"warehouse", "checks", "report", "pace_postgres"}
STATEMENTS = ("SELECT ", "INSERT INTO ", "DELETE FROM ", "UPDATE ", "CREATE ", "ALTER ", "FROM ")

FILES = sorted(HOUSE.rglob("*.py"))


def room_of(path: Path) -> str:
    """The folder a file belongs to, or its own name when it stands on top."""
    place = path.relative_to(HOUSE)
    return place.parts[0] if len(place.parts) > 1 else place.stem


def imports_of(path: Path) -> set[str]:
    """Every module a file imports, anywhere in it."""
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


def texts_of(path: Path) -> list[str]:
    """Every text in a file that is no docstring."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]


def test_every_file_stands_in_a_room_that_has_a_rule() -> None:
    assert {room_of(path) for path in FILES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    room, imports = room_of(path), imports_of(path)
    own = {name.split(".")[1] for name in imports if name.startswith("dixa_assets.")}
    assert own <= {room, *MAY_IMPORT.get(room, set())}
    roots = {name.partition(".")[0] for name in imports}
    assert [root for root in roots if room not in HAS_ALONE.get(root, {room})] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_sql_stands_only_where_it_may(path: Path) -> None:
    statements = [text for text in texts_of(path) if text.lstrip().startswith(STATEMENTS)]
    assert {room_of(path), path.stem} & MAY_SPEAK_SQL or statements == []


@pytest.mark.parametrize(
    ("room", "unwanted"),
    [
        ("model", {"httpx", "duckdb", "dagster", "pandas"}),
        ("api", {"duckdb", "dagster", "pandas"}),
        ("warehouse", {"httpx", "dagster", "pandas"}),
        ("checks", {"httpx", "dagster", "pandas"}),
        ("load", {"dagster", "pandas"}),
        ("orchestration", {"pandas", "plotly", "jinja2"}),
    ],
)
def test_importing_a_room_loads_no_more_than_it_needs(room: str, unwanted: set[str]) -> None:
    modules = [f"dixa_assets.{room}.{path.stem}" for path in (HOUSE / room).glob("[a-z]*.py")]
    loaded = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    )
    assert unwanted & set(done.stdout.split()) == set()
