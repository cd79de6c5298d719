"""Segments without weights."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vlalign.params.annotate import SegmentFilters
from vlalign.params.base import Count

if TYPE_CHECKING:
    from vlalign.annotate.regions.colour_patches import Superpixels


class SuperpixelSegments(SegmentFilters):
    """Patches of even colour, merged where nothing separates them; needs no weights."""

    segmenter: Literal["superpixels"] = "superpixels"
    regions: Annotated[Count, Field(le=10_000)] = Field(
        default=16, description="How many segments a picture is divided into, before the filters"
    )

    def load(self, *, side: int, device: str = "auto") -> "Superpixels":
        """See Segmenter."""
        from vlalign.annotate.regions.colour_patches import Superpixels

        return Superpixels(self, side=side)
