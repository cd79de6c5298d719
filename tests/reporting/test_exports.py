"""Tables in every format, with texts that each of them reads in its own way."""

import csv
import json

import pytest

from vlalign.errors import VlalignError
from vlalign.reporting.cells import Cell, Row, Table
from vlalign.reporting.exports import FORMATS, escaped, show, write_all, write_table

NAME = r"50% of_#1 & {x} $y ~ ^ \ < > | `z` [/red] [bold]"
RECORDS = [{"model": NAME, "value": 0.1 + 0.2, "low": None}, {"model": 'b, "quoted"', "value": -1.0, "low": 0}]
TABLE = Table(
    "mine",
    "Mine & yours",
    "A caption with 95 % and a file [/of/a/place].",
    ("model", "a_1", "b"),
    (
        Row(NAME, (Cell("−0.3", "[−0.4, 0.1]", "worse"), Cell("–"))),
        Row("chance", (Cell("1"), Cell("2")), kind="chance"),
    ),
    RECORDS,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a_b & 5 %", r"a\_b \& 5 \%"),
        ("$#{}", r"\$\#\{\}"),
        ("\\", r"\textbackslash{}"),
        ("~^`", r"\textasciitilde{}\textasciicircum{}\textasciigrave{}"),
        ("<|>", "$<$$|$$>$"),
        ("−1 ± 2 → 3 – 4 × 5", r"$-$1 $\pm$ 2 $\to$ 3 -- 4 $\times$ 5"),
        ("Zürich, 50-100", "Zürich, 50-100"),
    ],
)
def test_latex_prints_a_text_as_it_stands(text, expected):
    assert escaped(text) == expected


def test_every_format_is_written(tmp_path):
    paths = write_all(TABLE, tmp_path)
    assert [path.name for path in paths] == [f"mine{suffix}" for suffix in FORMATS]
    with open(tmp_path / "mine.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["model"], float(row["value"]), row["low"]) for row in rows] == [
        (NAME, 0.1 + 0.2, ""),
        (RECORDS[1]["model"], -1.0, "0"),
    ]
    content = json.loads((tmp_path / "mine.json").read_text())
    assert content == {"title": TABLE.title, "caption": TABLE.caption, "rows": RECORDS}


def test_markdown_has_a_cell_for_each_bar(tmp_path):
    write_table(TABLE, tmp_path / "a.md")
    header, rule, row, chance = (line for line in (tmp_path / "a.md").read_text().splitlines() if line.startswith("|"))
    assert (header, rule) == ("| model | a_1 | b |", "| --- | ---: | ---: |")
    assert row == f"| {NAME.replace('|', chr(92) + '|')} | −0.3 [−0.4, 0.1] | – |"
    assert chance == "| chance | 1 | 2 |"


def test_latex_has_as_many_columns_as_it_says(tmp_path):
    write_table(TABLE, tmp_path / "a.tex")
    text = (tmp_path / "a.tex").read_text()
    assert r"\begin{tabular}{lrr}" in text
    assert r"\caption{Mine \& yours. A caption with 95 \% and a file [/of/a/place].}" in text
    body = text.partition("\\toprule\n")[2].partition("\n\\bottomrule")[0].splitlines()
    rows = [line for line in body if line != r"\midrule"]
    assert rows[0] == r"model & a\_1 & b \\"
    assert rows[1] == rf"{escaped(NAME)} & $-$0.3 [$-$0.4, 0.1] & -- \\"
    assert {line.replace(r"\&", "").count("&") for line in rows} == {2}


def test_what_a_terminal_reads_as_markup_is_shown(capsys):
    show(TABLE)
    printed = capsys.readouterr().out
    assert NAME in printed
    assert "a file [/of/a/place]." in printed
    assert "−0.3 [−0.4, 0.1]" in printed


def test_a_caption_is_not_folded_to_the_width_of_a_narrow_table(capsys):
    """Such as that of a suite on which nothing was measured yet."""
    words = " ".join(["word"] * 40)
    show(Table("narrow", "N", words, ("a",), (), []))
    lines = [line for line in capsys.readouterr().out.splitlines() if "word" in line]
    assert len(lines) == 2
    assert " ".join(" ".join(lines).split()) == words
    assert max(map(len, lines)) > 100


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(VlalignError, match=r"a\.xlsx: tables are written as \.csv, \.json, \.md, \.tex"):
        write_table(TABLE, tmp_path / "a.xlsx")
