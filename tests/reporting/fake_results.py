"""A results tree with the shapes of real runs and made-up numbers."""

import csv
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from vlalign.analysis.examples import Answers, Confusions, HardNegative, Retrieved
from vlalign.analysis.illustrations import SceneSimilarity
from vlalign.analysis.named_sets import NamedPhrases, best_subsets
from vlalign.data.samples import Sample, encode_png
from vlalign.data.shards.manifest import write_split
from vlalign.evaluation.benchmark import MetricRow, known_benchmarks
from vlalign.evaluation.hard_negatives import CompositionItem
from vlalign.evaluation.metrics import Items, Measurement, read_metrics, write_metrics
from vlalign.files import write_text
from vlalign.records import read_record, record_of, stamps, write_record
from vlalign.reporting.collect import collect_metrics
from vlalign.reporting.results import Results, load_results

# Effect on (grounding, retrieval, gap) that each made-up arm has over the first.
ARMS = {
    "clip": (0, 0, 0.0),
    "linear": (20, -1, 0.0),
    "powerclip": (33, 0, 0.02),
    "powerclip-cost": (41, -1, 0.01),
    "cs": (0, 0, -0.5),
    "powerclip-cs": (32, -1, -0.48),
    "powerclip-literal": (-9, -22, 0.3),
}
TAUS = (0.1, 0.01, 0.0001)
LEVELS = {"one": (48, 20), "count": (55, 11), "conjunction": (42, 10), "multiple": (50, 10.4), "all": (49, 16)}


def row(metric: str, value: float, **more: object) -> MetricRow:
    return MetricRow(metric=metric, value=float(value), **more)


def measured(benchmark: str, rows: Sequence[MetricRow]) -> Measurement:
    """Rows as the benchmark would have given them."""
    directions = {metric.name: metric.direction for metric in known_benchmarks()[benchmark].metrics}
    known = ({"benchmark": benchmark, "direction": directions[row.metric]} for row in rows)
    return Measurement(rows=[row.model_copy(update=update) for row, update in zip(rows, known, strict=True)])


def unmeasured(reason: str) -> Measurement:
    return Measurement(not_measured=reason)


def _grounding(noise: Callable[[float], float], gain: float) -> Iterator[MetricRow]:
    for prefix, stratum in (("", "all"), ("", "simple"), ("", "clutter"), ("raw_", "all")):
        for kind, (base, chance) in LEVELS.items():
            place = {"group": kind, "stratum": stratum, "n": 800}
            yield row(f"{prefix}top_k", min(99.0, noise(base + gain)), chance=float(chance), **place)
            yield row(f"{prefix}recall_at_k", min(99.0, noise(base + 9 + gain)), **place)
            yield row(f"{prefix}f1", noise(40 + gain / 2), **place)
            yield row(f"{prefix}exact", max(0.5, noise(8 + gain)), **place)
        yield row(f"{prefix}top_1_with_boxes", noise(30 + gain / 2), stratum=stratum, n=300, chance=5.0)
        yield row(f"{prefix}pointing_accuracy", noise(45 + gain), stratum=stratum, n=800, chance=12.0)
    yield row("threshold", 0.31)
    yield row("positive_share", 99.2 if gain == 33 else min(100.0, noise(70)))


def _metrics(random: np.random.Generator, effect: tuple[float, float, float]) -> dict[str, Measurement]:
    gain, recall, gap = effect
    shift = random.normal(0, 1.5)

    def noise(value: float) -> float:
        return float(value + shift + random.normal(0, 0.7))

    def retrieval(base: float, stratum: str) -> Iterator[MetricRow]:
        yield row("images", 2000, stratum=stratum)
        yield row("captions", 8000, stratum=stratum)
        for way in ("image_to_text", "text_to_image"):
            for k in (1, 5, 10):
                chance = 0.05 if k == 1 else None
                yield row(f"{way}_r{k}", noise(base + recall + 3 * k), stratum=stratum, n=2000, chance=chance)

    categories = (
        "swap_object",
        "swap_attribute",
        "flip_relation",
        "replace_object",
        "replace_attribute",
        "change_count",
    )
    levels = {"accuracy": 65, "text": 40, "image": 38, "group": 20}
    rows = {
        "retrieval": [*retrieval(32, "all"), *retrieval(40, "simple"), *retrieval(25, "clutter")],
        "zeroshot": [row("accuracy", noise(59 + recall / 2), n=1000, chance=5.0), row("times_chance", 11.8),
                     row("classes", 20), row("class_accuracy", noise(60), group="dog"),
                     row("class_accuracy", noise(50), group="red fish")],
        "composition": [row(name, noise(level), group=category, n=250)
                        for category in sorted(categories) for name, level in levels.items()]
        + [row("micro", noise(65)), row("macro", noise(66), chance=50.0), row("group", noise(19))],
        "grounding": list(_grounding(noise, gain)),
        "modality": [row("mean_distance", 0.62 + gap + random.normal(0, 0.01)),
                     row("cs_divergence", max(0.01, 0.5 + gap)),
                     row("uniformity_image", -2.8 - 2.6 * min(gap, 0) + random.normal(0, 0.02)),
                     row("uniformity_text", -2.7), row("probe_accuracy", 99.5 + 40 * min(gap, 0), chance=50.0)],
        "transfer": [row("mixed_image_to_text_r1", noise(14 - 50 * min(gap, 0))),
                     row("mixed_text_to_image_r1", noise(13)), row("classifier_on_images", noise(70), chance=5.0),
                     row("classifier_on_text", noise(60 - 40 * min(gap, 0)), chance=5.0), row("classes", 20)],
    }  # fmt: skip
    return {name: measured(name, found) for name, found in rows.items()}


def _history(path: Path, random: np.random.Generator, *, powerset: bool, cs: bool) -> None:
    terms, speed = ["contrastive", "powerset", "cs"], ["pairs_per_second", "data_seconds"]
    columns = [
        "step",
        "lr",
        "loss",
        *terms,
        "positive_share",
        "score_sd",
        "caption_share",
        "logit_scale",
        "grad_norm",
        *speed,
    ]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for step in range(10, 601, 10):
            contrastive = 4.85 * np.exp(-step / 250) + 0.4 + random.normal(0, 0.05)
            triplet = 0.35 * np.exp(-step / 150) + random.normal(0, 0.01) if powerset else ""
            divergence = 0.5 * np.exp(-step / 100) + random.normal(0, 0.01) if cs else ""
            loss = contrastive + (triplet or 0) + (divergence or 0)
            share = 60 + 20 * np.exp(-step / 99) + random.normal(0, 1) if powerset else ""
            statistics = (share, 0.2 + step / 3000, 60 - step / 15) if powerset else ("",) * 3
            gradient = 5 * np.exp(random.normal(0, 0.3)) * (8 if powerset and step < 60 else 1)
            writer.writerow(
                [step, 1e-3, loss, contrastive, triplet, divergence, *statistics, 14 + step / 60, gradient, 900, 0.1]
            )


def write_run(root: Path, name: str, seed: int, *, arm: str, effect: tuple, ablation: dict | None = None) -> Path:
    directory = root / "runs" / name / f"seed-{seed}"
    (directory / "metrics").mkdir(parents=True)
    random = np.random.default_rng([seed, sum(map(ord, name))])
    write_metrics(directory / "metrics", _metrics(random, effect), {}, measured={})
    powerset, cs = "powerclip" in name or "linear" in name or bool(ablation), "cs" in name
    _history(directory / "history.csv", random, powerset=powerset, cs=cs)
    tau = ablation["value"] if ablation else 0.001
    aggregator = "mean" if name == "linear" else "nla"
    weights = {
        "powerset": {"weight": float(powerset), "tau": tau, "aggregator": aggregator},
        "cs": {"weight": float(cs), "sigma": "median"},
    }
    record = {
        "run": name, "arm": arm, "ablation": ablation, "seed": seed, "seeds": {"torch": seed, "order": seed},
        "params": {"model": {"tower": "tiny"}, "train": {"steps": 600}, "objective": {"contrastive": 1.0, **weights}},
        "params_hash": f"{zlib.crc32(f'{arm}{tau}'.encode()):08x}", "versions": {"python": "3.11.9", "torch": "2.9.0"},
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "parameters": {"trained": 1000 + seed, "frozen": 3000},
    }  # fmt: skip
    write_record(directory / "run.json", {**record, "files": stamps(directory, ["history.csv"])})
    return directory


def remeasure(run: Path, **found: Measurement) -> None:
    """Another outcome of some benchmarks, as an evaluation would have written it."""
    write_metrics(run / "metrics", {**read_metrics(run), **found}, {}, measured={})


def rewrite(run: Path, name: str, text: str) -> None:
    """A metric file with any text, for which the evaluation vouches."""
    folder = run / "metrics"
    write_text(folder / name, text)
    record = read_record(folder / "evaluation.json")
    write_record(folder / "evaluation.json", {**record, "files": record["files"] | stamps(folder, [name])})


def write_tree(
    root: Path, *, arms: Sequence[str] = tuple(ARMS), seeds: Sequence[int] = (0, 1, 2), taus=TAUS
) -> list[Path]:
    runs = [write_run(root, arm, seed, arm=arm, effect=ARMS[arm]) for arm in arms for seed in seeds]
    for tau in taus:
        ablation = {"name": "tau", "param": "objective.powerset.tau", "value": tau}
        effect = (33 + 6 * np.log10(tau), 0, 0.02)
        runs += [
            write_run(root, f"tau-{tau:g}", seed, arm="powerclip", effect=effect, ablation=ablation) for seed in seeds
        ]
    return runs


def load_tree(root: Path, run_dirs: list[Path]) -> Results:
    collect_metrics(run_dirs, root / "metrics.json")
    return load_results(root / "metrics.json", run_dirs)


def write_precision(path: Path) -> Path:
    random = np.random.default_rng(0)
    columns = [
        "features",
        "aggregator",
        "direction",
        "tau",
        "zeta",
        "regions",
        "samples",
        "error_relative",
        "bias_relative",
        "bound_relative",
    ]
    rows = []
    for features in ("random", "clustered", "trained"):
        for regions in (2, 4, 8, 12):
            for tau in (1.0, 0.1, 0.01, 0.001):
                rows.append([features, "nla", "t2r", tau, "", regions, "", tau * 0.4, tau * 0.4, tau * regions * 0.7])
                for zeta in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0):
                    rows.append(
                        [features, "nla", "r2t", tau, zeta, regions, "", abs(zeta - 0.2) + tau + 1e-3, zeta - 0.2, ""]
                    )
            for samples in (16, 64):
                error = 0.3 / samples * np.exp(random.normal(0, 0.3))
                rows.append([features, "sampled", "r2t", "", "", regions, samples, error, 0.01, ""])
            for aggregator, error in (("mean", 0.6), ("max", 0.8)):
                rows += [[features, aggregator, way, "", "", regions, "", error, error, ""] for way in ("r2t", "t2r")]
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([columns, *rows])
    write_record(record_of(path), {"files": stamps(path.parent, [path.name])})
    return path


def write_illustrations(folder: Path, *, names: Sequence[str] = ()) -> Path:
    """The record of figures that need the models; those that are named are there."""
    write_record(folder / "illustrations.json", {"files": stamps(folder, names)})
    return folder


def make_scene(seed: int, *, sharp: float = 1.0) -> SceneSimilarity:
    random = np.random.default_rng(seed)
    image = np.full((96, 96, 3), (222, 232, 240), dtype=np.uint8)
    rows, columns = np.mgrid[:96, :96]
    masks = []
    for y, x, colour in (
        (24, 24, (200, 60, 50)),
        (26, 70, (60, 120, 200)),
        (70, 48, (60, 160, 90)),
        (70, 80, (60, 120, 200)),
    ):
        mask = (rows - y) ** 2 + (columns - x) ** 2 < 14**2
        image[mask] = colour
        masks.append(mask)
    stack = np.stack(masks)
    referents = [{0}, {1, 3}, {0, 2}]
    regions = np.array([[0.6 if r in meant else 0.1 for r in range(4)] for meant in referents])
    regions = sharp * regions + random.normal(0, 0.1, regions.shape)
    coverage = stack.reshape(4, 6, 16, 6, 16).mean(axis=(2, 4)).reshape(4, 36)
    patches = regions @ coverage + random.normal(0, 0.05, (3, 36))
    phrases = ["a red ball", "two blue balls", "a red ball and a green ball"]
    named = best_subsets(torch.from_numpy(regions))
    return SceneSimilarity(image, stack, phrases, patches, (6, 6), regions, named, 0.75, referents)


def make_embeddings(gap: float, *, count: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    content = random.normal(size=(count, 32)) * np.linspace(1, 0.1, 32)
    offset = np.zeros(32)
    offset[0] = gap
    images, captions = content + offset, content - offset + random.normal(0, 0.2, content.shape)
    return tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in (images, captions))


PICTURES = 8


def write_pictures(folder: Path) -> Path:
    """A split of grey pictures, each a little brighter than the one before it."""
    shades = (np.full((24, 24, 3), 20 * number, np.uint8) for number in range(PICTURES))
    samples = (Sample(f"k{number}", encode_png(shade)) for number, shade in enumerate(shades))
    write_split(folder, list(samples), source={}, needs=("image",))
    return folder


def make_retrieved(split: Path, *, seed: int, text: str = "caption") -> Retrieved:
    """Of `write_pictures`, two captions each, with random similarities."""
    random = np.random.default_rng(seed)
    image_C = np.repeat(np.arange(PICTURES), 2)
    own_IC = np.arange(PICTURES)[:, None] == image_C
    scores_IC = random.random(own_IC.shape) + 0.6 * own_IC
    best_I = np.where(own_IC, scores_IC, -1).max(1)
    to_captions = Answers(((scores_IC > best_I[:, None]) & ~own_IC).sum(1), np.argsort(-scores_IC)[:, :3])
    to_images = Answers((scores_IC > scores_IC[own_IC.T.argmax(1), range(len(image_C))]).sum(0),
                        np.argsort(-scores_IC.T)[:, :5])  # fmt: skip
    captions = tuple(f"{text} {number}" for number in range(len(image_C)))
    return Retrieved(split, captions, image_C, to_images, to_captions, "shortest")


def make_confusions(names: Sequence[str], *, elsewhere: int = 0) -> Confusions:
    counts = np.arange(len(names) ** 2).reshape(len(names), -1)
    others = np.full(len(names), elsewhere)
    return Confusions(tuple(names), counts, others, int(np.trace(counts)), int(counts.sum() + others.sum()))


def make_negative(category: str, *, true: float, false: float, text: str = "caption") -> HardNegative:
    item = CompositionItem("k", f"a true {text}", f"a false {text}", None)
    return HardNegative(category, item, np.full((16, 16, 3), 128, np.uint8), true, false)


def write_cell(
    folder: Path,
    name: str,
    values: Mapping[str, float],
    *,
    task: str = "zeroshot",
    weights: str = "w",
    chance: float | None = 25.0,
    bounds: tuple[float, float] | None = (1.0, 99.0),
) -> None:
    """What one model got on one card. values: by metric, or group and metric."""
    rows, items = [], {}
    for key, value in values.items():
        group, _, metric = key.rpartition("/")
        low, high = bounds or (None, None)
        row = MetricRow(metric=metric, group=group or "all", value=value, n=4, chance=chance, low=low, high=high)
        rows.append(row.model_copy(update={"benchmark": task, "direction": "higher"}))
        items[rows[-1].place] = Items(np.full(4, value / 100))
    told = {"weights": weights, "precision": "fp32", "card": name, "card_digest": f"digest of {name}"}
    place = folder / "benchmarks" / task / name
    write_metrics(place, {task: Measurement(rows=rows)}, items, measured=told)


def make_named(split: Path, named: Sequence[Sequence[int]], *, exponent: float = 0.75) -> NamedPhrases:
    """Of `write_objects`: a phrase for each of its pictures that means the first object, and what it names."""
    texts = tuple(f"phrase {number}" for number in range(len(named)))
    named_NR = np.array([[one in row for one in (1, 2, 3)] for row in named])
    meant_NR = np.tile([True, False, False], (len(named), 1))
    places = tuple((number, number, (0, 1)) for number in range(len(named)))
    return NamedPhrases(split, texts, places, meant_NR, named_NR, exponent)


def write_objects(folder: Path, *, count: int = PICTURES) -> Path:
    """A split of pictures of three objects each."""
    labels = np.zeros((24, 24), np.uint8)
    labels[2:8, 2:8], labels[2:8, 14:20], labels[14:20, 2:8] = 1, 2, 3
    picture = np.repeat(80 * labels[..., None], 3, 2)
    samples = [Sample(f"k{n}", encode_png(picture), instances=encode_png(labels)) for n in range(count)]
    write_split(folder, samples, source={}, needs=("image",))
    return folder
