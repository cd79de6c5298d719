"""The model card of one run, from its run.json, its config and its metrics."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from open_clip.push_to_hf_hub import generate_readme

from vlalign.errors import VlalignError
from vlalign.files import read_json, write_text
from vlalign.params import ObjectiveParams, TrainParams
from vlalign.reporting.cells import number
from vlalign.reporting.headline import HEADLINE
from vlalign.reporting.metrics import read_metrics

POWERCLIP = """@article{powerclip,
  title = {PowerCLIP: Powerset Alignment for Contrastive Pre-Training},
  author = {Kawamura, Masaki and Inoue, Nakamasa and Yanagi, Rintaro and Kataoka, Hirokatsu and Yokota, Rio},
  journal = {arXiv:2511.23170}, year = {2025}
}"""
CS_ALIGNER = """@article{csaligner,
  title = {Distributional Vision-Language Alignment by Cauchy-Schwarz Divergence},
  author = {Yin, Wenzhe and Xiao, Zehao and Zhou, Pan and Yu, Shujian and Shen, Jiayi and Sonke, Jan-Jakob and
            Gavves, Efstratios},
  journal = {arXiv:2502.17028}, year = {2025}
}"""


def model_card(run: str | Path) -> dict[str, Any]:
    """Card of a run's folder, as the `model_card` of `open_clip.push_to_hf_hub`; it names no licence, which is yours
    to choose.

    Raises VlalignError when the folder holds no run.
    """
    run = Path(run)
    record, config = read_json(run / "run.json"), read_json(run / "open_clip_config.json")
    params, same = record["params"], config["vlalign"]["same_in_open_clip"]
    # run.json leaves out the params of terms that are off.
    objective = ObjectiveParams.model_validate(params["objective"])
    train = TrainParams.model_validate(params["train"])
    length = f"{train.steps} steps" if train.epochs is None else f"{train.epochs} epochs"
    versions = record["versions"]
    return {
        "tags": ["clip", "vlalign", *(["powerclip"] if objective.powerset.weight else [])],
        "license": "other",
        "description": f"Run `{record['run']}`, seed {record['seed']}, of vlalign: image and text towers trained with "
        f"{described_objective(objective)}.",
        "details": {
            "Towers": _towers(config["model_cfg"]),
            "Pooling": "mean of projected patch and word tokens"
            if config["vlalign"]["pooling"] == "average"
            else "the towers' own",
            "Training": f"{length} of {train.batch_size} pairs, AdamW, learning rate "
            f"{train.learning_rate:g}, weight decay {train.weight_decay:g}",
            "Params of the objective": f"`{json.dumps(params['objective'], sort_keys=True)}`",
            "Made with": ", ".join(f"{name} {versions[name]}" for name in ("vlalign", "torch", "open_clip_torch")),
            "Commit": record["git_commit"] or "not a checkout",
        },
        "usage": _usage(same),
        "comparison": _results(run),
        "citation": [POWERCLIP, CS_ALIGNER],
    }


def write_card(run: str | Path) -> None:
    """Write `README.md` into a run's folder."""
    record = read_json(Path(run) / "run.json")
    write_text(Path(run) / "README.md", generate_readme(model_card(run), f"{record['run']}-seed-{record['seed']}"))


def described_objective(objective: ObjectiveParams) -> str:
    """The terms that train, with their weights."""
    powerset, cs = objective.powerset, objective.cs
    terms = {
        "InfoNCE": objective.contrastive,
        f"the powerset loss of PowerCLIP ({powerset.aggregator})": powerset.weight,
        "the Cauchy-Schwarz divergence of CS-Aligner": cs.weight,
        "its divergence of tokens": cs.token_weight,
    }
    return " + ".join(f"{weight:g} × {name}" for name, weight in terms.items() if weight)


def _towers(config: Mapping[str, Any]) -> str:
    vision, text = config["vision_cfg"], config["text_cfg"]
    image = vision.get("timm_model_name") or _sizes(vision)
    words = text.get("hf_model_name") or _sizes(text)
    return f"image: {image}, {vision['image_size']} pixels; text: {words}; joint space of {config['embed_dim']} numbers"


def _sizes(tower: Mapping[str, Any]) -> str:
    """Those that the config names; the others are open_clip's defaults."""
    return ", ".join(f"{name} {tower[name]}" for name in ("layers", "width", "patch_size") if name in tower)


def _usage(same: Mapping[str, bool]) -> str:
    differ = [f"{name} embeddings" for name, equal in same.items() if not equal]
    remark = (
        f"open_clip has no such pooling: its {' and '.join(differ)} are others, so use vlalign's."
        if differ
        else "open_clip gives the same embeddings."
    )
    return f"""```python
import vlalign

encoder = vlalign.load("<this folder>")
text = encoder.encode_text(encoder.tokenizer(["a photo of a dog"])).embedding_CD

import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:<this folder>")
```

{remark}"""


def _results(run: Path) -> str:
    """A table of the headline metrics that were measured, with what guessing scores."""
    found = dict(read_metrics(run))
    rows = ["| Metric | This run | Chance |", "|---|---|---|"]
    for metric in HEADLINE:
        if metric.path in found:
            chance = metric.chance(found)
            guessed = "" if chance is None else number(chance, digits=metric.digits)
            rows.append(f"| {metric.label} | {number(found[metric.path], digits=metric.digits)} | {guessed} |")
    if len(rows) == 2:
        raise VlalignError(f"{run} holds no metrics; evaluate the run first")
    return (
        "\n".join(rows)
        + "\n\nIn percent, but for the modality gap, which is the distance between the means of both kinds."
    )
