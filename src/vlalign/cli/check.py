"""`vlalign check`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign.errors import VlalignError


def check(
    folder: Annotated[
        Path, typer.Argument(help="What the workflow calls `root`: the repository, or an overlay's.")
    ] = Path(),
) -> None:
    """Compare every file of a workspace with the record of the step that wrote it, and say what mends each.

    Exit code 1 when something is damaged, missing or stale; what is merely foreign is told.
    """
    from vlalign.check import bytes_to_check, check_workspace
    from vlalign.console import progress

    if not any((folder / name).is_dir() for name in ("data", "results")):
        raise VlalignError(f"{folder} is no workspace: it has neither data nor results; give what params call `root`")
    with progress("checking", total=bytes_to_check(folder)) as advance:
        findings = list(check_workspace(folder, advance=advance))
    for finding in findings:
        said = (f"{finding.path} {finding.reason}", finding.remedy)
        what, remedy = (text if text.isprintable() else ascii(text) for text in said)
        print(f"{finding.kind}\t{what}\n\tto mend: {remedy}")
    wrong = sum(finding.kind != "foreign" for finding in findings)
    print(f"{folder}: {wrong} files to mend, {len(findings) - wrong} foreign")
    if wrong:
        raise typer.Exit(1)
