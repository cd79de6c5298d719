"""A whole workspace in seconds: every kind of file that the workflow writes, by the functions that its rules call."""

import json
from pathlib import Path

from annotated_scenes import parsed, write_phrases
from training_runs import TOWER

from vlalign.analysis.illustrations import shown_runs
from vlalign.analysis.precision import precision_rows, write_precision
from vlalign.annotate.phrases.stanza_models import write_model_manifest
from vlalign.annotate.regions.annotation import annotate_split
from vlalign.data.scenes.dataset import build
from vlalign.data.shards.split import read_split
from vlalign.evaluation.run import evaluate
from vlalign.models import load
from vlalign.params import PrecisionParams, RegionsParams, ReportParams, Run, RunParams, RuntimeParams, ScenesParams
from vlalign.reporting.card import write_card
from vlalign.reporting.collect import collect_metrics, focus_files
from vlalign.reporting.illustrate import illustrate
from vlalign.reporting.report import write_report
from vlalign.reporting.results import read_run, run_params, weights_by_place
from vlalign.training.data.inputs import Inputs
from vlalign.training.pretrain import Places, pretrain

SCENES = ScenesParams(
    images={"train": 12, "validation": 12, "test": 12}, image_size=32, captions=1, classes=6, zeroshot_images=12,
    composition_items=1,
)  # fmt: skip
PARAMS = {
    "model": {"tower": TOWER},
    "train": {"steps": 3, "batch_size": 4},
    "objective": {"powerset": {"weight": 1.0}},
}
REPORT = ReportParams(figures=("differences", "embeddings", "grounding", "precision", "similarity", "training"))
# params.yaml of it.
WHOLE = {
    **PARAMS,
    "focus": "powerclip",
    "runs": {"arms": ["powerclip"], "seeds": [0]},
    "datasets": {"scenes": SCENES.model_dump(mode="json")},
    "arms": {"powerclip": {}},
    "report": {"baseline": "powerclip", "control": "powerclip"},
}
RUN, DATA, ANNOTATIONS = Path("results/runs/powerclip/seed-0"), Path("data/scenes"), Path("data/annotations/scenes")


def write_workspace(root: Path) -> None:
    """Write it; the checkpoint of the last step stays, as in a workspace whose run was stopped."""
    build(root / DATA, SCENES)
    (root / "params.yaml").write_text(json.dumps(WHOLE))
    for split in ("train", "validation", "test"):
        samples = {sample.key: list(parsed(sample)) for sample in read_split(root / DATA / split)}
        write_phrases(root / ANNOTATIONS / "phrases" / split, samples, per_shard=len(samples))
        annotate_split(root / DATA / split, root / ANNOTATIONS / "regions" / split, RegionsParams())
    (root / "data/parser/en/pos").mkdir(parents=True)
    (root / "data/parser/en/pos/tiny.pt").write_bytes(bytes(range(256)) * 8)
    packages = {"pos": "tiny", "constituency": "tiny"}
    write_model_manifest(root / "data/parser", language="en", packages=packages, source="train")
    _train(root)
    run = root / RUN
    evaluate(run, data=root / DATA, annotations=root / ANNOTATIONS)
    write_card(run)
    results = root / "results"
    collect_metrics([run], results / "metrics.json")
    few = PrecisionParams(taus=(0.1,), zetas=(0.5,), regions=(2,), samples=(4,), pairs=4)
    powerset = run_params(read_run(run)).objective.powerset
    rows = precision_rows(load(run), powerset, root / DATA / "validation", root / ANNOTATIONS, few)
    write_precision(rows, results / "precision.csv", weights=weights_by_place([run]))
    shown = {"data": root / DATA, "annotations": root / ANNOTATIONS, "split": "test", "compared": ("powerclip",)}
    illustrate(REPORT.figures, shown_runs({"powerclip": run}, **shown), results / "figures")
    write_report(
        results / "metrics.json",
        [run],
        params=REPORT,
        precision=results / "precision.csv",
        figures=results / "figures",
        tables=results / "tables",
        output=results / "report.html",
        manifests=[root / DATA / "train/manifest.json"],
    )
    focus_files(results / "metrics.json", run, root)


def _train(root: Path) -> None:
    annotated = (root / ANNOTATIONS / kind / "train" for kind in ("phrases", "regions"))
    inputs = Inputs(root / DATA / "train", *annotated, root / DATA / "validation")
    run = Run("powerclip", RunParams.model_validate(PARAMS), "powerclip")
    places = Places(root / RUN, root / "checkpoints/powerclip/seed-0")
    pretrain(run, seed=0, inputs=inputs, places=places, runtime=RuntimeParams(keep_every=3))
