"""What the documentation says is there: commands, options, settings, make targets, files."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from flows.cli import app
from flows.settings import SiteSettings
from ispyb_io.rights import written_tables
from ssx_processing.settings import ProcessingSettings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
REFERENCE = (ROOT / "docs/reference/cli.md").read_text()
SSX = typer.main.get_command(app)


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Names and commands below a command; a group of commands has ``commands``."""
    below = getattr(command, "commands", {})
    for word, found in below.items():
        yield from commands(found, f"{name} {word}")
    if not below or command.invoke_without_command:
        yield name, command


COMMANDS = dict(commands(SSX, "ssx"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_reference_and_has_help(name: str):
    assert f"`{name}" in REFERENCE
    assert COMMANDS[name].help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_in_the_reference(name: str):
    options = [
        option for parameter in COMMANDS[name].params for option in parameter.opts if option[:2] == "--"
    ]
    assert [option for option in options if option not in REFERENCE] == []


@pytest.mark.parametrize("table", [table.name for table in written_tables()])
def test_every_table_that_is_written_is_among_the_rights_to_ask_for(table: str):
    assert re.search(rf"\b{table}\b", (ROOT / "docs/how-to/connect-ispyb.md").read_text())


@pytest.mark.parametrize("name", SiteSettings.model_fields)
def test_every_setting_of_a_site_is_in_the_reference(name: str):
    assert f"`SSX_{name.upper()}`" in REFERENCE


def shown_commands(page: Path) -> Iterator[list[str]]:
    """Command lines of ``ssx`` in blocks and in code within the text."""
    text = page.read_text()
    pieces = [line for line in text.splitlines() if line.startswith("    ")] + re.findall(
        r"`([^`\n]+)`", text
    )
    for piece in pieces:
        found = re.match(r"\s*(?:[A-Z_]+=\S+ )*(?:uv run )?(?:\.venv/bin/)?ssx ([a-z-].*)", piece)
        if found:
            words = found[1].replace("\\|", "|")
            yield shlex.split(re.sub(r"^--proposal( \S+)?", "", words), comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_line_shown_can_be_given(page: Path):
    for words in shown_commands(page):
        words = [word for word in words if word not in ("--debug", "COMMAND", "--help")]
        name = next((n for n in COMMANDS if f"ssx {' '.join(words)} ".startswith(f"{n} ")), None)
        assert name is not None or not words, f"{page.name}: ssx {' '.join(words)}"
        if name is not None:
            known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
            assert {word for word in words if word.startswith("--")} <= known, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_shown_exists(page: Path):
    defaults = ProcessingSettings.model_fields
    for name in re.findall(r"--set ([a-z_.]+)=|`([a-z_]+\.[a-z_]+)=", page.read_text()):
        section, _, setting = "".join(name).partition(".")
        assert section in defaults, name
        if setting:
            assert setting in defaults[section].default.__class__.model_fields, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path):
    links = re.findall(r"\]\(([^)#:\s]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_shown_exists(page: Path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = re.findall(r"(?:^    |`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    assert set(shown) <= targets


def test_the_readme_tells_in_the_order_of_a_newcomers_questions():
    headings = re.findall(r"^## (.+)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert headings == [
        "Two commands",
        "Your own data",
        "Where results are",
        "How it is built",
        "Read on",
    ]


def test_every_page_of_the_documentation_is_reached_from_its_index():
    seen: set[Path] = set()
    waiting = [ROOT / "docs/index.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in seen or not page.is_file():
            continue
        seen.add(page)
        waiting += [page.parent / link for link in re.findall(r"\]\(([^)#:\s]+\.md)\)", page.read_text())]
    decisions = ROOT / "docs/explanations/decisions"
    pages = [page for page in PAGES if page.is_relative_to(ROOT / "docs") and page.parent != decisions]
    assert [page for page in pages if page.resolve() not in seen] == []
