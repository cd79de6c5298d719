"""`vlalign regions`."""

from typing import Annotated

import typer

from vlalign import params as parameters
from vlalign.cli.options import Config, How, Output, Part, Split, values


def regions(
    config: Config,
    split: Split,
    output: Output,
    part: Part = None,
    device: Annotated[str, typer.Option(help="Where a model segments; auto: a GPU if there is one.")] = "auto",
    how: How = "{}",
) -> None:
    """Find the regions of every image of a split."""
    from vlalign.annotate.regions import annotate_split

    settings = parameters.RegionsParams.model_validate(values(config) | values(how))
    annotate_split(split, output, settings, part=part, device=device)
