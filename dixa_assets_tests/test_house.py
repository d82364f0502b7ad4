"""The structure of the code: who imports whom, where SQL is, and how long and plain files are."""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Set
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import dixa_assets
from dixa_assets_tests.support.processes import PROJECT

HOUSE = Path(dixa_assets.__file__).parent
FILES = sorted(HOUSE.rglob("*.py"))
# With tests, benchmarks and the scripts of docs/.
ALL_FILES = sorted(
    {*FILES, *(PROJECT / "dixa_assets_tests").rglob("*.py"), *PROJECT.glob("docs/*.py")}
)

# The folders and the files on top, from the bottom up, with the others that each may import.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "zones": set(),
    "simulator": set(),
    "definitions": set(),
    "model": {"errors"},
    "files": {"errors"},
    "staging": {"errors", "files", "model"},
    "settings": {"errors", "model"},
    "scaffold": {"settings"},
    "api": {"errors", "files", "model", "staging"},
    "warehouse": {"errors", "files", "zones", "model", "staging"},
    "checks": {"errors", "model", "warehouse"},
    "load": {"errors", "model", "staging", "api", "warehouse"},
    "marts": {"model", "warehouse"},
    "report": {"errors", "files", "model", "warehouse", "checks"},
    "orchestration": {
        *("errors", "files", "settings", "model", "api", "warehouse", "checks", "load"),
        *("marts", "report"),
    },
    "component": {
        *("errors", "scaffold", "settings", "model", "api", "warehouse", "orchestration"),
    },
    "project": {"errors", "settings", "model", "warehouse", "orchestration", "component"},
    "reader": {"errors", "settings", "model", "warehouse", "component", "project"},
    "__init__": {"zones", "reader"},
    "probe": {"errors", "files", "model", "api", "orchestration", "component", "project"},
    "forget": {"errors", "model", "warehouse", "component", "project"},
    "doctor": {
        *("errors", "files", "zones", "settings", "model", "api", "warehouse"),
        *("orchestration", "component", "project", "forget"),
    },
    "launch": {
        *("errors", "files", "zones", "settings", "model", "orchestration", "component"),
        "project",
    },
    "__main__": {
        *("errors", "settings", "marts", "report", "orchestration", "component", "project"),
        *("probe", "doctor", "forget"),
    },
}
# The places that may import a package of others. Any place may import a package not named here.
USERS: dict[str, set[str]] = {
    "httpx": {"api"},
    "tenacity": {"api"},
    "pyrate_limiter": {"api"},
    "psycopg": {"api", "warehouse"},
    "duckdb": {"warehouse"},
    "jinja2": {"report"},
    "starlette": {"simulator"},
    "uvicorn": {"simulator"},
    "dagster": {
        *("settings", "scaffold", "orchestration", "component", "project", "definitions"),
        "launch",
    },
    "dagster_duckdb": {"orchestration"},
    "dagster_shared": {"orchestration"},
}
# `api/pace_postgres.py` has one statement, about no table of the warehouse.
MAY_HAVE_SQL = {"warehouse", "checks", "marts", "report", "pace_postgres"}
STATEMENTS = ("SELECT ", "INSERT INTO ", "DELETE FROM ", "UPDATE ", "CREATE ", "ALTER ", "FROM ")

MODULE_LINES, COMPONENT_LINES, FUNCTION_LINES, COLUMNS = 400, 350, 60, 100
NOT_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT),
    tokenize.ENDMARKER,
}
INDIRECT = re.compile(r"(Of|Those|So|What|Who|Nor|Whoever)\b")
FORMATTER_OFF = "fmt: " + "skip"
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def place_of(path: Path) -> str:
    """The folder of a file; a file on top is a place of its own."""
    parts = path.relative_to(HOUSE).with_suffix("").parts
    return parts[0]


def module_of(path: Path) -> str:
    parts = path.relative_to(HOUSE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in FILES}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports_of(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            # `from folder import module` imports a module, any other form a name of the folder.
            found |= {name if name in MODULES else str(node.module) for name in names}
    return found


def docstrings_of(path: Path) -> Iterator[tuple[ast.AST, ast.Constant]]:
    """Each documented module, class or function with its docstring."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, Documented) and ast.get_docstring(node) is not None:
            yield node, node.body[0].value  # type: ignore[attr-defined]


def tokens_of(path: Path) -> list[tokenize.TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(path.read_text()).readline))


def long_functions(path: Path) -> Iterator[str]:
    """Functions with too many lines, without docstring, comments and blank lines."""
    code = {
        line
        for token in tokens_of(path)
        if token.type not in NOT_CODE
        for line in range(token.start[0], token.end[0] + 1)
    }
    for _, text in docstrings_of(path):
        code -= {*range(text.lineno, (text.end_lineno or 0) + 1)}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = len(code & {*range(node.lineno, (node.end_lineno or 0) + 1)})
            if lines > FUNCTION_LINES:
                yield f"{name_of(path)}: {node.name} has {lines} lines"


def comments_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each comment; a comment of several lines is one."""
    last = 0
    for token in tokens_of(path):
        if token.type == tokenize.COMMENT:
            line, is_alone = token.start[0], token.line.lstrip().startswith("#")
            if not (is_alone and last == line - 1):
                yield line, token.string.lstrip("#: ")
            last = line if is_alone else 0


def test_each_folder_has_one_rule_which_allows_imports_from_below_only() -> None:
    assert {place_of(path) for path in FILES} == set(MAY_IMPORT)
    below: set[str] = set()
    for place, others in MAY_IMPORT.items():
        assert others <= below, place
        below.add(place)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_only_what_its_folder_may(path: Path) -> None:
    place, imports = place_of(path), imports_of(path)
    own = {name.split(".")[1] for name in imports if name.startswith("dixa_assets.")}
    assert own <= {place, *MAY_IMPORT[place]}
    roots = {name.partition(".")[0] for name in imports}
    assert [root for root in roots if place not in USERS.get(root, {place})] == []


def test_no_modules_import_each_other() -> None:
    graph = {module: imports_of(path) & MODULES.keys() for module, path in MODULES.items()}
    assert graph["dixa_assets.component"] > {"dixa_assets.orchestration.build"}
    # It raises an error that names the circle.
    TopologicalSorter(graph).prepare()


def test_sql_stands_only_where_it_may() -> None:
    for path in FILES:
        if not {place_of(path), path.stem} & MAY_HAVE_SQL:
            documentation = {id(text) for _, text in docstrings_of(path)}
            texts = [
                node.value.lstrip()
                for node in ast.walk(tree_of(path))
                if isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in documentation
            ]
            assert [text for text in texts if text.startswith(STATEMENTS)] == [], name_of(path)


@pytest.mark.parametrize(
    ("folder", "unwanted"),
    [
        ("model", {"httpx", "duckdb", "dagster", "pandas"}),
        ("api", {"duckdb", "dagster", "pandas"}),
        ("warehouse", {"httpx", "dagster", "pandas"}),
        ("checks", {"httpx", "dagster", "pandas"}),
        ("load", {"dagster", "pandas"}),
        ("marts", {"httpx", "dagster", "pandas"}),
        ("orchestration", {"httpx", "pandas", "jinja2", "sqlalchemy"}),
    ],
)
def test_importing_a_folder_loads_no_more_than_it_needs(folder: str, unwanted: Set[str]) -> None:
    modules = [name for name in MODULES if name.startswith(f"dixa_assets.{folder}.")]
    loaded = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", loaded], capture_output=True, text=True, check=True
    )
    assert unwanted & set(done.stdout.split()) == set()


def test_no_module_and_no_function_is_long() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in FILES}
    assert {name: lines for name, lines in lengths.items() if lines > MODULE_LINES} == {}
    assert lengths["dixa_assets/component.py"] <= COMPONENT_LINES
    assert [each for path in ALL_FILES for each in long_functions(path)] == []


def test_the_formatter_may_format_every_line_and_none_is_wide() -> None:
    lines = [
        (f"{name_of(path)}:{number}", line)
        for path in ALL_FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
    ]
    assert [place for place, line in lines if FORMATTER_OFF in line] == []
    assert [place for place, line in lines if len(line) > COLUMNS] == []


def test_docstrings_and_comments_begin_with_their_subject() -> None:
    texts = [
        (f"{name_of(path)}:{line}", text)
        for path in ALL_FILES
        for line, text in (
            *comments_of(path),
            *((node.lineno, str(node.value)) for _, node in docstrings_of(path)),
        )
    ]
    assert [place for place, text in texts if INDIRECT.match(text)] == []
