"""`vlalign regions`."""

from typing import Annotated

import typer

from vlalign.cli.options import Changes, Digest, OwnData, OwnOutput, ParamsFiles, Part, Split, given


def regions(
    split: Split,
    changes: Changes = None,
    params: ParamsFiles = None,
    data: OwnData = None,
    output: OwnOutput = None,
    part: Part = None,
    device: Annotated[str, typer.Option(help="Where a model segments; auto: a GPU if there is one.")] = "auto",
    digest: Digest = None,
) -> None:
    """Find the regions of every image of a split."""
    from vlalign.annotate.regions.annotation import annotate_split

    told = given(params, changes, data=data).agree(digest, "regions")
    folder = told.output(output, told.folders.annotations / "regions" / split)
    annotate_split(told.folders.data / split, folder, told.params.annotate.regions, part=part, device=device)
