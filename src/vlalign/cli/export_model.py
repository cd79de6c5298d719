"""`vlalign export-model`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign.cli.options import Output


def export_model(run: Annotated[Path, typer.Argument(help="Folder of a run.")], output: Output) -> None:
    """Write a run so that open_clip gives the embeddings that vlalign gives, whatever its pooling.

    open_clip's text towers do not average. The exported one has a layer more that does.
    """
    from vlalign.models.export import export_model

    difference = export_model(run, output)
    print(f"open_clip reads local-dir:{output}; embeddings differ from those of {run} by {difference:.0e} at most")
