"""A report as GitHub's Markdown."""

import re
from collections.abc import Sequence

from nnsam.fewshot.report.document import Block, Heading, Items, Listing, Paragraph, Picture, Table, split_code

_SPECIAL = re.compile(r"([\\*_\[\]<>|~#])")


def to_markdown(blocks: Sequence[Block]) -> str:
    """The report as text; pictures are linked as figures/<name>."""
    return "\n\n".join(_block(block) for block in blocks) + "\n"


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {_inline(block.text)}"
    if isinstance(block, Paragraph):
        return f"> **Warning.** {_inline(block.text)}" if block.is_warning else _inline(block.text)
    if isinstance(block, Items):
        return "\n".join(f"- {_inline(text)}" for text in block.texts)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Picture):
        return f"![{_inline(block.alternative)}](figures/{block.file.name})\n\n*{_inline(block.caption)}*"
    return _listing(block)


def _table(table: Table) -> str:
    lines = [
        _line([_inline(column) for column in table.columns]),
        _line(["---" if index < table.labels else "---:" for index in range(len(table.columns))]),
    ]
    for row in table.rows:
        lines.append(_line([f"**{_inline(cell.text)}**" if cell.is_bold else _inline(cell.text) for cell in row]))
    notes = "".join(f"\n- {_inline(note)}" for note in table.notes)
    return f"**{_inline(table.caption)}**\n\n" + "\n".join(lines) + (f"\n{notes}" if notes else "")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _listing(block: Listing) -> str:
    # A fence longer than any run of backticks in the lines.
    longest = max((len(run) for line in block.lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    code = "\n".join([fence, *block.lines, fence])
    if block.is_folded:
        return f"<details><summary>{_inline(block.title)}</summary>\n\n{code}\n\n</details>"
    return f"{_inline(block.title)}:\n\n{code}"


def _inline(text: str) -> str:
    """Escapes text; a line break would end a table's row or a heading."""
    flat = " ".join(text.split())
    return "".join(
        f"`{part.replace('|', chr(92) + '|')}`" if is_code else _SPECIAL.sub(r"\\\1", part)
        for part, is_code in split_code(flat)
    )
