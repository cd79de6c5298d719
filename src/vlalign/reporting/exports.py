"""Tables on the terminal and as files: CSV and JSON unrounded, Markdown, and LaTeX for papers."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table as RichTable
from rich.text import Text

from vlalign.console import terminal
from vlalign.errors import VlalignError
from vlalign.files import json_text, write_text
from vlalign.reporting.cells import Cell, Table

# Of cells, on a terminal.
COLOURS = {"better": "blue", "worse": "dark_orange", "noise": "dim", "chance": "dim"}

# Characters of a line of prose, at most.
READABLE = 110

# Of LaTeX, outside of mathematics.
ESCAPED = {character: f"\\{character}" for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "−": "$-$",
    "→": r"$\to$",
    "–": "--",
    "×": r"$\times$",
}


def markdown(table: Table) -> str:
    """A heading, the table with its numbers to the right, and its caption."""
    lines = [_line(table.header), _line(["---", *["---:"] * (len(table.header) - 1)])]
    lines += [_line([row.name, *map(_text, row.cells)]) for row in table.rows]
    return "\n".join([f"### {table.title}", "", *lines, "", table.caption, ""])


def latex(table: Table) -> str:
    """A `table` environment that needs the package booktabs."""
    width = len(table.header) - 1
    lines = [_columns(table.header), r"\midrule"]
    lines += [_columns([row.name, *map(_text, row.cells)]) for row in table.rows]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{escaped(table.title)}. {escaped(table.caption)}}}",
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{l{'r' * width}}}",
            r"\toprule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def comma_separated(table: Table) -> str:
    """Its unrounded numbers, a line for each record."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(table.records[0]) if table.records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.records)
    return stream.getvalue()


FORMATS: dict[str, Callable[[Table], str]] = {
    ".csv": comma_separated,
    ".json": lambda table: json_text({"title": table.title, "caption": table.caption, "rows": list(table.records)}),
    ".md": markdown,
    ".tex": latex,
}


def write_table(table: Table, path: Path) -> None:
    """Write a table in the format that the suffix says; raises VlalignError for another suffix."""
    if path.suffix not in FORMATS:
        raise VlalignError(f"{path}: tables are written as {', '.join(FORMATS)}; give one of these suffixes")
    write_text(path, FORMATS[path.suffix](table))


def write_all(table: Table, folder: Path, *, name: str = "") -> list[Path]:
    """Write a table in every format, and return the paths. name: of the files, if not that of the table."""
    paths = [folder / f"{name or table.name}{suffix}" for suffix in FORMATS]
    for path in paths:
        write_table(table, path)
    return paths


def show(table: Table) -> None:
    """Print a table."""
    shown = RichTable(title=escape(table.title), title_justify="left")
    for number, name in enumerate(table.header):
        shown.add_column(escape(name), justify="right" if number else "left", overflow="fold", no_wrap=not number)
    for row in table.rows:
        cells = (Text(_text(one), COLOURS.get(one.tone, "")) for one in row.cells)
        shown.add_row(escape(row.name), *cells, style="dim" if row.kind == "chance" else None)
    console = terminal()
    console.print(shown)
    # As rich's own caption it would be folded to the width of the table, which may be that of one word.
    console.print(Text(table.caption, "dim italic"), width=min(console.width, READABLE))


def escaped(text: str) -> str:
    """Text that LaTeX prints as it stands."""
    return "".join(ESCAPED.get(character, character) for character in text)


def _text(cell: Cell) -> str:
    return f"{cell.text} {cell.note}".strip()


def _line(parts: Sequence[str]) -> str:
    return "| " + " | ".join(part.replace("|", r"\|").replace("\n", " ") for part in parts) + " |"


def _columns(parts: Sequence[str]) -> str:
    return " & ".join(map(escaped, parts)) + r" \\"
