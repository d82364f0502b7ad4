"""The pages name files that exist, and are readable."""

import re
from pathlib import Path

import pytest

from dixa_assets_tests.support.processes import PROJECT

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
FOLDERS = ("dixa_assets", "dixa_assets_tests", "docs", "deploy", ".ci")
FILES = {
    f"/{path.relative_to(PROJECT)}"
    for place in (PROJECT.glob("*"), *((PROJECT / name).rglob("*") for name in FOLDERS))
    for path in place
    if path.is_file()
}
FILE = re.compile(r"(?<![\w./*])[\w./@-]+\.(?:py|md|yaml|toml|txt|sql|example|service)\b(?!\()")
FOLDER = re.compile(rf"`((?:{'|'.join(map(re.escape, FOLDERS))})/[\w./@-]*)`")
# Commands in the pages write these files.
WRITTEN_BY_COMMANDS = {
    "probe.md",
    "sources.yml",
    "catalogue.json",
    ".venv/pins.txt",
    "deploy/pins.txt",
}
README_WORDS = 2_400

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pages
def test_every_file_that_a_page_names_exists(page: Path) -> None:
    text = re.sub(r"https?://[^\s)]+", "", page.read_text())
    named = {name.removeprefix("../") for name in FILE.findall(text)} - WRITTEN_BY_COMMANDS
    # An absolute path is a file of the installed system.
    named = {name for name in named if not name.startswith("/")}
    # A page may name a file by the end of its path.
    ends = {path[start.start() :] for path in FILES for start in re.finditer("/", path)}
    assert {name for name in named if f"/{name}" not in ends} == set()
    assert {name for name in FOLDER.findall(text) if not (PROJECT / name).exists()} == set()


def test_the_tree_for_developers_has_every_folder_and_file_of_the_top_level() -> None:
    tree = (PROJECT / "docs" / "development.md").read_text().partition("\ndixa_assets/\n")[2]
    named = re.findall(r"^  ([\w.]+)/? ", tree.partition("```")[0], re.MULTILINE)
    there = {
        path.name
        for path in (PROJECT / "dixa_assets").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert {*named} == there - {"__init__.py"}


@pages
def test_no_page_has_a_text_with_one_letter_per_line(page: Path) -> None:
    assert not re.search(r"^\w\n\w\n\w$", page.read_text(), re.MULTILINE)


def test_the_readme_takes_ten_minutes_to_read() -> None:
    assert len((PROJECT / "README.md").read_text().split()) <= README_WORDS
