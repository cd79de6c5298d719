"""How phrases and regions are found."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from vlalign.params.base import Count, Few, OneOf, Seed, Share, Strict, added
from vlalign.registry import Registered

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


class ParserParams(Strict):
    """The constituency parser: trained here on trees of the dataset's grammar, or downloaded."""

    source: Literal["train", "download"] = "train"
    language: str = Field(default="en", description="What Stanza calls it (source: download)")
    package: str = Field(default="default", description="Stanza package to download")
    seed: Annotated[Seed, Field(le=2**32 - 1)] = 0
    trees: int = Field(default=1200, ge=50, le=1_000_000, description="Training trees (source: train)")
    epochs: Few = Field(default=5, description="Epochs of the constituency parser (source: train)")
    max_words: int = Field(default=100, ge=1, le=10_000, description="Captions of more words are too long")
    long_captions: Literal["skip", "cut"] = Field(
        default="skip", description="Skip and count what is too long, or parse the sentences or words that fit"
    )
    max_skipped: float = Field(
        default=10.0, ge=0, le=100, description="Percent of captions that may be skipped before the step fails"
    )
    batch_size: Count = Field(default=200, description="Sentences tagged and parsed at once")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: a GPU where torch has one")


class Segmenter(Strict, Registered):
    """What finds the segments of pictures that have no object masks of their own.

    A segmenter is a class in a module of `vlalign.annotate.regions.segmenters`. Its fields are its params; the field
    `segmenter` is a Literal of its name. Such modules are imported wherever params are read: what takes time to import,
    they import within methods.
    """

    def load(self, *, side: int, device: str = "auto") -> "Callable[[Sequence[Image]], list[np.ndarray]] | None":
        """What takes pictures and gives bool masks R H W of each, the largest first; None if nothing is looked for.

        The masks are on the grid that `vlalign.annotate.regions.masks.grid_shape` lays over a picture, and the same
        picture always has the same ones; R may be 0.

        side: cells along the longest side of that grid. device: where a model runs, as torch names it; auto: a GPU if
        there is one. Raises VlalignError when a model cannot be loaded.
        """
        return None

    def files(self) -> dict[str, Path]:
        """Files on this disk whose content the masks depend on, by names that are the same wherever they lie."""
        return {}


class SegmentFilters(Segmenter):
    """A segmenter of whose segments some are kept; `vlalign.annotate.regions.segments.select` says which."""

    count: int = Field(default=16, ge=1, le=10_000, description="At most this many of an image, the largest ones")
    min_area: Share = Field(default=0.005, description="Share of the picture; 0.005 is one patch of 14 x 14")
    max_area: Share = Field(default=0.95, description="Share of the picture")
    max_overlap: Share = Field(
        default=0.7, description="Of two with a larger intersection over union, the one with the lower score goes"
    )

    @model_validator(mode="after")
    def _areas_rise(self) -> "SegmentFilters":
        if self.min_area >= self.max_area:
            raise ValueError("min_area must be below max_area")
        return self


AnySegmenter = Annotated[Segmenter, OneOf("vlalign.annotate.regions.segmenters", key="segmenter")]


class RegionsParams(Strict):
    """Masks of every image, found once; each run chooses among them."""

    side: Annotated[int, Field(ge=1, le=65_535)] = Field(
        default=128, description="Cells along the longest side of the grid that masks are kept on"
    )
    segments: AnySegmenter = Field(
        default={"segmenter": "superpixels"},
        validate_default=True,
        description="What finds them in images whose own object masks are not given",
    )
    own_masks: bool = added(
        True, description="Whether object masks that the data have are used; false: segments take their place"
    )
    batch_size: Count = Field(default=8, description="Pictures decoded, and handed to the segmenter, at once")

    @model_validator(mode="after")
    def _something_is_found(self) -> "RegionsParams":
        if not self.own_masks and self.segments.name == "none":
            raise ValueError("own_masks: false leaves no regions at all; give segments another segmenter than none")
        return self

    def relevant(self) -> dict[str, Any]:
        """What the regions depend on, as plain values."""
        return self.model_dump(mode="json", exclude={"batch_size"})


class AnnotateParams(Strict):
    """Phrases and regions."""

    parser: ParserParams = ParserParams()
    regions: RegionsParams = RegionsParams()
