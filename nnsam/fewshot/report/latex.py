"""A report as a LaTeX document; its tables can be copied into a paper (booktabs)."""

import re
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

_PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,margin=2cm]{geometry}
\usepackage{booktabs,graphicx,longtable,textcomp}
% Keeps small tables as they are and shrinks wide ones to the line.
\newsavebox{\nnsambox}
\newcommand{\fitline}[1]{\sbox{\nnsambox}{#1}\ifdim\wd\nnsambox>\linewidth
  \resizebox{\linewidth}{!}{\usebox{\nnsambox}}\else\usebox{\nnsambox}\fi}
\begin{document}
"""
# A table of more rows does not fit a page.
_LONG = 45
_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{MINUS SIGN}": r"$-$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "\N{EN DASH}": "--",
    "…": r"\ldots{}",
}
_LEVELS = {1: "section*", 2: "subsection*", 3: "subsubsection*"}


def to_latex(blocks: Sequence[Block]) -> str:
    """The report as text; pictures are included from figures/<name>, folded listings are left out."""
    return _PREAMBLE + "\n\n".join(_block(block) for block in blocks) + "\n\\end{document}\n"


def _block(block: Block) -> str:
    if isinstance(block, Heading):
        return f"\\{_LEVELS[block.level]}{{{escape(block.text)}}}"
    if isinstance(block, Paragraph):
        return r"\textbf{Warning.} " * block.is_warning + escape(block.text)
    if isinstance(block, Items):
        items = "\n".join(rf"\item {escape(text)}" for text in block.texts)
        return f"\\begin{{itemize}}\n{items}\n\\end{{itemize}}"
    if isinstance(block, Table):
        return _long_table(block) if len(block.rows) > _LONG else _table(block)
    if isinstance(block, Picture):
        return (
            "\\begin{figure}[htbp]\n\\centering\n"
            f"\\includegraphics[width=\\linewidth,height=0.85\\textheight,keepaspectratio]{{figures/{block.file.name}}}"
            f"\n\\caption{{{escape(block.caption)}}}\n\\end{{figure}}"
        )
    return _listing(block)


def _columns(table: Table) -> str:
    return "l" * table.labels + "r" * (len(table.columns) - table.labels)


def _table(table: Table) -> str:
    header = " & ".join(escape(column) for column in table.columns)
    return (
        f"\\begin{{table}}[htbp]\n\\centering\n\\caption{{{escape(table.caption)}}}\n"
        f"\\fitline{{\\begin{{tabular}}{{{_columns(table)}}}\n\\toprule\n{header} \\\\\n\\midrule\n"
        f"{_rows(table)}\n\\bottomrule\n\\end{{tabular}}}}\n{_notes(table)}\\end{{table}}"
    )


def _long_table(table: Table) -> str:
    header = " & ".join(escape(column) for column in table.columns)
    return (
        f"{{\\scriptsize\\begin{{longtable}}{{{_columns(table)}}}\n\\caption{{{escape(table.caption)}}} \\\\\n"
        f"\\toprule\n{header} \\\\\n\\midrule\n\\endhead\n{_rows(table)}\n\\bottomrule\n\\end{{longtable}}}}\n"
        f"{_notes(table)}"
    )


def _rows(table: Table) -> str:
    lines = []
    for index, row in enumerate(table.rows):
        if index and row[0].text and any(not other[0].text for other in table.rows):
            lines.append(r"\midrule")
        lines.append(" & ".join(_cell(cell) for cell in row) + r" \\")
    return "\n".join(lines)


def _cell(cell: TableCell) -> str:
    # "[" at the start of a row would be taken for an option of the row before.
    text = escape(cell.text)
    text = f"{{{text}}}" if text.startswith("[") else text
    return f"\\textbf{{{text}}}" if cell.is_bold else text


def _notes(table: Table) -> str:
    return "".join(f"\n\\par\\smallskip{{\\footnotesize {escape(note)}}}" for note in table.notes) + "\n"


def _listing(block: Listing) -> str:
    if block.is_folded:
        return f"{escape(block.title)}: {len(block.lines)} lines, see report.html or report.md."
    lines = "\n".join(rf"\texttt{{{_signs(line)}}}\\" for line in block.lines if line.strip())
    return f"\\noindent {escape(block.title)}:\n\n{{\\raggedright\\footnotesize\\noindent\n{lines}\n\\par}}"


def escape(text: str) -> str:
    """Text for LaTeX; signs that a font may lack become a question mark rather than an error."""
    parts = split_code(" ".join(text.split()))
    return "".join(rf"\texttt{{{_signs(part)}}}" if is_code else _signs(part) for part, is_code in parts)


def _signs(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9 ]", lambda match: _sign(match[0]), text)


def _sign(sign: str) -> str:
    # Latin-1's letters are what inputenc and T1 surely have.
    return _SIGNS.get(sign, sign if ord(sign) < 0x180 else "?")
