"""`vlalign compare`."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    ours: Annotated[Path, typer.Argument(help="Folder of a run and seed, or of a model that was evaluated.")],
    theirs: Annotated[Path, typer.Argument(help="The same of what it is compared with.")],
    output: Annotated[Path | None, typer.Option(help="Also write a table here: .csv, .json, .md or .tex.")] = None,
) -> None:
    """Compare two models item by item: McNemar's test or the paired bootstrap, with Holm's correction."""
    from vlalign.reporting.compare import compare, compare_table
    from vlalign.reporting.exports import show, write_table

    table = compare_table(compare(ours, theirs), ours=_name(ours), theirs=_name(theirs))
    if output is not None:
        write_table(table, output)
    show(table)


def _name(folder: Path) -> str:
    """`clip/seed-0` for a run, the folder's name for a model."""
    parts = folder.resolve().parts
    return "/".join(parts[-2:]) if parts[-1].startswith("seed-") else parts[-1]
