"""How phrases and regions are found."""

from typing import Annotated, Literal

from pydantic import Field

from vlalign.params.base import Count, Strict


class ParserParams(Strict):
    """The constituency parser: trained here on trees of the dataset's grammar, or downloaded."""

    source: Literal["train", "download"] = "train"
    language: str = "en"
    package: str = Field(default="default", description="Stanza package to download")
    seed: int = 0
    trees: Annotated[int, Field(ge=50)] = Field(default=1200, description="Training trees (source: train)")
    epochs: Count = Field(default=5, description="Epochs of the constituency parser (source: train)")
    max_words: Count = Field(default=100, description="Longer captions are skipped and counted")
    max_skipped: Annotated[float, Field(ge=0, le=100)] = Field(
        default=10.0, description="Percent of captions that may be skipped before the step fails"
    )
    batch_size: Count = Field(default=200, description="Captions parsed at once")


class RegionsParams(Strict):
    """Candidate regions of every image, made once; each run chooses among them."""

    boxes: Count = Field(default=16, description="Random boxes per image (PowerCLIP-R)")
    seed: int = 0


class AnnotateParams(Strict):
    """Phrases and regions."""

    parser: ParserParams = ParserParams()
    regions: RegionsParams = RegionsParams()
