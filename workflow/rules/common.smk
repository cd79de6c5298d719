"""What the rules share: checked params, names of files, and pure input functions."""

import json
import os
from pathlib import Path

from snakemake.exceptions import WorkflowError

from vlalign import params as parameters
from vlalign.errors import VlalignError

try:
    PARAMS = parameters.parse(config, source="params.yaml with its overlays")
except VlalignError as error:
    raise WorkflowError(str(error)) from None

REPOSITORY = Path.cwd()


workdir: PARAMS.root


SPLITS = ["train", "validation", "test"]
HELD_OUT = ["validation", "test"]
RUNS = PARAMS.all_runs
SELECTED = [(name, seed) for name, run in RUNS.items() for seed in run.seeds]
BENCHMARKS = PARAMS.evaluation.benchmarks
GRIDS = PARAMS.runs.ablations
# What the figures are about: the first arm with a powerset, whatever is in focus, so that a change of focus redoes nothing.
SUBJECT = next((name for name in PARAMS.runs.arms if RUNS[name].params.objective.powerset.weight), PARAMS.runs.arms[0])
FOCUS_FILES = ["metrics.json", "focus.json", "focus.csv"]
RUN_FILES = ["model.safetensors", "open_clip_config.json", "history.csv", "run.json"]


wildcard_constraints:
    split="|".join(SPLITS),
    run="|".join(re.escape(name) for name in RUNS),
    seed=r"\d+",


def detach_records():
    """Snakemake rewrites its records in place; a link into DVC's cache would be corrupted by that."""
    for record in Path(".snakemake/metadata").rglob("*"):
        if record.is_file() and (record.is_symlink() or record.stat().st_nlink > 1):
            content = record.read_bytes()
            record.unlink()
            record.write_bytes(content)


detach_records()


def as_json(value):
    """Params in the form in which a rule records them: equal params give equal text."""
    return json.dumps(value.model_dump(mode="json") if hasattr(value, "model_dump") else value, sort_keys=True)


# How runs are carried out; see `RuntimeParams`.
RUNTIME = as_json(PARAMS.runtime)

# What reads shards.
READING = [f"data/{name}" for name in ("index", "samples", "shards", "skips", "splits")]

# What turns a trained model and annotated data into features.
ENCODING = [
    "models/*",
    "objectives/*",
    *READING,
    "data/transforms",
    "annotate/phrases",
    "annotate/tokens",
    "annotate/regions",
    "annotate/tables",
]


def code(*patterns, without=()):
    """Files of the package, relative to the working directory: an edit reruns the rules that use them."""
    source = REPOSITORY / "src" / "vlalign"
    wanted, unwanted = ({file for name in names for file in source.glob(f"{name}.py")} for names in (patterns, without))
    assert wanted - unwanted, f"no code matches {patterns}"
    return [os.path.relpath(file) for file in sorted(wanted - unwanted)]


def run_folder(run, seed):
    return f"results/runs/{run}/seed-{seed}"


def run_files(run, seed):
    return [f"{run_folder(run, seed)}/{name}" for name in RUN_FILES]


def metric_files(run, seed):
    return [f"{run_folder(run, seed)}/metrics/{name}.json" for name in BENCHMARKS]


def run_config(wildcards):
    return as_json(RUNS[wildcards.run].config())


def pretrained_weights(wildcards):
    """The file of weights that a run starts from, if it is one."""
    weights = RUNS[wildcards.run].params.model.pretrained
    return [weights] if weights and Path(weights).is_file() else []


def annotations_of_run(wildcards):
    """The powerset loss reads phrases and regions; other runs start without them."""
    if not RUNS[wildcards.run].params.objective.powerset.weight:
        return {}
    return {kind: f"data/annotations/{kind}/train/manifest.json" for kind in ("phrases", "regions")}


def annotation_options(wildcards, input):
    """--phrases FOLDER --regions FOLDER, where the run needs them."""
    kinds = (kind for kind in ("phrases", "regions") if kind in input.keys())
    return " ".join(f"--{kind} {Path(input[kind]).parent}" for kind in kinds)


def run_options(selected):
    """--run FOLDER for every run and seed."""
    return " ".join(f"--run {run_folder(run, seed)}" for run, seed in selected)


TEMPLATES = sorted(
    os.path.relpath(path)
    for pattern in ("templates/*", "published.yaml")
    for path in (REPOSITORY / "src" / "vlalign" / "reporting").glob(pattern)
)
