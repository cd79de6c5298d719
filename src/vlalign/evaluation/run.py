"""Measure one trained run: every benchmark that its data allow, one JSON file each."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vlalign import freshness, models
from vlalign.data.splits import check_place
from vlalign.errors import VlalignError
from vlalign.evaluation.composition import composition_scores, item_similarities
from vlalign.evaluation.features import BATCH_SIZE, DenseFeatures
from vlalign.evaluation.grounding import best_threshold, grounding_scores, positive_share
from vlalign.evaluation.modality import modality_scores
from vlalign.evaluation.ranking import AbsentError, Scores, UnmeasurableError
from vlalign.evaluation.retrieval import retrieval_scores
from vlalign.evaluation.similarity import feature_centres, phrase_scores
from vlalign.evaluation.transfer import classifier_scores, mixed_gallery_scores
from vlalign.evaluation.workbench import Workbench
from vlalign.evaluation.zeroshot import zeroshot_classifier, zeroshot_scores
from vlalign.records import check_record, stamp
from vlalign.reporting.cells import number
from vlalign.reporting.headline import HEADLINE
from vlalign.reporting.metrics import NOT_MEASURED, numbers, write_metrics

TUNING_SPLIT = "validation"
logger = logging.getLogger(__name__)


def evaluate(
    run_dir: str | Path,
    *,
    data: str | Path,
    annotations: str | Path | None = None,
    output_dir: str | Path | None = None,
    split: str = "test",
    benchmarks: Sequence[str] | None = None,
    batch_size: int = BATCH_SIZE,
) -> dict[str, Scores]:
    """Run benchmarks on a trained encoder and write `<output_dir>/<benchmark>.json` for each.

    Args:
        run_dir: folder of a run, as training writes it.
        data: dataset folder with `<split>`, `zeroshot/<split>`, `composition/<split>`.
        annotations: folder with `phrases/<split>`, which grounding needs.
        output_dir: `<run_dir>/metrics` when None.
        split: what is measured. Thresholds, centres and classifiers always come from the split "validation".
        benchmarks: names out of `BENCHMARKS`; when None, all those whose data exist, the others logged and left out.
        batch_size: images or captions per forward pass.

    Returns:
        The scores by benchmark, as written. A benchmark whose data are too few or too alike has the one key
        "not_measured", with the reason.
    Raises VlalignError for an unknown benchmark, for one asked for by name whose data are absent, and for class lists
    that do not fit the data.
    """
    for name in benchmarks or ():
        if name not in BENCHMARKS:
            raise VlalignError(f"unknown benchmark {name!r}; choose among {', '.join(BENCHMARKS)}")
    names = tuple(BENCHMARKS) if benchmarks is None else tuple(benchmarks)
    data, annotations = Path(data), None if annotations is None else Path(annotations)
    measured_of = subject(Path(run_dir), data=data, annotations=annotations, split=split, benchmarks=benchmarks)
    bench = Workbench(
        models.load(run_dir),
        data,
        annotations,
        dense="grounding" in names,
        batch_size=batch_size,
    )
    check_classes(bench, split, names)
    measured = {name: _measure(bench, split, name, asked=benchmarks is not None) for name in names}
    scores = {name: values for name, values in measured.items() if values is not None}
    write_metrics(Path(run_dir) / "metrics" if output_dir is None else Path(output_dir), scores, measured=measured_of)
    return scores


def subject(
    run_dir: Path, *, data: Path, annotations: Path | None, split: str, benchmarks: Sequence[str] | None
) -> dict[str, Any]:
    """What is measured, on what and by which code: equal subjects have equal scores. Manifests count by SHA-256."""
    parts = sorted({TUNING_SPLIT, split})
    folders = [data / group / part for group in ("", "zeroshot", "composition") for part in parts]
    for folder in folders:
        # What is damaged must not be taken for what was measured.
        if (folder / "manifest.json").is_file():
            check_place(folder, check_record(folder / "manifest.json"))
    folders += [annotations / "phrases" / part for part in parts] if annotations else []
    manifests = {folder.as_posix(): folder / "manifest.json" for folder in sorted(folders)}
    return {
        "weights": stamp(models.weights_file(run_dir))["sha256"],
        "data": {name: stamp(path)["sha256"] for name, path in manifests.items() if path.is_file()},
        "split": split,
        "benchmarks": sorted(benchmarks) if benchmarks is not None else None,
        "code": freshness.digest("evaluate", benchmarks=benchmarks or BENCHMARKS),
    }


def _measure(bench: Workbench, split: str, name: str, *, asked: bool) -> Scores | None:
    """The scores of one benchmark, or why there are none; None where it was not asked for and has no data."""
    logger.info("%s: measuring on %s", name, split)
    try:
        scores = BENCHMARKS[name](bench, split)
    except UnmeasurableError as reason:
        logger.warning("%s is not measured: %s", name, reason)
        return {NOT_MEASURED: str(reason)}
    except AbsentError as reason:
        if asked:
            raise VlalignError(f"benchmark {name}: {reason}") from None
        logger.warning("%s is left out: %s", name, reason)
        return None
    for line in _headline(name, scores):
        logger.info("%s: %s", name, line)
    return scores


def _headline(name: str, scores: Scores) -> Iterator[str]:
    """The few numbers that the report leads with, each with what guessing scores."""
    found = dict(numbers(scores, prefix=name, file=Path(f"{name}.json")))
    for metric in HEADLINE:
        if metric.path in found:
            chance = metric.chance(found)
            guessed = "" if chance is None else f" (chance {number(chance, digits=metric.digits)})"
            yield f"{metric.label} {number(found[metric.path], digits=metric.digits)}{guessed}"


def check_classes(bench: Workbench, split: str, benchmarks: Sequence[str]) -> None:
    """Raises VlalignError for class lists that are damaged or too short for the labels, before anything is measured."""
    used = {"zeroshot": (split,), "transfer": (TUNING_SPLIT, split)}
    for name in (name for name in used if name in benchmarks):
        # Whether data that are absent were asked for is decided when the benchmark is measured.
        with contextlib.suppress(AbsentError):
            bench.check_classes(*used[name])


def measure_retrieval(bench: Workbench, split: str) -> Scores:
    """See `retrieval_scores`."""
    features = bench.split(split)
    return retrieval_scores(features.images_ID, features.captions_CD, features.caption_image_C, features.strata)


def measure_zeroshot(bench: Workbench, split: str) -> Scores:
    """See `zeroshot_scores`."""
    prompts = bench.prompts(split)
    classifier_KD = zeroshot_classifier(prompts.embeddings_CD, len(prompts.classnames))
    return zeroshot_scores(*bench.labelled(split), classifier_KD, prompts.classnames)


def measure_composition(bench: Workbench, split: str) -> Scores:
    """See `composition_scores`."""
    categories, images, captions = bench.composition(split)
    return composition_scores({name: item_similarities(items, images, captions) for name, items in categories.items()})


def measure_grounding(bench: Workbench, split: str) -> Scores:
    """`grounding_scores` of raw and of centred features, "positive_share", and how many phrases were "left_out"."""
    test, tuning = _dense(bench, split), _dense(bench, TUNING_SPLIT)
    boxes = bench.boxes(split)
    kinds = [phrase.kind for phrase in test.phrases]
    image_strata = bench.split(split).strata
    strata = [image_strata[phrase.image] for phrase in test.phrases]
    result: Scores = {"left_out": sum(test.left_out.values())}
    for name, centres in (("raw", None), ("centred", feature_centres(tuning))):
        scores = phrase_scores(test, centres=centres, boxes=boxes)
        threshold = best_threshold(phrase_scores(tuning, centres=centres))
        result[name] = grounding_scores(scores, kinds, strata, threshold=threshold)
        if centres is None:
            result["positive_share"] = positive_share(scores)
    return result


def _dense(bench: Workbench, split: str) -> DenseFeatures:
    dense = bench.split(split).dense
    if dense is None:
        raise AbsentError(f"{split} has no phrase annotation; annotate it")
    for cause, count in dense.left_out.items():
        if count:
            logger.warning("%s: %d times %s", split, count, cause)
    if not dense.phrases:
        raise UnmeasurableError(f"{split} has no phrase with known and visible referents in its samples' meta")
    return dense


def measure_modality(bench: Workbench, split: str) -> Scores:
    """See `modality_scores`."""
    return modality_scores(*bench.split(split).pairs())


def measure_transfer(bench: Workbench, split: str) -> Scores:
    """`mixed_gallery_scores`, and `classifier_scores` of a classifier trained on the tuning split."""
    if split == TUNING_SPLIT:
        raise AbsentError(f"its classifier is trained on {TUNING_SPLIT}; measure another split")
    _check_same_classes(bench, split)
    prompts = bench.prompts(split)
    gallery = mixed_gallery_scores(*bench.split(split).pairs())
    classifier = classifier_scores(
        bench.labelled(TUNING_SPLIT),
        bench.labelled(split),
        (prompts.embeddings_CD, prompts.labels_C),
        classes=len(prompts.classnames),
    )
    return gallery | classifier


def _check_same_classes(bench: Workbench, split: str) -> None:
    """Labels of both splits must mean the same names."""
    ours, theirs = bench.classes(split), bench.classes(TUNING_SPLIT)
    for label, (one, other) in enumerate(zip(ours.names, theirs.names, strict=False)):
        if one != other:
            raise UnmeasurableError(f"class {label} is {one!r} in {ours.file}, but {other!r} in {theirs.file}")


BENCHMARKS: dict[str, Callable[[Workbench, str], Scores]] = {
    "retrieval": measure_retrieval,
    "zeroshot": measure_zeroshot,
    "composition": measure_composition,
    "grounding": measure_grounding,
    "modality": measure_modality,
    "transfer": measure_transfer,
}
