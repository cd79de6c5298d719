"""How phrases and regions are found."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vlalign.params.base import Count, Few, Seed, Share, Strict


class ParserParams(Strict):
    """The constituency parser: trained here on trees of the dataset's grammar, or downloaded."""

    source: Literal["train", "download"] = "train"
    language: str = Field(default="en", description="What Stanza calls it (source: download)")
    package: str = Field(default="default", description="Stanza package to download")
    seed: Annotated[Seed, Field(le=2**32 - 1)] = 0
    trees: Annotated[int, Field(ge=50, le=1_000_000)] = Field(
        default=1200, description="Training trees (source: train)"
    )
    epochs: Few = Field(default=5, description="Epochs of the constituency parser (source: train)")
    max_words: Annotated[Count, Field(le=10_000)] = Field(
        default=100, description="Captions of more words are too long"
    )
    long_captions: Literal["skip", "cut"] = Field(
        default="skip", description="Skip and count what is too long, or parse the sentences or words that fit"
    )
    max_skipped: Annotated[float, Field(ge=0, le=100)] = Field(
        default=10.0, description="Percent of captions that may be skipped before the step fails"
    )
    batch_size: Count = Field(default=200, description="Sentences tagged and parsed at once")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: a GPU where torch has one")


class NoSegments(Strict):
    """No segments are looked for: the data's own object masks are the only ones."""

    segmenter: Literal["none"] = "none"


class SegmentFilters(Strict):
    """Which of the segments that were found are kept, whatever found them."""

    count: Annotated[Count, Field(le=10_000)] = Field(
        default=16, description="At most this many of an image, the largest ones"
    )
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


class SuperpixelSegments(SegmentFilters):
    """Patches of even colour, merged where nothing separates them; needs no weights."""

    segmenter: Literal["superpixels"] = "superpixels"
    regions: Annotated[Count, Field(le=10_000)] = Field(
        default=16, description="How many segments a picture is divided into, before the filters"
    )


class SamSegments(SegmentFilters):
    """Masks of SAM, SAM 2 or SAM-HQ at a grid of points (PowerCLIP-S: SAM 2)."""

    segmenter: Literal["sam"]
    model: str = Field(
        default="facebook/sam2.1-hiera-tiny", description="A model of the Hugging Face hub, or the path of its folder"
    )
    revision: str = Field(default="main", description="Branch, tag or commit; a commit pins the weights")
    points: Few = Field(default=16, description="Points along each side of the picture; SAM's own demos take 32")
    min_iou: Share = Field(default=0.88, description="Least quality that the model expects of a mask; 0: any")
    min_stability: Share = Field(
        default=0.95, description="Least share of a mask that remains where the threshold is moved by 1; 0: any"
    )
    autocast: Literal["none", "bf16", "fp16"] = Field(default="none", description="Arithmetic of the model")


SegmentParams = Annotated[NoSegments | SuperpixelSegments | SamSegments, Field(discriminator="segmenter")]


class RegionsParams(Strict):
    """Masks of every image, found once; each run chooses among them."""

    side: Annotated[int, Field(ge=1, le=65_535)] = Field(
        default=128, description="Cells along the longest side of the grid that masks are kept on"
    )
    segments: SegmentParams = Field(
        default=SuperpixelSegments(), description="What finds them in images whose own object masks are not given"
    )
    batch_size: Count = Field(default=8, description="Pictures decoded, and handed to the segmenter, at once")


class AnnotateParams(Strict):
    """Phrases and regions."""

    parser: ParserParams = ParserParams()
    regions: RegionsParams = RegionsParams()
