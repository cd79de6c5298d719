"""`vlalign suites`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign.cli.options import Changes, Digest, OwnOutput, ParamsFiles, given
from vlalign.errors import VlalignError


def suites(
    changes: Changes = None,
    params: ParamsFiles = None,
    run: Annotated[list[Path] | None, typer.Option(help="Folder of a run to show beside the models; repeat.")] = None,
    output: OwnOutput = None,
    digest: Digest = None,
) -> None:
    """Show what the models of the params got on their suites, beside published numbers, and write the tables.

    What was not measured yet has a line that says so.
    """
    from vlalign.files import check_writable
    from vlalign.records import record_of, stamps, write_record
    from vlalign.reporting.exports import show, write_all
    from vlalign.reporting.suites import suite_tables

    told = given(params, changes).agree(digest, "suites")
    named = told.params.evaluation.suites
    if not named or not (told.params.models or run):
        raise VlalignError("there is nothing to show: name `evaluation.suites`, and `models` or --run")
    folder = told.output(output, told.folders.root / "results" / "suites")
    check_writable(folder)
    tables = suite_tables(told.params, run or [], told.folders, base=told.base)
    written = []
    for suite, table in zip(named, tables, strict=True):
        written += write_all(table, folder, name=suite.name)
        show(table)
    names = [path.relative_to(folder.parent).as_posix() for path in written]
    write_record(record_of(folder), {"files": stamps(folder.parent, names)})
