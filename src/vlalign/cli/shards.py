"""`vlalign shards`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from vlalign.cli.options import Card, Changes, Digest, Given, OwnOutput, ParamsFiles, Split, given
from vlalign.errors import VlalignError
from vlalign.params import Source


def shards(
    split: Split,
    changes: Changes = None,
    params: ParamsFiles = None,
    output: OwnOutput = None,
    connections: Annotated[int | None, typer.Option(min=1, help="Files that are fetched at once.")] = None,
    card: Card = None,
    digest: Digest = None,
) -> None:
    """Bring the shards of a split: download them, pack single files, or list those that are there."""
    from vlalign.data.shards.obtain import bring

    told = given(params, changes)
    sources, folder, base, key = _of_card(told, card) if card else _of_dataset(told)
    if split not in sources:
        raise VlalignError(f"{key} has no source of {split!r}, but of {', '.join(sources) or 'none'}; correct --split")
    source = sources[split]
    os.environ.update(source.secrets())
    if connections is not None:
        source = source.model_copy(update={"connections": connections})
    output = told.agree(digest, "shards", split=split, card=card or "").output(output, folder / split)
    key = f"{key}.{split.replace('/', '.')}"
    try:
        bring(source, output, base=base, key=key, classes=split.startswith("zeroshot/"))
    except VlalignError as error:
        # By hand, it goes on with other cards; in the workflow nothing but this tells that a card cannot be had.
        left_out = f"; or go on without it, with evaluation.left_out: {{{card}: why}}" if card else ""
        raise VlalignError(f"{error}{left_out}") from None


def _of_dataset(told: Given) -> tuple[dict[str, Source], Path, Path, str]:
    """Sources by split, the folder of the splits, the folder that paths of sources count from, and the key of all."""
    return told.params.sources, told.folders.data, told.base, f"datasets.{told.params.dataset}"


def _of_card(told: Given, name: str) -> tuple[dict[str, Source], Path, Path, str]:
    """The same of a card."""
    cards = told.params.cards
    if name not in cards:
        raise VlalignError(f"--card {name} is in none of evaluation.suites, but {', '.join(cards) or 'none'} are")
    return cards[name].places(), told.folders.cards / name, told.base / told.params.evaluation.files, f"card {name}"
