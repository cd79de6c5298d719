"""The model card of one run, from its run.json, its config and its metrics."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from open_clip.push_to_hf_hub import generate_readme

from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import ALL, MetricRow, headline
from vlalign.evaluation.metrics import read_metrics
from vlalign.files import read_json, write_text
from vlalign.params import ModelParams, ObjectiveParams
from vlalign.previous import EVALUATION
from vlalign.records import read_record, stamp, write_record
from vlalign.reporting.cells import number, units
from vlalign.reporting.results import is_number, read_run, run_params
from vlalign.training.term import known_terms

SNIPPET = """```python
import vlalign

encoder = vlalign.load("<this folder>")
text = encoder.encode_text(encoder.tokenizer(["a photo of a dog"])).embedding_CD
```"""
OPEN_CLIP_SNIPPET = """```python
import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:<this folder>")
```"""


def model_card(run: str | Path) -> dict[str, Any]:
    """Card of a run's folder, as the `model_card` of `open_clip.push_to_hf_hub`; it names no licence, which is yours
    to choose.

    Raises VlalignError when the folder holds no run, a damaged one, or one without metrics.
    """
    cited = [term.citation for term in known_terms().values() if term.citation]
    return {**_described(Path(run)), "comparison": _results(Path(run)), "citation": cited}


def has_card(run: str | Path) -> bool:
    """Whether a folder is a run's, which has a model card; raises VlalignError when one could not be written."""
    if not (Path(run) / "run.json").is_file():
        return False
    _described(Path(run))
    return True


def write_card(run: str | Path) -> None:
    """Write `README.md` into a run's folder."""
    record, card = read_run(run), model_card(run)
    _, _, body = generate_readme(dict(card), f"{record.name}-seed-{record.seed}").split("---\n", 2)
    # What the hub reads; it offers everyone a snippet of the library that is named here.
    lines = ["tags:", *(f"- {tag}" for tag in card["tags"])]
    same = _config(Path(run))["vlalign"].get("same_in_open_clip")
    if same and all(same.values()):
        lines += ["library_name: open_clip", "pipeline_tag: zero-shot-image-classification"]
    else:
        lines += ["library_name: vlalign"]
    front = "\n".join([*lines, f"license: {card['license']}"])
    write_text(Path(run) / "README.md", f"---\n{front}\n---\n{body}")
    evaluation = Path(run) / "metrics" / EVALUATION
    content = read_record(evaluation)
    write_record(evaluation, {**content, "card": stamp(Path(run) / "README.md")})


def _described(folder: Path) -> dict[str, Any]:
    """All of the card that no metrics are needed for."""
    run, config = read_run(folder), _config(folder)
    params = run_params(run)
    train, objective, versions = params.train, params.objective, run.record.get("versions", {})
    length = f"{train.steps} steps" if train.epochs is None else f"{train.epochs} epochs"
    made_with = [f"{name} {versions[name]}" for name in ("vlalign", "torch", "open_clip_torch") if name in versions]
    average = config["vlalign"].get("pooling") == "average" or config["vlalign"].get("averages")
    tags = [known_terms()[name].tag for name, term in objective.terms().items() if term.is_used]
    return {
        "tags": ["clip", "vlalign", *filter(None, tags)],
        "license": "other",
        "description": f"Run `{run.name}`, seed {run.seed}, of vlalign: {_what(params.model)} trained with "
        f"{described_objective(objective)}.",
        "details": {
            "Towers": _towers(config["model_cfg"], params.model),
            "Pooling": "mean of projected patch and word tokens" if average else "the towers' own",
            "Training": f"{length} of {train.batch_size} pairs, AdamW, learning rate "
            f"{train.learning_rate:g}, weight decay {train.weight_decay:g}",
            "Params of the objective": f"`{json.dumps(run.params.get('objective', {}), sort_keys=True)}`",
            "Made with": ", ".join(made_with) or "unknown versions",
            "Commit": run.record.get("git_commit") or "not a checkout",
        },
        "usage": _usage(config["vlalign"]),
    }


def _what(model: ModelParams) -> str:
    if model.adapters is None:
        return "image and text towers"
    towers = f"the towers of the run `{model.start}`" if model.start else "frozen towers"
    return f"{model.adapters.kind} adapters on {towers}"


def _config(folder: Path) -> dict[str, Any]:
    """The config of a run's encoder, with all that its card reads."""
    file = folder / "open_clip_config.json"
    config = read_json(file)
    keys = {"model_cfg": ("vision_cfg", "text_cfg", "embed_dim"), "vlalign": ()}
    for part, needed in keys.items():
        found = config.get(part) if isinstance(config, dict) else None
        if not isinstance(found, dict) or any(key not in found for key in needed):
            raise VlalignError(f"{file} has no `{part}` as a run has; delete the run and train it again")
    if not isinstance(config["vlalign"].get("same_in_open_clip", {}), dict):
        raise VlalignError(f"{file}: `same_in_open_clip` is no mapping; delete the run and train it again")
    return config


def described_objective(objective: ObjectiveParams) -> str:
    """The terms that train, with their weights."""
    known = known_terms()
    parts = [item for name, params in objective.terms().items() for item in known[name].describe(params).items()]
    return " + ".join(f"{weight:g} × {name}" for name, weight in parts if weight)


def _towers(config: Mapping[str, Any], model: ModelParams) -> str:
    """As their config has them; the joint space is that of adapters where there are any."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    image = vision.get("timm_model_name") or _sizes(vision)
    pixels = f", {vision['image_size']} pixels" if "image_size" in vision else ""
    words = text.get("hf_model_name") or _sizes(text)
    adapters = model.adapters
    joint = config["embed_dim"] if adapters is None or adapters.kind == "centred" else adapters.dimension
    return f"image: {image}{pixels}; text: {words}; joint space of {joint} numbers"


def _sizes(tower: Mapping[str, Any]) -> str:
    """Those that the config names; the others are open_clip's defaults."""
    return ", ".join(f"{name} {tower[name]}" for name in ("layers", "width", "patch_size") if name in tower)


def _usage(ours: Mapping[str, Any]) -> str:
    """How to load the run; with open_clip only where that gives the embeddings that were measured.

    ours: what vlalign wrote into open_clip_config.json.
    """
    if "adapters" in ours:
        alone = " Their towers lie elsewhere: `vlalign export-model` puts both into one folder." * ("frozen" in ours)
        return f"{SNIPPET}\n\nopen_clip has no adapters, and refuses these weights.{alone}"
    same = ours.get("same_in_open_clip", {})
    if same and all(same.values()):
        return f"{SNIPPET}\n\n{OPEN_CLIP_SNIPPET}\n\nopen_clip gives the same embeddings."
    differ = " and ".join(f"{name} embeddings" for name, equal in same.items() if not equal)
    remark = f"its {differ} are others" if same else "whether its embeddings are others was not recorded"
    return (
        f"{SNIPPET}\n\nopen_clip reads the weights, but has no such pooling: {remark}, so use vlalign's; what was "
        f"measured below does not hold there.{_how_far(ours)} `vlalign export-model` writes a folder for which it does."
    )


def _how_far(ours: Mapping[str, Any]) -> str:
    """The numbers beside `same_in_open_clip`, if there are any."""
    found = {
        key: ", ".join(f"{name} {value:.3g}" for name, value in values.items() if is_number(value))
        for key, values in ours.items()
        if isinstance(values, Mapping)
    }
    return "".join(f" {key.replace('_', ' ').capitalize()}: {text}." for key, text in found.items() if text)


def _results(run: Path) -> str:
    """A table of the headline metrics that were measured, with what guessing scores, and what was not measured."""
    found = read_metrics(run)
    if not found:
        raise VlalignError(f"{run} holds no metrics; evaluate the run first")
    known = {row.place: row for measurement in found.values() for row in measurement.rows}
    rows = {metric: known[metric.place] for metric in headline(found) if metric.place in known}
    lines = ["| Metric | This run | Chance |", "|---|---|---|"]
    for metric, row in rows.items():
        guessed = "" if row.chance is None else number(row.chance, digits=metric.digits)
        lines.append(f"| {metric.label} | {number(row.value, digits=metric.digits)} | {guessed} |")
    reasons = {name: measurement.not_measured for name, measurement in found.items()}
    unmeasured = [f"Not measured: {name}, since {reason}." for name, reason in reasons.items() if reason is not None]
    return "\n\n".join(["\n".join(lines), units(rows), *_in_open_clip(known.values()), *unmeasured])


def _in_open_clip(rows: Iterable[MetricRow]) -> list[str]:
    """What retrieval loses where open_clip loads the run; nothing where that has the same embeddings."""
    of = {row.metric: row.value for row in rows if (row.benchmark, row.group, row.stratum) == ("retrieval", ALL, ALL)}
    lost = [
        f"{of[f'{way}_r1_in_open_clip']:.1f} in place of {of[f'{way}_r1']:.1f} ({way.replace('_', ' ')})"
        for way in ("image_to_text", "text_to_image")
        if f"{way}_r1_in_open_clip" in of
    ]
    return [f"Loaded by open_clip, this folder has an R@1 of {' and '.join(lost)}."] if lost else []
