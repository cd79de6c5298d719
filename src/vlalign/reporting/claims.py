"""What the papers claim, beside what was measured here: the report's first table."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from vlalign.evaluation.benchmark import ALL, Direction, Metric, known_benchmarks
from vlalign.params import ModelParams, RunParams
from vlalign.params.base import Strict
from vlalign.reporting.cells import MISSING, Cell, Row, Table, interval_text, number
from vlalign.reporting.precision_file import read_precision
from vlalign.reporting.published import Published
from vlalign.reporting.results import Results, differing, lookup, run_params
from vlalign.reporting.stats import ABOVE, NOISE, ONE_SEED, Difference

HOLDS, OPPOSITE, NO_VERDICT = "holds", "the opposite holds", "one seed: no verdict"
NOT_RUN, NOT_MEASURED = "not run", "not measured"
TONES = {HOLDS: "better", OPPOSITE: "worse", NOISE: "noise", NO_VERDICT: "single"}
UNITS = {"percent": "points", "distance": "", "similarity": "", "count": "", "ratio": ""}
ERROR = Metric("error_relative", "Error against the exact score", direction="lower", digits=2, benchmark="precision")


class Kind(Strict):
    """What an arm is, by its objective: the terms that train, and values that its params must or must not have.

    adapted: whether its adapters are on pretrained encoders or on those of another run; left out, it trains towers.
    adapters: of which kinds these are.
    few: whether only some of the training images come with their captions.
    """

    described: str
    terms: tuple[str, ...]
    adapted: Literal["pretrained", "run"] | None = None
    adapters: tuple[str, ...] = ("mlp", "transformer")
    few: bool = False
    having: dict[str, tuple[Any, ...]] = Field(default={})
    not_having: dict[str, tuple[Any, ...]] = Field(default={})

    def fits(self, params: RunParams) -> bool:
        """Whether a run with these params is of this kind."""
        objective = params.objective.model_dump(mode="json")
        return (
            {name for name, term in params.objective.terms().items() if term.is_used} == set(self.terms)
            and _adapted(params.model) == self.adapted
            and (params.model.adapters is None or params.model.adapters.kind in self.adapters)
            and (params.train.pairs is not None) == self.few
            and all(lookup(objective, name) in values for name, values in self.having.items())
            and not any(lookup(objective, name) in values for name, values in self.not_having.items())
        )


def _adapted(model: ModelParams) -> str | None:
    if model.adapters is None:
        return None
    return "run" if model.start else "pretrained"


class Place(Strict):
    """A metric of a benchmark."""

    benchmark: str
    name: str
    group: str = ALL


class Setting(Strict):
    """Which error of an aggregator is meant; of counts of regions, the nearest that was measured."""

    direction: Literal["r2t", "t2r"]
    features: Literal["random", "clustered", "trained"]
    regions: int
    tau: float
    zeta: float | None = None


class Claim(Strict):
    """One sentence of a paper: a kind of arm is better than another by a metric, or an aggregator is precise.

    where: the place in the paper, where it is known. better: the direction of a metric that has none of its own.
    """

    claim: str
    arm: str
    reference: str
    where: str = ""
    metric: Place | None = None
    precision: Setting | None = None
    better: Direction | None = None
    published: Published | None = None

    @model_validator(mode="after")
    def _has_one_measure(self) -> "Claim":
        if (self.metric is None) == (self.precision is None):
            raise ValueError(f"{self.claim}: give either metric or precision")
        return self


class Source(Strict):
    """A paper with its claims."""

    title: str
    claims: tuple[Claim, ...]


class Claims(Strict):
    """The content of claims.yaml."""

    kinds: dict[str, Kind]
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Finding:
    """What was measured of a claim: the difference, of which metric and between which two, or why there is none."""

    metric: Metric
    arm: str
    reference: str
    difference: Difference | None = None
    remark: str = ""
    was_run: bool = True

    @property
    def verdict(self) -> str:
        """In words, from the paired interval alone."""
        if not self.was_run:
            return NOT_RUN
        if self.difference is None:
            return NOT_MEASURED
        found = self.difference.verdict
        if found in (NOISE, ONE_SEED):
            return NOISE if found == NOISE else NO_VERDICT
        return HOLDS if (found == ABOVE) == (self.metric.direction == "higher") else OPPOSITE


@cache
def known_claims() -> Claims:
    """Those of claims.yaml."""
    text = resources.files("vlalign.reporting").joinpath("claims.yaml").read_text(encoding="utf-8")
    return Claims.model_validate(yaml.safe_load(text))


def claims_table(results: Results, precision: Path | None) -> Table:
    """A row for each claim, below the name of its paper; no row where not a single claim could be looked into.

    precision: CSV file of the aggregators' errors, if there is one.
    """
    known, arms = known_claims(), arms_by_kind(results)
    rows, records, is_empty = list[Row](), list[dict[str, Any]](), True
    for source in known.sources:
        rows.append(Row(source.title, kind="group"))
        for claim in source.claims:
            found = look_into(claim, results, arms=arms, precision=precision)
            rows.append(Row(claim.claim, (_published(claim), _measured(found), _verdict(found))))
            records.append(_record(source, claim, found))
            is_empty &= claim.metric is None or not found.was_run
    named = (f"{names[0]}: {known.kinds[kind].described}" for kind, names in arms.items() if names)
    return Table(
        "claims",
        "What the papers claim, and what was measured here",
        "Measured: mean difference of two arms with the same seed, with its 95 % Student-t interval. The verdict is "
        "that of the interval alone: the claim holds, or its opposite, where the interval excludes zero. Published "
        "numbers are of other data and sizes: compare directions. "
        f"Arms by what they are: {'; '.join(dict.fromkeys(named))}.",
        ("claim", "published", "measured here", "verdict"),
        () if is_empty else tuple(rows),
        records,
        section="Summary",
    )


def arms_by_kind(results: Results) -> dict[str, list[str]]:
    """The arms that were run of each kind: that with the kind's name first, then in the order of the report."""
    first = {run.name: run_params(run) for run in reversed(results.runs) if run.ablation is None}
    return {
        name: sorted((arm for arm in results.arms if kind.fits(first[arm])), key=lambda arm: arm != name)
        for name, kind in known_claims().kinds.items()
    }


def look_into(
    claim: Claim, results: Results, *, arms: Mapping[str, list[str]], precision: Path | None = None
) -> Finding:
    """What was measured of a claim; arms: see `arms_by_kind`."""
    if claim.precision is not None:
        return _error(claim, claim.precision, precision)
    metric = metric_of(claim)
    pairs = ((arm, other) for arm in arms[claim.arm] for other in arms[claim.reference])
    pair = next((pair for pair in pairs if _differ_in_objective_alone(results, *pair)), None)
    if pair is None:
        missing = (name for name in (claim.arm, claim.reference) if not arms[name])
        lacking = [f"no arm with {known_claims().kinds[name].described}" for name in missing]
        remark = "; ".join(lacking) or "the arms differ in more than the objective"
        return Finding(metric, claim.arm, claim.reference, remark=remark, was_run=False)
    return Finding(metric, *pair, results.difference(pair[0], metric, reference=pair[1]))


def metric_of(claim: Claim) -> Metric:
    """The metric of a claim, as its benchmark declares it, with the direction that the claim is about."""
    assert claim.metric is not None
    place = claim.metric
    declared = known_benchmarks()[place.benchmark].metrics
    metric = next(one for one in declared if one.name == place.name)
    direction = claim.better or metric.direction
    return replace(metric, benchmark=place.benchmark, group=place.group, direction=direction)


def _differ_in_objective_alone(results: Results, *arms: str) -> bool:
    """Or a difference between two arms would be that of their data, towers or training as well."""
    params = [next(run.params for run in results.runs if run.name == arm) for arm in arms]
    return all(name.startswith("objective.") for name in differing(*params))


def _error(claim: Claim, wanted: Setting, precision: Path | None) -> Finding:
    """Mean error of an aggregator in percent of the exact score, of the one model that the file is about."""
    metric = replace(ERROR, group=wanted.direction)
    nothing = Finding(metric, claim.arm, claim.reference)
    if precision is None:
        return nothing
    rows = read_precision(precision)
    named = {"aggregator": claim.arm, "direction": wanted.direction, "features": wanted.features, "tau": wanted.tau}
    for column, value in {**named, "zeta": wanted.zeta}.items():
        rows = rows[rows[column].isna() if value is None else rows[column] == value]
    # Where the exact scores are all 0 there is no error relative to them.
    rows = rows[rows["error_relative"].notna()]
    if rows.empty:
        return nothing
    row = rows.iloc[(rows["regions"] - wanted.regions).abs().argmin()]
    difference = Difference(100 * float(row["error_relative"]), None, None, 1)
    zeta = "" if wanted.zeta is None else f", ζ = {wanted.zeta:g}"
    remark = f"of the exact score: {wanted.features} features, R = {row['regions']:g}, τ = {wanted.tau:g}{zeta}"
    return replace(nothing, difference=difference, remark=remark)


def _published(claim: Claim) -> Cell:
    """`35.1 → 42.2`, and of which column and rows they are; the place in the paper where no number is known."""
    if claim.published is None:
        return Cell("", claim.where or MISSING)
    ours, theirs = claim.published.pair()
    return Cell(f"{theirs} → {ours}", f"{claim.published.column}: {claim.published.reference} → {claim.published.arm}")


def _measured(found: Finding) -> Cell:
    if found.difference is None:
        return Cell("", found.remark or MISSING)
    count, digits = found.difference.n, found.metric.digits
    if found.metric.benchmark == ERROR.benchmark:
        least = 10**-digits
        text = f"below {least:g}" if found.difference.mean < least else number(found.difference.mean, digits=digits)
        return Cell(f"{text} % error", found.remark)
    text = number(found.difference.mean, digits=digits, signed=True)
    shown = (text, UNITS.get(found.metric.unit, found.metric.unit), interval_text(found.difference, digits=digits))
    seeds = f"{count} seed{'' if count == 1 else 's'}"
    return Cell(" ".join(filter(None, shown)), f"{found.metric.label}: {found.arm} − {found.reference}, {seeds}")


def _verdict(found: Finding) -> Cell:
    return Cell(found.verdict, tone=TONES.get(found.verdict, "chance"))


def _record(source: Source, claim: Claim, found: Finding) -> dict[str, Any]:
    """Of the CSV file: empty where nothing was measured or published."""
    metric, measured, published = found.metric, found.difference, claim.published
    place = dict(zip(("benchmark", "metric", "group"), metric.place[:3], strict=True))
    return {
        "source": source.title,
        "where": claim.where,
        "claim": claim.claim,
        "arm": found.arm,
        "reference": found.reference,
        **place,
        "better": metric.direction,
        **(asdict(measured) if measured else dict.fromkeys(("mean", "low", "high", "n"))),
        "verdict": found.verdict,
        **dict(zip(("published", "published_reference"), published.pair() if published else (None, None), strict=True)),
    }
