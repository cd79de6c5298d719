"""`vlalign shards`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign import params as parameters
from vlalign.cli.options import Config, How, Output, values


def shards(
    config: Config,
    output: Output,
    base: Annotated[Path, typer.Option(help="Folder that relative paths of --config start from.")] = Path(),
    key: Annotated[str, typer.Option(help="The source's key in params.yaml, for messages.")] = "source",
    classes: Annotated[bool, typer.Option(help="The split needs names of classes and templates of prompts.")] = False,
    how: How = "{}",
) -> None:
    """Bring the shards of a split: download them, pack single files, or list those that are there."""
    from pydantic import TypeAdapter

    from vlalign.data.bring import bring

    source: parameters.Source = TypeAdapter(parameters.AnySource).validate_python(values(config) | values(how))
    bring(source.with_secrets(), output, base=base, key=key, classes=classes)
