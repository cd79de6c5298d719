"""What a term of the loss needs beside pairs, and which of it enters."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from vlalign.params.base import Few, NonNegative, Share, Strict, added


class RegionDamage(Strict):
    """What is spoilt in masks, to see what a loss makes of worse ones. The damage of a picture is always the same."""

    holes: Annotated[float, Field(ge=0, le=0.9)] = Field(
        default=0.0, description="Share of each mask that is missing, in blocks of a third of its height and width"
    )
    merges: Share = Field(
        default=0.0, description="Probability that a mask also covers another one of its picture, before the holes"
    )

    @property
    def is_any(self) -> bool:
        """Whether masks are not as they were found."""
        return self.holes > 0 or self.merges > 0


class RegionChoice(Strict):
    """Which of an image's regions enter the powerset."""

    kinds: tuple[Literal["mask", "box"], ...] = Field(
        default=("mask",), min_length=1, description="Random boxes, new in every epoch, fill up what masks leave"
    )
    count: Few = Field(default=6, description="At most this many masks; with boxes exactly this many regions")
    order: Literal["first", "random"] = Field(
        default="first", description="Which masks: the first of the segmenter's order, or others in every epoch"
    )
    damage: RegionDamage = added(RegionDamage(), description="What is spoilt in masks that are trained on")


class PhraseChoice(Strict):
    """Which constituents of a caption are its phrases."""

    unit: Literal["phrases", "words"] = Field(
        default="phrases", description="words: every word by itself, without the parse (the paper's ablation)"
    )
    labels: tuple[str, ...] = Field(default=("NP", "PP", "VP", "S"), min_length=1)
    min_words: Few = 2
    count: Few = Field(default=12, description="At most this many: the shortest phrases, or the first words")
    normalise: bool = Field(default=True, description="Unit phrases; false: sums of unit words, as published")


# What joins the distributions of a batch beside its pairs.
EXTRAS = ("other_captions", "unpaired_images", "unpaired_captions")


@dataclass(frozen=True)
class Needs:
    """What a run reads beside its pairs.

    phrases, regions: which of them enter. other_captions: whether all captions of a batch's images come.
    unpaired_images, unpaired_captions: how many without a partner come with every batch. takes_extras: whether these
    three enter, where others let them come too; then even none of them is a choice. rest: whether what has no partner
    is of what `train.pairs` leaves of the training split. tokens: whether those of patches and words are needed. twins:
    the kinds of twins of captions of which one is drawn (see `vlalign.annotate.phrases.twins`).
    """

    phrases: PhraseChoice | None = None
    regions: RegionChoice | None = None
    other_captions: bool = False
    unpaired_images: int = 0
    unpaired_captions: int = 0
    takes_extras: bool = False
    rest: bool = False
    tokens: bool = False
    twins: tuple[str, ...] = ()

    @property
    def masks(self) -> bool:
        """Whether regions must have been found; random boxes need no annotation."""
        return self.regions is not None and "mask" in self.regions.kinds

    @property
    def folders(self) -> tuple[str, ...]:
        """What must have been made: out of "phrases", "regions", "unpaired_images" and "unpaired_captions"."""
        wanted = {
            "phrases": self.phrases is not None or bool(self.twins),
            "regions": self.masks,
            "unpaired_images": self.unpaired_images > 0 and not self.rest,
            "unpaired_captions": self.unpaired_captions > 0 and not self.rest,
        }
        return tuple(name for name, needed in wanted.items() if needed)

    @classmethod
    def of_all(cls, needs: Iterable["Needs"]) -> "Needs":
        """What several terms need together; raises ValueError where two of them choose differently."""
        found: dict[str, Any] = {}
        for one in needs:
            chosen = EXTRAS if one.takes_extras else ()
            for name in (field.name for field in fields(cls) if field.name in chosen or getattr(one, field.name)):
                value = getattr(one, name)
                if found.setdefault(name, value) != value:
                    raise ValueError(f"objective: two terms choose {name.replace('_', ' ')} differently; give both one")
        return cls(**found)


class TermParams(Strict):
    """Params of a term of the loss; each has a weight, and 0 switches it off. A number alone is the weight."""

    weight: NonNegative = Field(default=0.0, description="Weight in the total loss; 0 switches the term off")
    warmup: Share = added(0.0, description="Share of the steps over which its weights rise from 0")
    decay: Share = added(0.0, description="Share of the steps, the last ones, over which they fall to 0")

    @model_validator(mode="after")
    def _rises_before_it_falls(self) -> "TermParams":
        if self.warmup + self.decay > 1:
            raise ValueError(
                f"decay: with a warmup of {self.warmup:g} at most {1 - self.warmup:g} of the steps are left; lower one"
            )
        return self

    @property
    def is_used(self) -> bool:
        """Whether it trains."""
        return self.weight > 0

    def share(self, progress: float) -> float:
        """By what its weights are multiplied at a step, between 0 and 1.

        progress: 0 at the first step and 1 at the last. The share is 0 at the first with any warm-up, and at the last
        with any decay.
        """
        risen = min(1.0, progress / self.warmup) if self.warmup else 1.0
        left = min(1.0, (1 - progress) / self.decay) if self.decay else 1.0
        return min(risen, left)

    def needs(self) -> Needs:
        """What it needs beside pairs, where it is used."""
        return Needs()

    def plugins(self) -> dict[str, tuple[str, ...]]:
        """Further plug-ins that it names, by kind (see `vlalign.freshness`)."""
        return {}

    def relevant(self) -> dict[str, Any]:
        """The params that mean something, as plain values: two runs that differ in others only are the same run."""
        plain = self.model_dump(mode="json")
        return plain if self.is_used else {key: value for key, value in plain.items() if key.endswith("weight")}


def a_number_is_the_weight(kind: type[TermParams]) -> Any:
    """The type of a term's key in `objective`: its params, or its weight alone."""

    def convert(value: Any) -> Any:
        is_number = isinstance(value, int | float | str) and not isinstance(value, bool)
        return {"weight": value} if is_number else value

    return Annotated[kind, BeforeValidator(convert, json_schema_input_type=NonNegative | kind)]
