"""The pages that users read, and the blocks of code in them; shared by the tests that compare and that run them."""

import re
from dataclasses import dataclass
from pathlib import Path

from source import CHECKOUT

DOCS = CHECKOUT / "docs"
ENGLISH = [CHECKOUT / "README.md", *sorted(path for path in DOCS.glob("*.md") if not path.name.endswith(".zh.md"))]
RUN = ("bash", "python")  # blocks that run; console blocks are shown only
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and what stands in it."""

    language: str
    text: str
    line: int


def chinese(page: Path) -> Path:
    """The same page in Chinese."""
    return page.with_name(f"{page.stem}.zh.md")


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(found["language"], found["text"], text.count("\n", 0, found.start()) + 1) for found in _FENCE.finditer(text)]


def sections(page: Path) -> dict[str, str]:
    """Title of each second-level section -> its text."""
    parts = re.split(r"^## (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))
