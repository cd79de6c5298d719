"""`vlalign verify`."""

from typing import Annotated

import typer

from vlalign.cli.options import Card, Digest, OwnData, ParamsFiles, Part, Split, given


def verify(
    split: Split,
    params: ParamsFiles = None,
    data: OwnData = None,
    needs: Annotated[
        list[str] | None,
        typer.Option(help="What samples must have: image, captions, label; repeat. What a split of this name needs."),
    ] = None,
    part: Part = None,
    card: Card = None,
    digest: Digest = None,
) -> None:
    """Check every sample that shards.json lists, count what is bad by its cause, and write indices and manifest."""
    from vlalign.data.shards.manifest import verify_split
    from vlalign.params.data import needs_of_split

    told = given(params, data=data, anywhere=data is not None)
    if card is not None:
        from vlalign.params.cards import VERIFY

        verify_split(told.folders.cards / card / split, VERIFY, needs=needs_of_split(split))
        return
    told.agree(digest, "verify")
    verify_split(told.folders.data / split, told.params.verify, needs=needs or needs_of_split(split), part=part)
