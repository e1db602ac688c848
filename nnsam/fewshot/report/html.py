"""A report as one HTML file without any link to the outside: styles inside, pictures as data."""

import base64
import html
from collections.abc import Sequence

from nnsam.fewshot.report.document import (
    Block,
    Heading,
    Items,
    Listing,
    Paragraph,
    Picture,
    Table,
    TableCell,
    split_code,
)

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2730; background: #fff; max-width: 1100px; margin: 2rem auto;
  padding: 0 1.2rem; }
h1, h2, h3 { line-height: 1.25; } h2 { margin-top: 2.6rem; border-bottom: 1px solid #d5dde3; padding-bottom: .2rem; }
.table { overflow-x: auto; margin: 1.4rem 0 .4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; border-top: 2px solid #1c2730;
  border-bottom: 2px solid #1c2730; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .22rem .7rem; text-align: right; white-space: nowrap; }
th.l, td.l { text-align: left; }
thead tr { border-bottom: 1px solid #1c2730; }
tr.group { border-top: 1px solid #c3ccd3; }
.notes { font-size: 13px; color: #46545f; margin: .2rem 0 1.6rem; padding-left: 1.1rem; }
.warning { border-left: 4px solid #b4540a; background: #fdf3ea; padding: .6rem .9rem; }
figure { margin: 1.6rem 0; }
figure img { max-width: 100%; height: auto; } figcaption { font-size: 13px; color: #46545f; }
pre { background: #f3f6f8; padding: .7rem .9rem; overflow-x: auto; font-size: 12.5px; }
code { background: #f3f6f8; } summary { cursor: pointer; font-weight: 600; }
@media print { body { max-width: none; } .table { overflow: visible; } }
"""


def to_html(blocks: Sequence[Block]) -> str:
    """The report as text; the pictures are read from their files."""
    title = next((block.text for block in blocks if isinstance(block, Heading)), "Report")
    body = "\n".join(_block(block) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"<h{block.level}>{_inline(block.text)}</h{block.level}>"
    if isinstance(block, Paragraph):
        start = '<p class="warning"><strong>Warning.</strong> ' if block.is_warning else "<p>"
        return f"{start}{_inline(block.text)}</p>"
    if isinstance(block, Items):
        return "<ul>" + "".join(f"<li>{_inline(text)}</li>" for text in block.texts) + "</ul>"
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Picture):
        data = base64.b64encode(block.file.read_bytes()).decode()
        return (
            f'<figure><img alt="{html.escape(block.alternative)}" src="data:image/png;base64,{data}">'
            f"<figcaption>{_inline(block.caption)}</figcaption></figure>"
        )
    return _listing(block)


def _table(table: Table) -> str:
    head = "".join(f"<th{_side(table, index)}>{_inline(text)}</th>" for index, text in enumerate(table.columns))
    is_grouped = any(not row[0].text for row in table.rows)
    rows = []
    for row in table.rows:
        cells = "".join(f"<td{_side(table, index)}>{_cell(cell)}</td>" for index, cell in enumerate(row))
        group = ' class="group"' if is_grouped and row[0].text else ""
        rows.append(f"<tr{group}>{cells}</tr>")
    notes = "".join(f"<li>{_inline(note)}</li>" for note in table.notes)
    return (
        f'<div class="table"><table><caption>{_inline(table.caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>" + (f'<ul class="notes">{notes}</ul>' if notes else "")
    )


def _cell(cell: TableCell) -> str:
    return f"<strong>{_inline(cell.text)}</strong>" if cell.is_bold else _inline(cell.text)


def _side(table: Table, index: int) -> str:
    return ' class="l"' if index < table.labels else ""


def _listing(block: Listing) -> str:
    code = f"<pre>{html.escape(chr(10).join(block.lines))}</pre>"
    if block.is_folded:
        return f"<details><summary>{_inline(block.title)}</summary>{code}</details>"
    return f"<p>{_inline(block.title)}:</p>{code}"


def _inline(text: str) -> str:
    return "".join(
        f"<code>{html.escape(part)}</code>" if is_code else html.escape(part) for part, is_code in split_code(text)
    )
