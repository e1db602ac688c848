"""Markdown, LaTeX and HTML of every kind of block, with text that has to be escaped."""

import re

import numpy as np
import pytest
from helpers.report_checks import Links, latex_errors
from hypothesis import given
from hypothesis import strategies as st

from nnsam.fewshot.report.figures import Picture
from nnsam.fewshot.report.rendering import HTML, LATEX, MARKDOWN, environment, inline
from nnsam.fewshot.report.tables import Bold, Table
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


DOCUMENT = """
{{ write.begin("Title " ~ nasty) }}
{{ write.heading(1, "Title " ~ nasty) }}
{% call write.paragraph() %}{{ nasty }}{% endcall %}
{% call write.warning() %}Beware of `code_x` and {{ nasty }}{% endcall %}
{{ write.items([nasty, "second"]) }}
{{ write.table(table) }}
{{ write.table(long) }}
{{ write.picture(picture) }}
{{ write.listing("Commands", ["a --b `c` | d_e & f", "", "$x"]) }}
{{ write.listing("All", ["one", "two"], folded=True) }}
{{ write.end() }}
"""


@pytest.fixture
def write(tmp_path):
    write_png(tmp_path / "curve_dice.png", (1 - np.eye(4)).astype("uint8"))
    rows = ("m_1", "Dice (%)", Bold("93.75 ± 5.35"), "[1, 2]"), ("", "ASD", NASTY, "-")
    content = {
        "nasty": NASTY,
        "table": Table(f"Caption {NASTY}", ("Method", "Metric", "n = 4", NASTY), rows, (NASTY,)),
        "long": Table("Long", ("a", "b", "c"), tuple((str(index), "", "[x]") for index in range(60))),
        "picture": Picture(tmp_path / "curve_dice.png", NASTY, NASTY),
    }
    return lambda form: environment(form).from_string(DOCUMENT).render(content)


def test_latex_would_compile(write):
    text = write(LATEX)
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
    assert latex_errors(inline(text, LATEX)) == []


def test_html_is_whole_and_links_nowhere(write):
    text = write(HTML)
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


def test_markdown_tables_have_equal_columns(write):
    text = write(MARKDOWN)
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
    text = environment(MARKDOWN).from_string('{{ write.listing("x", ["a ``` b"]) }}').render()
    assert "\n````\na ``` b\n````" in text


def test_a_row_of_the_wrong_length_is_a_defect():
    with pytest.raises(AssertionError, match="2"):
        Table("", ("a", "b", "c"), (("1", "2"),))
