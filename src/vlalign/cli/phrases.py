"""`vlalign phrases`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign import params as parameters
from vlalign.cli.options import Config, How, Output, Part, Split, values


def phrases(
    config: Config,
    split: Split,
    model: Annotated[Path, typer.Option(help="Stanza model folder.")],
    output: Output,
    part: Part = None,
    how: How = "{}",
) -> None:
    """Parse the captions of a split into phrases."""
    from vlalign.annotate.phrases import parse_split

    settings = parameters.ParserParams.model_validate(values(config) | values(how))
    parse_split(
        split,
        model,
        output,
        max_words=settings.max_words,
        batch_size=settings.batch_size,
        max_skipped=settings.max_skipped,
        long_captions=settings.long_captions,
        device=settings.device,
        part=part,
    )
