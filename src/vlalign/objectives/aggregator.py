"""What an aggregator is: the rule by which similarities of regions and phrases become scores.

With x[r, B] = s[r, B] − b, where b is what a chosen region costs (0 as published), a subset A of the regions scores a
phrase B as Σ_{r ∈ A} x[r, B], and

    R2T = mean over the 2^R subsets A of max over phrases B of Σ_{r ∈ A} x[r, B]
    T2R = mean over phrases B of max over subsets A of Σ_{r ∈ A} x[r, B] = mean_B Σ_r relu(x[r, B])

Every aggregator is one module of `vlalign.objectives.aggregators`. `docs/objectives.md` derives every formula and
bound. This module needs no torch, so that params and their schema are made without it.
"""

import dataclasses
import importlib
import math
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeGuard

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PACKAGE = "vlalign.objectives.aggregators"
DIRECTIONS = ("both", "r2t", "t2r")


class PowersetScores(NamedTuple):
    """Both directions of the score, I C each."""

    r2t: "Tensor"
    t2r: "Tensor"

    @property
    def total(self) -> "Tensor":
        """S = R2T + T2R"""
        return self.r2t + self.t2r

    def of(self, direction: str) -> "Tensor":
        """S, or one of its two parts: `both`, `r2t` or `t2r`."""
        return self.total if direction == "both" else getattr(self, direction)


def setting(default: Any, description: str, **limits: Any) -> Any:
    """A field of an aggregator that users choose: it is checked, and it becomes a key of `objective.powerset`.

    limits: gt, ge, le, multiple_of or choices; added=True: it came after runs were trained, as its default does.
    """
    return dataclasses.field(default=default, metadata={"description": description, **limits})


def is_learnt(value: Any) -> "TypeGuard[Tensor]":
    """Whether a field's value is a tensor, which may be trained, and no number or word."""
    return not isinstance(value, str | int | float)


@dataclass(frozen=True, eq=False)
class Aggregator:
    """Base of all aggregators; its fields, and those that a subclass adds with `setting`, are its params.

    cost: b, what each chosen region costs: a number, a scalar tensor that is learnt, or `batch`: the mean similarity of
    an image's own regions and phrases.
    """

    # How params call it; taken from its module unless it says another.
    name: ClassVar[str] = ""
    # Whether it chooses no subsets, as what others are compared with.
    is_control: ClassVar[bool] = False
    # Whether it is fitted to each batch.
    is_fitted: ClassVar[bool] = False
    # Settings that may be tensors in place of numbers: a scalar, or one for every phrase, C P.
    learnable: ClassVar[tuple[str, ...]] = ()
    # Where it stands among others.
    rank: ClassVar[int] = 100
    # For the measurement of precision: each direction that is not exact, with the settings that change it.
    approximates: ClassVar[dict[str, tuple[str, ...]]] = {"r2t": (), "t2r": ()}

    cost: "float | Tensor | str" = 0.0

    def __post_init__(self) -> None:
        for field in settings(type(self)):
            value = getattr(self, field.name)
            if not (field.name in self.learnable and is_learnt(value)):
                _check(field.name, value, field.metadata)
        if isinstance(self.cost, str) and self.cost != "batch":
            raise ValueError(f"cost is {self.cost!r}; it must be a number, a scalar tensor or 'batch'")
        if is_learnt(self.cost) and self.cost.numel() != 1:
            raise ValueError(f"cost has shape {tuple(self.cost.shape)}; it must be a scalar")

    @property
    def is_random(self) -> bool:
        """Whether it draws random numbers, which processes must draw alike."""
        return False

    @property
    def price(self) -> "float | Tensor":
        """The cost, once it is known."""
        if isinstance(self.cost, str):
            raise ValueError(f"cost is {self.cost!r}, which a batch of pairs must set first; see `powerset_scores`")
        return self.cost

    def learnt(self) -> "dict[str, Tensor]":
        """The tensors among its fields that may be trained, by name."""
        found = {name: getattr(self, name) for name in ("cost", *self.learnable)}
        return {name: value for name, value in found.items() if is_learnt(value)}

    def draw(self, regions: int, *, like: "Tensor", generator: "torch.Generator | None") -> "Aggregator":
        """With the subsets of so many regions for all pairs of a batch, of the type and on the device of `like`."""
        return self

    def fit(self, s: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor") -> "Aggregator":
        """With what is fitted to some pairs of a batch, where `is_fitted`; s [N, P, R], masks [N, R] and [N, P]."""
        return self

    def __call__(self, s: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor") -> PowersetScores:
        """Scores of s [..., P, R], 0 without a real region or phrase; masks [..., R] and [..., P] broadcast to it."""
        region_mask, phrase_mask = region_mask[..., None, :], phrase_mask[..., :, None]
        scores = self.aggregate((s - self.price) * region_mask, region_mask, phrase_mask)
        nothing = ~(region_mask.any(-1)[..., 0] & phrase_mask.any(-2)[..., 0])
        return PowersetScores(*(x.masked_fill(nothing, 0) for x in scores))

    def aggregate(self, x: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor") -> PowersetScores:
        """Scores [...] of x = s − b [..., P, R], 0 at regions that are not real; masks [..., 1, R] and [..., P, 1]."""
        raise NotImplementedError

    def columns(self, regions: int) -> int:
        """How many numbers it holds at once for a pair's phrase, which is what tiles are cut by."""
        return regions

    def bound(
        self, direction: str, scores: "Tensor", s: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor"
    ) -> "Tensor | None":
        """How far the scores of a direction can be from the exact ones, where a bound is known."""
        return None


@dataclass(frozen=True, eq=False)
class SubsetAggregator(Aggregator):
    """Base of those that choose among subsets.

    empty_subset: without it both directions run over the 2^R − 1 others.
    """

    empty_subset: bool = setting(True, "Whether choosing no region at all counts, as published")

    def __call__(self, s: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor") -> PowersetScores:
        """See `Aggregator`."""
        scores = super().__call__(s, region_mask, phrase_mask)
        if self.empty_subset:
            return scores
        from vlalign.objectives.subsets import share_of_others

        # The empty subset adds 0 to the sum of R2T; T2R has left it out already.
        return scores._replace(r2t=scores.r2t / share_of_others(region_mask, scores.r2t.dtype))


@dataclass(frozen=True, eq=False)
class NonLinearAggregator(SubsetAggregator):
    """Base of those that put smooth functions in the place of maxima."""

    tau: float = setting(1e-3, "Temperature of both non-linear aggregators, at the last step", gt=0)
    activation: str = setting("softplus", "Of NLA-T1; relu: its limit τ = 0", choices=("softplus", "relu"))


@dataclass(frozen=True, eq=False)
class PooledAggregator(Aggregator):
    """Base of those that pool a phrase's similarities to all regions into one number, on the scale of one similarity.

    T2R is R times the mean of these over the phrases, and R2T the sum of every region's best phrase: sums over regions
    like those of the powerset, so that a loss per region divides both by R.

    of_subsets: over how many random subsets R2T is taken in its place, as `sampled` does; 0 for none.
    """

    # The powerset's own scores are no limit of theirs.
    approximates: ClassVar[dict[str, tuple[str, ...]]] = {}

    of_subsets: int = setting(
        0,
        "R2T of `max`, `holder`, `prefix` and `logmean` over so many random subsets; 0: the best phrase of each region",
        ge=0,
        le=65_536,
        multiple_of=2,
        added=True,
    )
    subsets_SR: "Tensor | None" = None

    @property
    def is_random(self) -> bool:
        """See Aggregator."""
        return self.of_subsets > 0

    def draw(self, regions: int, *, like: "Tensor", generator: "torch.Generator | None") -> Aggregator:
        """The random subsets, if any."""
        from vlalign.objectives.subsets import sample_subsets

        if not self.of_subsets:
            return self
        subsets_SR = sample_subsets(regions, self.of_subsets, like=like, generator=generator)
        return dataclasses.replace(self, subsets_SR=subsets_SR)

    def aggregate(self, x: "Tensor", region_mask: "Tensor", phrase_mask: "Tensor") -> PowersetScores:
        """The best phrase of every region, and what `pool` gives of every phrase."""
        from vlalign.objectives.subsets import NEVER, mean_of_subsets, phrase_mean

        t2r = phrase_mean(self.pool(x, region_mask) * region_mask.sum(-1), phrase_mask)
        if self.subsets_SR is not None:
            return PowersetScores(mean_of_subsets(x, phrase_mask, self.subsets_SR), t2r)
        best_phrase = x.masked_fill(~phrase_mask, NEVER).amax(-2)
        return PowersetScores((best_phrase * region_mask[..., 0, :]).sum(-1), t2r)

    def columns(self, regions: int) -> int:
        """A subset of regions takes as much as a region."""
        return regions if self.subsets_SR is None else max(regions, len(self.subsets_SR))

    def pool(self, x: "Tensor", region_mask: "Tensor") -> "Tensor":
        """One number for each phrase, [..., P], of x [..., P, R] and mask [..., 1, R]; x is 0 where it is not real."""
        raise NotImplementedError


def settings(kind: type[Aggregator]) -> list[dataclasses.Field[Any]]:
    """What users choose of an aggregator."""
    return [field for field in dataclasses.fields(kind) if "description" in field.metadata]


# torch.compile warns of functools.cache.
_known: dict[str, type[Aggregator]] = {}


def known_aggregators() -> dict[str, type[Aggregator]]:
    """All of them by name: each module of `vlalign.objectives.aggregators` has one."""
    if not _known:
        found = {}
        for info in pkgutil.iter_modules(importlib.import_module(PACKAGE).__path__):
            module = importlib.import_module(f"{PACKAGE}.{info.name}")
            kinds = (kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Aggregator))
            for kind in (kind for kind in kinds if kind.__module__ == module.__name__):
                kind.name = vars(kind).get("name", info.name.replace("_", "-"))
                found[kind.name] = kind
        _known.update(sorted(found.items(), key=lambda item: (item[1].rank, item[0])))
    return _known


def aggregator_of(aggregator: str | Aggregator, cost: Any = None, **fields: Any) -> Aggregator:
    """An aggregator by its name and settings; one that is given stays as it is but for what is given with it.

    A setting of another aggregator means nothing to this one, as in params. Raises ValueError for a name or a setting
    that none has, and for a value out of its range.
    """
    if isinstance(aggregator, Aggregator) and cost is None and not fields:
        return aggregator
    if isinstance(aggregator, str) and aggregator not in known_aggregators():
        raise ValueError(f"aggregator is {aggregator!r}; it must be one of {', '.join(known_aggregators())}")
    known = {field.name for kind in known_aggregators().values() for field in settings(kind)}
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"{unknown[0]} is no setting of an aggregator; there are {', '.join(sorted(known))}")
    kind = known_aggregators()[aggregator] if isinstance(aggregator, str) else type(aggregator)
    own = {field.name for field in settings(kind)}
    given = {name: value for name, value in fields.items() if name in own} | ({} if cost is None else {"cost": cost})
    return kind(**given) if isinstance(aggregator, str) else dataclasses.replace(aggregator, **given)


def _check(name: str, value: Any, limits: Any) -> None:
    if "choices" in limits:
        if value not in limits["choices"]:
            raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(limits['choices'])}")
    elif len(limits) > 1 and not (isinstance(value, int | float) and _within(value, limits)):
        words = {"gt": "above", "ge": "at least", "le": "at most", "multiple_of": "a multiple of"}
        ranges = (f"{words[key]} {limits[key]}" for key in words if key in limits)
        raise ValueError(f"{name} is {value}; it must be a number {' and '.join(ranges)}")


def _within(value: float, limits: Any) -> bool:
    return (
        math.isfinite(value)
        and limits.get("ge", -math.inf) <= value <= limits.get("le", math.inf)
        and value > limits.get("gt", -math.inf)
        and ("multiple_of" not in limits or value % limits["multiple_of"] == 0)
    )
