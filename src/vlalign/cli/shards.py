"""`vlalign shards`."""

import os
from typing import Annotated

import typer

from vlalign.cli.options import Changes, Digest, OwnOutput, ParamsFiles, Split, given
from vlalign.errors import VlalignError


def shards(
    split: Split,
    changes: Changes = None,
    params: ParamsFiles = None,
    output: OwnOutput = None,
    connections: Annotated[int | None, typer.Option(min=1, help="Files that are fetched at once.")] = None,
    digest: Digest = None,
) -> None:
    """Bring the shards of a split: download them, pack single files, or list those that are there."""
    from vlalign.data.shards.obtain import bring

    told = given(params, changes)
    key, sources = f"datasets.{told.params.dataset}", told.params.sources
    if split not in sources:
        raise VlalignError(f"{key} has no source of {split!r}, but of {', '.join(sources) or 'none'}; correct --split")
    source = sources[split]
    os.environ.update(source.secrets())
    if connections is not None:
        source = source.model_copy(update={"connections": connections})
    bring(
        source,
        told.agree(digest, "shards", split=split).output(output, told.folders.data / split),
        base=told.base,
        key=f"{key}.{split.replace('/', '.')}",
        classes=split.startswith("zeroshot/"),
    )
