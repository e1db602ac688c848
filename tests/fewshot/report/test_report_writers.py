"""Markdown, LaTeX and HTML of every kind of block, with text that has to be escaped."""

import re

import pytest
from helpers.report_checks import Links, latex_errors
from hypothesis import given
from hypothesis import strategies as st

from nnsam.fewshot.report.document import Heading, Items, Listing, Paragraph, Picture, Table, TableCell, make_row
from nnsam.fewshot.report.html import to_html
from nnsam.fewshot.report.latex import escape, to_latex
from nnsam.fewshot.report.markdown import to_markdown
from nnsam.io.writing import write_png

NASTY = '50 % of a_b & <c> | $d$ {e} #f ~ ^ \\ *g* [h] "i" ± † −1'  # noqa: RUF001


@pytest.mark.parametrize(
    "text",
    [
        r"\textbf{a",
        "a}",
        r"\begin{table}\end{figure}",
        "50 % of",
        "a_b",
        r"\begin{tabular}{lr}a & b & c \\\end{tabular}",
        r"\begin{tabular}{lr}a \\\end{tabular}",
    ],
)
def test_the_check_of_latex_finds_what_is_wrong(text):
    assert latex_errors(text)


@pytest.fixture
def blocks(tmp_path):
    write_png(tmp_path / "curve_dice.png", (1 - make_square()).astype("uint8"))
    row = make_row(["m_1", "Dice (%)", TableCell("93.75 ± 5.35", True), "[1, 2]"])
    return [
        Heading(1, f"Title {NASTY}"),
        Paragraph(NASTY),
        Paragraph(f"Beware of `code_x` and {NASTY}", is_warning=True),
        Items((NASTY, "second")),
        Table(
            f"Caption {NASTY}", ("Method", "Metric", "n = 4", NASTY), (row, make_row(["", "ASD", NASTY, "-"])), (NASTY,)
        ),
        Table("Long", ("a", "b", "c"), tuple(make_row([str(i), "", "[x]"]) for i in range(60))),
        Picture(tmp_path / "curve_dice.png", NASTY, NASTY),
        Listing("Commands", ("a --b `c` | d_e & f", "", "$x")),
        Listing("All", ("one", "two"), is_folded=True),
    ]


def make_square():
    import numpy as np

    return np.eye(4)


def test_latex_would_compile(blocks):
    text = to_latex(blocks)
    assert latex_errors(text) == []
    assert r"\usepackage{booktabs,graphicx,longtable,textcomp}" in text
    assert r"\textbf{93.75 $\pm$ 5.35}" in text
    assert r"\toprule" in text
    assert r"\bottomrule" in text
    assert text.count(r"\begin{longtable}") == 1
    assert r"\midrule" + "\n &" not in text
    assert "All: 2 lines" in text


@given(st.text())
def test_any_text_becomes_harmless_latex(text):
    assert latex_errors(escape(text)) == []


def test_html_is_whole_and_links_nowhere(blocks):
    text = to_html(blocks)
    parser = Links()
    parser.feed(text)
    assert parser.open == []
    assert len(parser.links) == 1
    assert parser.links[0].startswith("data:image/png;base64,")
    assert parser.rows == [4] * 3 + [3] * 61
    assert parser.text.count(NASTY) == 10  # the picture's alternative is no text
    assert "url(" not in text
    assert "@import" not in text
    assert "<script" not in text
    assert "<strong>93.75 ± 5.35</strong>" in text


def test_markdown_tables_have_equal_columns(blocks):
    text = to_markdown(blocks)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    counts = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert counts == [5] * 4 + [4] * 62
    assert "![" in text
    assert "](figures/curve_dice.png)" in text
    assert "**93.75 ± 5.35**" in text
    assert r"\<c\>" in text
    assert "<details>" in text
    assert "> **Warning.** Beware of `code_x`" in text


def test_a_fence_is_longer_than_the_backticks_inside():
    text = to_markdown([Listing("x", ("a ``` b",))])
    assert "\n````\na ``` b\n````" in text


def test_a_row_of_the_wrong_length_is_a_defect():
    with pytest.raises(AssertionError, match="2"):
        Table("", ("a", "b", "c"), (make_row(["1", "2"]),))
