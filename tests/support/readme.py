"""README as its tests read it: its text, and the tables of its chapters."""

import dataclasses
import re
from pathlib import Path
from typing import TypeAlias

#: Its text.
README = Path(__file__).parents[2].joinpath("README.md").read_text(encoding="utf-8")

Row: TypeAlias = list[str]

_CODE = re.compile(r"`([^`]+)`")


@dataclasses.dataclass
class Table:
    """A table of README, and the third-level heading above it."""

    section: str
    head: Row
    rows: list[Row]

    @property
    def name(self) -> str:
        """What it is about: the code in its head, or else its section."""
        return code_in(self.head[0])[0] if code_in(self.head[0]) else self.section


def tables(markdown: str, chapter: str) -> list[Table]:
    """The tables of one second-level chapter."""
    text = re.split(r"^## ", markdown, flags=re.MULTILINE)
    found: list[Table] = []
    section, before = "", ""
    for line in next(part for part in text if part.startswith(chapter + "\n")).splitlines():
        if line.startswith("### "):
            section = line.removeprefix("### ").strip()
        elif line.startswith("|"):
            row = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not before.startswith("|"):
                found.append(Table(section, row, []))
            elif set(line) - set("|-"):
                found[-1].rows.append(row)
        before = line
    return found


def code_in(cell: str) -> list[str]:
    """What is set as code."""
    return _CODE.findall(cell)
