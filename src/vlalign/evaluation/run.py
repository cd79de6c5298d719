"""Measure one model: every benchmark that its data allow, one JSON file each."""

import contextlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlalign import freshness, models
from vlalign.data.shards.split import check_place
from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import (
    AbsentError,
    Benchmark,
    UnmeasurableError,
    headline,
    known_benchmarks,
    manifest_of,
)
from vlalign.evaluation.metrics import Items, Measurement, Place, write_metrics
from vlalign.evaluation.store import FeatureStore
from vlalign.evaluation.workbench import Workbench
from vlalign.models import DualEncoder
from vlalign.models.frozen import identity
from vlalign.models.opened import OpenedModel
from vlalign.params import EvaluationParams
from vlalign.records import check_record, stamp

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Execution:
    """How models are run. workers: threads that decode pictures ahead. precision: of the towers, fp32 or bf16, which
    alone changes numbers. features: folder that keeps embeddings for other benchmarks; nothing is kept if None.
    templates: of prompts, in the place of those of the data.
    """

    workers: int = 0
    precision: str = "fp32"
    features: Path | None = None
    templates: tuple[str, ...] = ()


def evaluate(
    model: str | Path | OpenedModel,
    *,
    data: str | Path,
    annotations: str | Path | None = None,
    output_dir: str | Path | None = None,
    settings: EvaluationParams | None = None,
    execution: Execution | None = None,
    told: Mapping[str, Any] | None = None,
) -> dict[str, Measurement]:
    """Run benchmarks on an encoder and write `<output_dir>/<benchmark>.json` for each.

    model: folder of a run, as training writes it, or another model, opened. data: dataset folder with `<split>`,
    `zeroshot/<split>`, `composition/<split>`. annotations: folder with `phrases/<split>`, which grounding needs.
    output_dir: `<model>/metrics` when None. settings: what is measured, on which split; of benchmarks that it does not
    name, those whose data are absent are logged and left out. Thresholds, centres and classifiers always come from the
    split "validation", and probes learn from "train". execution: how the model is run. told: what else is recorded of
    the numbers, as plain values.

    Returns what came of every benchmark, as written.
    Raises VlalignError for a benchmark asked for by name whose data are absent, and for class lists that do not fit the
    data.
    """
    settings, execution = settings or EvaluationParams(), execution or Execution()
    data, annotations = Path(data), None if annotations is None else Path(annotations)
    about = subject(model, data=data, annotations=annotations, settings=settings)
    benchmarks = [known_benchmarks()[name](params) for name, params in settings.named().items()]
    encoder = model.encoder if isinstance(model, OpenedModel) else models.load(model)
    dense = encoder.has_joint_tokens and any("phrases" in benchmark.needs.split for benchmark in benchmarks)
    bench = Workbench(
        encoder,
        data,
        annotations,
        dense=dense,
        batch_size=settings.batch_size,
        workers=execution.workers,
        precision=execution.precision,
        templates=execution.templates,
        store=store_for(encoder, execution, known=model.identity() if isinstance(model, OpenedModel) else None),
    )
    for benchmark in benchmarks:
        splits = [split for kind, split in benchmark.needs.data(settings.split, bench.has) if kind == "classes"]
        # Whether data that are absent were asked for is decided when the benchmark is measured.
        with contextlib.suppress(AbsentError):
            if splits:
                bench.check_classes(*splits)
    items: dict[Place, Items] = {}
    found = {one.name: _measure(bench, one, settings, items) for one in benchmarks}
    measured = {name: measurement for name, measurement in found.items() if measurement is not None}
    if output_dir is None:
        if isinstance(model, OpenedModel):
            raise ValueError("output_dir: say where the metrics of a model that is no run are written")
        output_dir = Path(model) / "metrics"
    write_metrics(Path(output_dir), measured, items, measured={**about, **(told or {})})
    return measured


def store_for(
    encoder: DualEncoder, execution: Execution, *, known: Mapping[str, Any] | None = None
) -> FeatureStore | None:
    """Of what frozen towers give, which runs share, or of a model's embeddings that `known` identifies; None else, and
    where the execution has no folder of features.
    """
    if encoder.adapters is not None:
        known = None if encoder.has_joint_tokens else identity(encoder)
    if execution.features is None or known is None:
        return None
    code = freshness.digest("measure")
    return FeatureStore(execution.features, {**known, "precision": execution.precision, "code": code})


def subject(
    model: str | Path | OpenedModel, *, data: Path, annotations: Path | None, settings: EvaluationParams
) -> dict[str, Any]:
    """What is measured, on what and by which code: equal subjects have equal scores. Manifests count by SHA-256."""
    known, named = known_benchmarks(), settings.named()
    # What is optional, and what else is absent, is passed over below.
    read = {item for name in named for item in known[name].needs.data(settings.split, lambda *_: True)}
    manifests = {}
    for kind, split in sorted(read):
        path = manifest_of(kind, split, data=data, annotations=annotations)
        if path is None or not path.is_file():
            continue
        if kind != "phrases":
            # What is damaged must not be taken for what was measured.
            check_place(path.parent, check_record(path))
        manifests[path.parent.as_posix()] = stamp(path)["sha256"]
    if isinstance(model, OpenedModel):
        weights = {"weights": model.weights or model.drawn, "model": model.identity()}
    else:
        weights = {"weights": stamp(models.weights_file(Path(model)))["sha256"]}
    return {
        **weights,
        "data": manifests,
        "split": settings.split,
        "benchmarks": {name: params.model_dump(mode="json") for name, params in named.items()},
        "code": freshness.digest("measure", benchmarks=named),
    }


def _measure(
    bench: Workbench, benchmark: Benchmark, settings: EvaluationParams, items: dict[Place, Items]
) -> Measurement | None:
    """What came of one benchmark; None where it was not asked for and has no data. items: where its items go."""
    name, split = benchmark.name, settings.split
    logger.info("%s: measuring on %s", name, split)
    try:
        if reason := benchmark.needs.lacks(split, bench.has):
            raise AbsentError(reason)
        rows = benchmark.rows(bench, split)
    except UnmeasurableError as reason:
        logger.warning("%s is not measured: %s", name, reason)
        return Measurement(not_measured=str(reason))
    except AbsentError as reason:
        if settings.benchmarks is not None:
            raise VlalignError(f"benchmark {name}: {reason}") from None
        logger.warning("%s is left out: %s", name, reason)
        return None
    items |= {row.place: Items(row.items, row.blocks) for row in rows if row.items is not None}
    found = Measurement(rows=[row.model_copy(update={"items": None, "blocks": None}) for row in rows])
    for metric in headline([name]):
        for row in (row for row in found.rows if metric.place == row.place):
            guessed = "" if row.chance is None else f" (chance {row.chance:.{metric.digits}f})"
            logger.info("%s: %s %.*f%s", name, metric.label, metric.digits, row.value, guessed)
    return found
