"""`vlalign phrases`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign.cli.options import Changes, Digest, OwnData, OwnOutput, ParamsFiles, Part, Split, given


def phrases(
    split: Split,
    changes: Changes = None,
    params: ParamsFiles = None,
    data: OwnData = None,
    model: Annotated[Path | None, typer.Option(help="Stanza model folder, if not that of the workflow.")] = None,
    output: OwnOutput = None,
    part: Part = None,
    digest: Digest = None,
) -> None:
    """Parse the captions of a split into phrases."""
    from vlalign.annotate.phrases.annotation import parse_split

    told = given(params, changes, data=data).agree(digest, "phrases")
    folders, settings = told.folders, told.params.annotate.parser
    parse_split(
        folders.data / split,
        model or folders.parser,
        told.output(output, folders.annotations / "phrases" / split),
        max_words=settings.max_words,
        batch_size=settings.batch_size,
        max_skipped=settings.max_skipped,
        long_captions=settings.long_captions,
        device=settings.device,
        part=part,
    )
