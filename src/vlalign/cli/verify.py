"""`vlalign verify`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign import params as parameters
from vlalign.cli.options import Config, How, Part, values


def verify(
    split: Annotated[Path, typer.Option(help="Folder of the split with its shards.json.")],
    needs: Annotated[list[str], typer.Option(help="What samples must have: image, captions, label; repeat.")],
    config: Config = "{}",
    part: Part = None,
    how: How = "{}",
) -> None:
    """Check every sample of a split, count what is bad by its cause, and write indices and manifest."""
    from vlalign.data.manifest import verify_split

    verify_split(split, parameters.VerifyParams.model_validate(values(config) | values(how)), needs=needs, part=part)
