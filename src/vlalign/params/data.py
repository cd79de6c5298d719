"""Where pictures and captions come from."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from vlalign.params.base import Count, Few, Many, Seed, Share, Strict
from vlalign.params.sources import AnySource, Source

HELD_OUT = ("validation", "test")
# CLIP_benchmark's names of the files with the names of classes and the templates of prompts, one in a line.
CLASS_FILES = ("classnames.txt", "zeroshot_classification_templates.txt")
# Hard negatives of the embedded dataset, each a file.
SCENE_CATEGORIES = (
    "swap_object",
    "swap_attribute",
    "flip_relation",
    "replace_object",
    "replace_attribute",
    "change_count",
)


def needs_of_split(split: str) -> tuple[str, ...]:
    """What every sample of a split must have, by the split's folder."""
    if split.startswith("zeroshot/"):
        return ("image", "label")
    if split.startswith("composition/"):
        return ("image",)
    return {"unpaired/images": ("image",), "unpaired/captions": ("captions",)}.get(split, ("image", "captions"))


class ScenesParams(Strict):
    """The embedded dataset: sizes, and how hard it is."""

    source: Literal["scenes"] = "scenes"
    seed: Seed = 0
    images: dict[Literal["train", "validation", "test"], Many] = Field(
        default={"train": 8000, "validation": 1000, "test": 2000}, description="Images of each split"
    )
    image_size: Annotated[int, Field(ge=32, le=512)] = Field(default=96, description="Side of a picture in pixels")
    captions: Few = Field(default=4, description="Captions of each image")
    # A cluttered scene has up to five groups of different classes, and hard negatives need one class more.
    classes: Annotated[int, Field(ge=6, le=28)] = Field(default=20, description="Object classes")
    simple_share: Share = Field(default=0.5, description="Share of simple scenes; the others are cluttered")
    single_share: Share = Field(
        default=0.0,
        description="Share of the simple training scenes that have one object; the others have two or three",
    )
    zeroshot_images: Many = Field(default=1000, description="Images of each zero-shot split")
    composition_items: Count = Field(default=250, description="Hard negatives of each category and split")

    @model_validator(mode="after")
    def _splits(self) -> "ScenesParams":
        if missing := {"train", "validation", "test"} - set(self.images):
            raise ValueError(f"images must give a size for every split; missing: {', '.join(sorted(missing))}")
        return self

    def has(self, kind: str, split: str) -> bool:
        """Whether there are data of a kind (see `vlalign.evaluation.benchmark`) of a split."""
        return split in HELD_OUT or kind in ("pairs", "phrases")


class VerifyParams(Strict):
    """Which samples of a split can be used."""

    max_bad_share: Share = Field(default=0.05, description="More bad samples than this share fail the step")
    max_pixels: Annotated[int, Field(ge=1, le=178_000_000)] = Field(
        default=100_000_000, description="Larger images are skipped without being decoded"
    )
    max_ratio: Annotated[float, Field(ge=1)] = Field(
        default=20.0, description="Images of which one side is longer than so many times the other are skipped"
    )
    min_side: Count = Field(default=4, description="Images with a shorter side, in pixels, are skipped")
    max_characters: Many = Field(default=10_000, description="Longer captions are skipped")


class ZeroshotSources(Strict):
    """Images with classes; with both splits, a classifier of images is also applied to text."""

    validation: AnySource | None = None
    test: AnySource | None = None


class UnpairedSources(Strict):
    """Images without captions and captions without images, for the divergences between both modalities."""

    images: AnySource | None = None
    captions: AnySource | None = None


class SplitsParams(Strict):
    """A dataset of any origin, split by split."""

    train: AnySource
    validation: AnySource | None = None
    test: AnySource | None = None
    hold_out: dict[Literal["validation", "test"], Annotated[float, Field(gt=0, lt=1)]] = Field(
        default={}, description="Shares of the images of `train` that become these splits; for single files alone"
    )
    zeroshot: ZeroshotSources = ZeroshotSources()
    unpaired: UnpairedSources = UnpairedSources()
    verify: VerifyParams = VerifyParams()

    @model_validator(mode="after")
    def _every_split_comes_from_somewhere(self) -> "SplitsParams":
        for split in HELD_OUT:
            given, held_out = getattr(self, split) is not None, split in self.hold_out
            if given and held_out:
                raise ValueError(f"{split}: it has a source and a share in hold_out; leave one of them out")
            if not given and not held_out:
                raise ValueError(f"{split}: give its source, or its share of the training images in hold_out")
        self.train.held_out(self.hold_out)
        if sum(self.hold_out.values()) >= 1:
            raise ValueError("hold_out: nothing is left to train on")
        return self

    @model_validator(mode="after")
    def _captions_and_classes_are_where_they_are_needed(self) -> "SplitsParams":
        pairs = {name: getattr(self, name) for name in ("train", *HELD_OUT)}
        for name, source in {**pairs, "unpaired.captions": self.unpaired.captions}.items():
            if source is not None and (reason := source.lacks("captions")):
                raise ValueError(f"{name}: {reason}")
        for name in HELD_OUT:
            source = getattr(self.zeroshot, name)
            if source is not None and (reason := source.lacks("classes")):
                raise ValueError(f"zeroshot.{name}: {reason}")
        return self

    def sources(self) -> dict[str, Source]:
        """Where every split comes from, by the split's folder."""
        found, train = self.train.held_out(self.hold_out)
        found["train"] = train
        found |= {split: source for split in HELD_OUT if (source := getattr(self, split)) is not None}
        for group, names in (("zeroshot", HELD_OUT), ("unpaired", ("images", "captions"))):
            for name in names:
                source = getattr(getattr(self, group), name)
                if source is not None:
                    found[f"{group}/{name}"] = source
        return found

    def has(self, kind: str, split: str) -> bool:
        """Whether there are data of a kind (see `vlalign.evaluation.benchmark`) of a split."""
        return kind == "pairs" or (kind == "classes" and getattr(self.zeroshot, split, None) is not None)


def _kind(value: Any) -> str:
    """Whose keys these are."""
    named = set(SplitsParams.model_fields).intersection(value) if isinstance(value, dict) else ()
    return "splits" if named or isinstance(value, SplitsParams) else "scenes"


Dataset = Annotated[
    Annotated[ScenesParams, Tag("scenes")] | Annotated[SplitsParams, Tag("splits")], Discriminator(_kind)
]
