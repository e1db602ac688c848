"""A report as a list of blocks, which Markdown, LaTeX and HTML each write in their way.

Text is plain Unicode; words between backticks are code. The writers escape everything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Heading:
    """A heading of level 1 (title), 2 or 3."""

    level: int
    text: str


@dataclass(frozen=True)
class Paragraph:
    """Text; with `is_warning` it stands out."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Items:
    """A bulleted list."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class TableCell:
    """Text of a table, bold or not."""

    text: str
    is_bold: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: above it.
        columns: headings; the first `labels` columns are text, the others numbers.
        rows: as many cells each as there are columns. An empty first cell repeats the one above.
        notes: below it.
        labels: number of leading text columns.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[TableCell, ...], ...]
    notes: tuple[str, ...] = ()
    labels: int = 2

    def __post_init__(self) -> None:
        wrong = [len(row) for row in self.rows if len(row) != len(self.columns)]
        assert not wrong, f"rows of {wrong} cells in a table of {len(self.columns)} columns"


@dataclass(frozen=True)
class Picture:
    """A PNG in the report's folder of figures.

    Attributes:
        file: the PNG.
        caption: below it.
        alternative: what it shows, for those who cannot see it.
    """

    file: Path
    caption: str
    alternative: str


@dataclass(frozen=True)
class Listing:
    """Lines to copy, such as commands.

    Attributes:
        title: above it.
        lines: as they are.
        is_folded: long: shown on demand where the format can.
    """

    title: str
    lines: tuple[str, ...]
    is_folded: bool = False


Block = Heading | Paragraph | Items | Table | Picture | Listing


def make_row(values: Sequence[str | TableCell]) -> tuple[TableCell, ...]:
    """A row of cells; strings become plain ones."""
    return tuple(value if isinstance(value, TableCell) else TableCell(value) for value in values)


def split_code(text: str) -> list[tuple[str, bool]]:
    """Splits text at backticks into (part, is code)."""
    return [(part, index % 2 == 1) for index, part in enumerate(text.split("`")) if part]
