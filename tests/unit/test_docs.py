"""Pages say what the code has: generated ones are those of the tables, both languages are equal, every option and name is there."""

import dataclasses
import inspect
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import tersenet
from chinese_reasons import CHINESE
from pages import DOCS, ENGLISH, RUN, blocks, chinese, prose, sections
from source import CHECKOUT
from tersenet import FACE
from tersenet.cli import tersenet_command
from tersenet.targets.table import TARGETS, capabilities

LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)")
PAGES = [page for english in ENGLISH for page in (english, chinese(english))]
BOTH = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
EACH = pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.name)


def test_the_generated_pages_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, CHECKOUT / "scripts" / "docs", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nmake docs writes them anew"


def test_every_sentence_of_the_capability_tables_has_its_chinese_and_no_other() -> None:
    spoken = set()
    for target in TARGETS.values():
        table = capabilities(target)
        spoken |= {*table.reasons.values(), *(kernel.note for kernel in table.kernels.values() if kernel.note)}
    assert set(CHINESE) == spoken
    assert all(re.search(r"[\u4e00-\u9fff]", sentence) for sentence in CHINESE.values())


@EACH
def test_both_languages_have_the_same_sections_and_tables(page: Path) -> None:
    shapes = [[line.split(" ")[0] for line in prose(one).splitlines() if line.startswith(("#", "| "))] for one in (page, chinese(page))]
    assert shapes[0] == shapes[1]


@EACH
def test_both_languages_have_the_same_code(page: Path) -> None:
    assert [(block.language, block.text) for block in blocks(page)] == [(block.language, block.text) for block in blocks(chinese(page))]


@BOTH
def test_blocks_of_code_run_or_say_that_they_do_not(page: Path) -> None:
    languages = [block.language for block in blocks(page)]
    assert set(languages) <= {*RUN, "console"}
    assert languages.count("console") <= 2, "blocks that no test runs are few"


@BOTH
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(prose(page)):
        if target.startswith("http"):
            continue
        found = page.parent / target if target else page
        assert found.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = {"#" + re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in sections(found)}
            assert anchor in titles, f"{page.name} links to {target}{anchor}"


@BOTH
def test_pages_link_to_pages_of_their_own_language(page: Path) -> None:
    in_chinese = page.name.endswith(".zh.md")
    strangers = {target for target, _ in LINK.findall(prose(page)) if target.endswith(".md") and target.endswith(".zh.md") != in_chinese}
    assert strangers <= {"README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md"}


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_the_readme_leads_to_every_page(readme: str) -> None:
    linked = {target for target, _ in LINK.findall((CHECKOUT / readme).read_text(encoding="utf-8"))}
    suffix = ".zh.md" if readme.endswith(".zh.md") else ".md"
    assert {f"docs/{page.name.removesuffix('.md')}{suffix}" for page in ENGLISH if page.parent == DOCS} <= linked


@pytest.mark.parametrize("name", sorted(tersenet_command.commands))
def test_every_option_of_a_command_is_on_its_page(name: str) -> None:
    for page in (DOCS / "commands.md", DOCS / "commands.zh.md"):
        text = sections(page)[f"tersenet {name}"]
        known = {option for parameter in tersenet_command.commands[name].params if isinstance(parameter, click.Option) for option in parameter.opts}
        named = set(re.findall(r"--[a-z][a-z0-9-]*", text))
        assert named == known, f"{page.name}, {name}"


@pytest.mark.parametrize("name", sorted(FACE))
def test_every_name_of_the_face_is_on_its_page_with_its_arguments(name: str) -> None:
    found = getattr(tersenet, name)
    arguments: set[str] = set()
    if dataclasses.is_dataclass(found):
        arguments = {field.name for field in dataclasses.fields(found) if field.init}
    elif not (inspect.isclass(found) and issubclass(found, Exception)):
        arguments = set(inspect.signature(found).parameters)
    for page in (DOCS / "python.md", DOCS / "python.zh.md"):
        words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", sections(page)[name]))))
        assert arguments <= words, f"{page.name}, {name}: {sorted(arguments - words)} missing"


def test_the_page_of_python_has_nothing_that_the_face_lacks() -> None:
    assert set(sections(DOCS / "python.md")) == set(FACE)


@pytest.mark.parametrize("page", [DOCS / "runtimes.md", DOCS / "runtimes.zh.md"], ids=lambda page: page.name)
def test_every_runtime_has_its_row(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in TARGETS.values():
        assert re.search(rf"^\| `{target.name}`.*\| `{re.escape(target.extension)}`", text, re.MULTILINE), target.name
