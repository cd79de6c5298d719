"""Two models on the same items, benchmark by benchmark."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import ALL, Metric, headline, known_benchmarks
from vlalign.evaluation.bootstrap import Paired, holm, mean, paired
from vlalign.evaluation.metrics import Items, Place, read_folder, read_items
from vlalign.previous import EVALUATION
from vlalign.reporting.cells import Cell, Row, Table, number
from vlalign.reporting.stats import ABOVE, BELOW, NOISE

LEVEL = 0.05

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Compared:
    """One metric of two models. adjusted: the p-value after Holm's correction over all metrics of the comparison.
    card: the data set, empty for the benchmarks of a run's own dataset.
    """

    card: str
    metric: Metric
    ours: float
    theirs: float
    found: Paired
    adjusted: float

    @property
    def verdict(self) -> str:
        """ABOVE or BELOW where the adjusted p-value is below 5 %, else NOISE."""
        if self.adjusted >= LEVEL:
            return NOISE
        return ABOVE if self.found.difference > 0 else BELOW

    def record(self) -> dict[str, Any]:
        """As plain values, unrounded."""
        return {
            **{"card": self.card, "benchmark": self.metric.benchmark, "metric": self.metric.key},
            **{"ours": self.ours, "theirs": self.theirs, "difference": self.found.difference},
            **{"low": self.found.low, "high": self.found.high, "p": self.found.p, "p_holm": self.adjusted},
            **{"n": self.found.n, "test": self.found.test, "verdict": self.verdict},
        }


def compare(ours: Path, theirs: Path) -> list[Compared]:
    """Every headline metric that both models have and that is a mean over items, paired item by item.

    ours, theirs: folders of a run with one seed, or of a model. Raises VlalignError when nothing was measured there or
    nothing is shared, when they were measured on different data or otherwise, when a folder has numbers of different
    weights, and for files that were changed. Metrics whose items are not the same are logged and left out.
    """
    for folder in (ours, theirs):
        if not _places(folder):
            state = "has no" if folder.is_dir() else "does not exist, and so has no"
            raise VlalignError(
                f"{folder} {state} {EVALUATION} below `metrics` or `benchmarks`; give the folder of a run and seed, or "
                "of a model, and evaluate it first"
            )
    shared = sorted(_places(ours) & _places(theirs))
    if not shared:
        raise VlalignError(
            f"{ours} and {theirs} share no benchmark: below `metrics` or `benchmarks` they have no {EVALUATION} of the "
            "same; evaluate both on the same suites"
        )
    for folder in (ours, theirs):
        _check_model(folder, shared)
    found = [one for place in shared for one in _pairs(ours / place, theirs / place)]
    if not found:
        raise VlalignError(
            f"{ours} and {theirs} share {', '.join(map(str, shared))}, where no metric is a mean over the same items, "
            "such as a share of right answers; evaluate both on others"
        )
    adjusted = holm(one.p for _, _, _, _, one in found)
    return [Compared(*parts, p) for parts, p in zip(found, adjusted, strict=True)]


def _places(folder: Path) -> set[Path]:
    """The folders of metrics of a model, from its own."""
    records = [folder / "metrics" / EVALUATION, *folder.glob(f"benchmarks/*/*/{EVALUATION}")]
    return {record.parent.relative_to(folder) for record in records if record.is_file()}


def _check_model(folder: Path, places: Sequence[Path]) -> None:
    """All that is compared must be of one model, and none of it of an older one of the same name."""
    seen: dict[str, Path] = {}
    for place in places:
        seen.setdefault(str(read_folder(folder / place)[0].get("weights")), folder / place)
    if len(seen) > 1:
        one, other = list(seen.values())[:2]
        raise VlalignError(
            f"{one} and {other} were measured with different weights, so they are not of one model; delete the older "
            "one and evaluate again"
        )


def _pairs(ours: Path, theirs: Path) -> Iterator[tuple[str, Metric, float, float, Paired]]:
    mine, other = read_folder(ours)[0], read_folder(theirs)[0]
    for key in ("split", "data", "benchmarks", "card_digest", "protocol", "precision"):
        if _comparable(mine, key) != _comparable(other, key):
            raise VlalignError(
                f"{ours} and {theirs} were not measured on the same data in the same way (`{key}` of {EVALUATION}); "
                "delete the older one and evaluate that model again"
            )
    first, second = read_items(ours), read_items(theirs)
    for metric in _metrics(first):
        if metric.place not in second:
            continue
        one, two = first[metric.place], second[metric.place]
        if len(one.scores_N) != len(two.scores_N) or not np.array_equal(one.blocks_N, two.blocks_N):
            # Towers that see other parts of a picture are asked for other phrases.
            logger.warning("%s of %s is left out: the items of %s are others", metric.key, ours, theirs)
            continue
        both = paired(one.scores_N, two.scores_N, one.blocks_N)
        yield str(mine.get("card", "")), metric, _percent(one), _percent(two), both


def _comparable(measured: Mapping[str, Any], key: str) -> Any:
    """Without the places of the data, which may be others."""
    value = measured.get(key)
    return sorted(map(str, value.values())) if key == "data" and isinstance(value, Mapping) else value


def _metrics(items: Mapping[Place, Items]) -> list[Metric]:
    """Headline metrics, or all that are of everything where params leave no headline, such as few shots without 16."""
    benchmarks = {place[0] for place in items}
    if leading := [metric for metric in headline(benchmarks) if metric.place in items]:
        return leading
    known = {(name, one.name): one for name in benchmarks for one in known_benchmarks()[name].metrics}
    places = [place for place in items if place[3] == ALL and place[:2] in known]
    labels = {place: known[place[:2]].label if place[2] == ALL else place[2].replace("_", " ") for place in places}
    return [Metric(place[1], labels[place], group=place[2], benchmark=place[0]) for place in places]


def _percent(items: Items) -> float:
    return 100.0 * mean(np.asarray(items.scores_N), items.blocks_N)


def compare_table(found: Sequence[Compared], *, ours: str, theirs: str) -> Table:
    """One row for each benchmark."""
    tones = {ABOVE: "better", BELOW: "worse", NOISE: "noise"}
    rows = []
    for one in found:
        difference, bounds = one.found.difference, (one.found.low, one.found.high)
        low, high = (number(bound, digits=one.metric.digits) for bound in bounds)
        shown = number(difference, digits=one.metric.digits, signed=True)
        cells = (
            Cell(number(one.ours, digits=one.metric.digits)),
            Cell(number(one.theirs, digits=one.metric.digits)),
            Cell(shown, f"[{low}, {high}]", tones[one.verdict]),
            Cell(f"{one.adjusted:.3g}", one.found.test),
            Cell(f"{one.found.n:,}"),
        )
        name = f"{one.card}: {one.metric.label}" if one.card else one.metric.label
        rows.append(Row(name, cells))
    caption = (
        "Paired over the same items: difference in percentage points with its 95 % bootstrap interval, and the p-value "
        "of McNemar's test, or of the paired bootstrap where scores are not right or wrong, after Holm's correction "
        f"over all {len(found)} rows. Items are resampled, training is not: only seeds tell what another would give. "
        "What one of the two was not asked, such as phrases whose referents it does not see, is left out."
    )
    header = ("benchmark", ours, theirs, "difference", "p (Holm)", "items")
    records = [one.record() for one in found]
    return Table(f"compare-{ours}-{theirs}", f"{ours} against {theirs}", caption, header, tuple(rows), records)
