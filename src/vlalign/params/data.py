"""Where pictures and captions come from."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vlalign.params.base import Count, Share, Strict


class ScenesParams(Strict):
    """The embedded dataset: sizes, and how hard it is."""

    source: Literal["scenes"] = "scenes"
    seed: int = 0
    images: dict[Literal["train", "validation", "test"], Count] = Field(
        default={"train": 8000, "validation": 1000, "test": 2000}, description="Images of each split"
    )
    image_size: Annotated[int, Field(ge=32, le=512)] = Field(default=96, description="Side of a picture in pixels")
    captions: Count = Field(default=4, description="Captions of each image")
    # A cluttered scene has up to five groups of different classes, and hard negatives need one class more.
    classes: Annotated[int, Field(ge=6, le=28)] = Field(default=20, description="Object classes")
    simple_share: Share = Field(default=0.5, description="Share of simple scenes; the others are cluttered")
    single_share: Share = Field(
        default=0.0,
        description="Share of the simple training scenes that have one object; the others have two or three",
    )
    zeroshot_images: Count = Field(default=1000, description="Images of each zero-shot split")
    composition_items: Count = Field(default=250, description="Hard negatives of each category and split")

    @model_validator(mode="after")
    def _splits(self) -> "ScenesParams":
        missing = {"train", "validation", "test"} - set(self.images)
        if missing:
            raise ValueError(f"images must give a size for every split; missing: {', '.join(sorted(missing))}")
        return self


class VerifyParams(Strict):
    """Which samples of a split can be used."""

    max_bad_share: Share = Field(default=0.05, description="More bad samples than this share fail the step")
    max_pixels: Count = Field(default=100_000_000, description="Larger images are skipped without being decoded")
    min_side: Count = Field(default=4, description="Images with a shorter side, in pixels, are skipped")
    max_characters: Count = Field(default=10_000, description="Longer captions are skipped")
