"""Shards of the Hugging Face hub."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vlalign.params.sources import FetchedSource, Names

if TYPE_CHECKING:
    from vlalign.data.download import Origin


class HubSource(FetchedSource):
    """WebDataset shards in a dataset repository of the Hugging Face hub."""

    source: Literal["hub"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="Owner and name, such as pixparse/cc12m-wds")
    shards: Names = Field(description="Names with braces and wildcards, such as cc12m-train-{0000..2175}.tar")
    revision: str = Field(default="main", description="Branch, tag or commit; a commit pins the data")

    def origin(self, *, key: str) -> "Origin":
        """See FetchedSource."""
        from vlalign.data.hub import HubRepository

        return HubRepository(self, key=key)
