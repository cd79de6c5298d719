"""What the rules share: checked params, names of files, and pure input functions."""

import json
import os
import shlex
from base64 import urlsafe_b64encode
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import WorkflowError

from vlalign import freshness
from vlalign import params as parameters
from vlalign.check import dangling_links
from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import known_benchmarks, manifest_of
from vlalign.params.data import CLASS_FILES, SCENE_CATEGORIES
from vlalign.params.sources import FetchedSource, InPlaceSource, PackedSource
from vlalign.previous import forget, set_aside
from vlalign.redact import redacted
from vlalign.versions import check_versioned

# Read as the commands read them. Snakemake has read the overlays already: its reader lets the last of two keys win, knows
# no `extends`, expands every alias, and runs files that ask for it. Only `vlalign validate` looks before.
FILES = ["params.yaml", *map(os.path.relpath, workflow.configfiles)]
CHANGES = parameters.written_changes(workflow.config_settings.config)
try:
    if any(redacted(change) != change for change in CHANGES):
        raise VlalignError(
            "--config has a login, a signature or a token, which everyone sees; write it into an overlay"
        )
    PARAMS = parameters.load(*FILES, *CHANGES)
    parameters.check_root(PARAMS)
except VlalignError as error:
    raise WorkflowError(str(error)) from None

REPOSITORY = Path.cwd()
# Whether DVC runs this, and records what comes out.
if "DVC_STAGE" in os.environ:
    try:
        check_versioned(PARAMS, Path("dvc.yaml"))
    except VlalignError as error:
        raise WorkflowError(str(error)) from None


workdir: PARAMS.root


def relevant(step, **which):
    """What a step's result depends on, in the form in which its rule records it: equal params give equal text."""
    return json.dumps(parameters.relevant(PARAMS, step, **which), sort_keys=True)


def digest(step, **which):
    """By which a command sees that a params file was edited since."""
    return parameters.digest(parameters.relevant(PARAMS, step, **which))


# An edit of the files must not send to another folder what a queued job makes.
PLACE = parameters.written_changes({"root": PARAMS.root, "dataset": PARAMS.dataset})
GIVEN = [*(os.path.relpath(REPOSITORY / file) for file in FILES), *CHANGES, *PLACE]
GIVEN = shlex.join(part for given in GIVEN for part in ("--params", given))
STEPS = "dataset parser phrases regions verify evaluate precision illustrate report suites focus".split()
TOLD = {step: f"{GIVEN} --digest {digest(step)}" for step in STEPS}
SPLITS = ["train", "validation", "test"]
HELD_OUT = ["validation", "test"]
SCENES = isinstance(PARAMS.data, parameters.ScenesParams)
FOLDERS = parameters.Folders.of(Path(), PARAMS.dataset)
DATA, ANNOTATIONS = str(FOLDERS.data), str(FOLDERS.annotations)
SOURCES = PARAMS.sources
CLASSES = [f"zeroshot/{split}" for split in HELD_OUT if SCENES or f"zeroshot/{split}" in SOURCES]
UNPAIRED = [split for split in SOURCES if split.startswith("unpaired/")]
COMPOSITION = [f"composition/{split}" for split in HELD_OUT if SCENES]
MANIFESTS = [f"{DATA}/{split}/manifest.json" for split in (*SPLITS, *CLASSES, *COMPOSITION, *UNPAIRED)]
PARTED = [f"{DATA}/train", f"{ANNOTATIONS}/phrases/train", f"{ANNOTATIONS}/regions/train"]
PARTS = [f"{part}-of-{PARAMS.runtime.parts}" for part in range(PARAMS.runtime.parts)]
RUNS = PARAMS.all_runs
SELECTED = [(name, seed) for name, run in RUNS.items() for seed in run.seeds]
BENCHMARKS = PARAMS.benchmarks
KINDS = {name: known_benchmarks()[name] for name in BENCHMARKS}
# (kind of data, split) of all that the benchmarks read.
MEASURED_ON = {item for one in KINDS.values() for item in one.needs.data(PARAMS.evaluation.split, PARAMS.data.has)}
MEASURED_ON = sorted(MEASURED_ON)
# What the report and the focus show of them: what they compute, the rule `evaluate` depends on.
DECLARED = {name: [asdict(one) for one in (*kind.metrics, *kind.tables)] for name, kind in KINDS.items()}
DECLARED = json.dumps(DECLARED, sort_keys=True)
# What the figures are about: the first arm with phrases, whatever is in focus, so that a change of focus redoes nothing.
NEEDS = {name: run.params.needs for name, run in RUNS.items()}
SUBJECT = next((name for name in PARAMS.runs.arms if NEEDS[name].phrases), PARAMS.runs.arms[0])
# How far the published aggregators are from exact scores is asked of the first arm that trains with them, if there is one.
PRECISION_OF = (name for name in PARAMS.runs.arms if RUNS[name].params.objective.powerset.aggregator == "nla")
PRECISION_OF = next((name for name in PRECISION_OF if NEEDS[name].phrases), SUBJECT)
# The training split is annotated where an objective asks for it; phrases of the others are evaluated and drawn.
USED = {kind for needs in NEEDS.values() for kind in needs.folders}
ANNOTATED = {
    "phrases": SPLITS if SCENES or "phrases" in USED else HELD_OUT,
    "regions": SPLITS if SCENES or "regions" in USED else [],
}
# Names of classes and templates of prompts: the embedded dataset has one set for both splits.
CLASS_LISTS = [f"{DATA}/{folder}/{name}" for folder in (["zeroshot"] if SCENES else CLASSES) for name in CLASS_FILES]
CATEGORIES = [f"{DATA}/{split}/{category}.json" for split in COMPOSITION for category in SCENE_CATEGORIES]
# Finished results have a second name here while the workflow runs.
PREVIOUS = Path("checkpoints") / "previous"
FOCUS_FILES = ["metrics.json", "focus.json", "focus.csv"]
RUN_FILES = ["model.safetensors", "open_clip_config.json", "history.csv", "run.json"]


def one_of(names):
    """As a constraint of a wildcard; one that nothing fulfils where there are none."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    split="|".join([*SPLITS, *CLASSES, *UNPAIRED]),
    part=r"\d+-of-\d+",
    run=one_of(RUNS),
    seed=r"\d+",


rule parts:
    input:
        lambda wildcards: [f"{wildcards.folder}/parts/{part}.json" for part in PARTS],
    output:
        temp(touch("{folder}/parts/done")),
    wildcard_constraints:
        folder="|".join(PARTED),


def detach_records():
    """Snakemake rewrites its records in place; a link into DVC's cache would be corrupted by that."""
    for record in Path(".snakemake/metadata").rglob("*"):
        if record.is_file() and (record.is_symlink() or record.stat().st_nlink > 1):
            content = record.read_bytes()
            record.unlink()
            record.write_bytes(content)


detach_records()


def forget_parts():
    """Snakemake has recorded the parts that were gathered: another number of them is no reason to do any again."""
    for folder in PARTED:
        record = Path(".snakemake/metadata", urlsafe_b64encode(f"{folder}/parts/done".encode()).decode())
        if record.is_file() and len(json.loads(record.read_text())["input"]) != len(PARTS):
            record.unlink()


forget_parts()


def clear_dangling_links():
    """A link whose target is gone, as after `dvc checkout` from a damaged cache, counts as a missing file."""
    gone = dangling_links(Path())
    for path in gone:
        path.unlink()
    if gone:
        logger.warning(
            f"Removed {len(gone)} links to files that are gone, first {gone[0]}: what they were is made again. "
            "`vlalign check` tells whether more is damaged."
        )


clear_dangling_links()


def code(command, **plugins):
    """The digest of the code that a command depends on, as a param: an edit there reruns the rules that call it."""
    try:
        return freshness.digest(command, **plugins)
    except VlalignError as error:
        raise WorkflowError(str(error)) from None


def plugins_of(runs):
    """The plug-ins that the params of runs name, by kind."""
    found = {}
    for run in runs:
        for kind, names in RUNS[run].plugins.items():
            found.setdefault(kind, set()).update(names)
    return found


def run_folder(run, seed):
    return str(FOLDERS.run(run, seed))


def run_files(run, seed):
    return [f"{run_folder(run, seed)}/{name}" for name in RUN_FILES]


METRIC_FILES = [*(f"{name}.json" for name in BENCHMARKS), "items.safetensors", "evaluation.json"]


def metric_files(run, seed):
    return [f"{run_folder(run, seed)}/metrics/{name}" for name in METRIC_FILES]


# What every run and model is measured on beside the dataset; of what is absent, the tables say so.
CARDS = PARAMS.cards
CELLS = [
    (task, card.name)
    for task, card in PARAMS.evaluation.cells()
    if not PARAMS.evaluation.absent(card, FOLDERS.cards / card.name, task, files=REPOSITORY / PARAMS.evaluation.files)
]


def cell_files(folder, task, card):
    return [
        f"{folder}/benchmarks/{task}/{card}/{name}" for name in (f"{task}.json", "items.safetensors", "evaluation.json")
    ]


def all_cells(folder):
    return [path for task, card in CELLS for path in cell_files(folder, task, card)]


def model_folder(name):
    return str(FOLDERS.model(name))


# All that is measured of models: on the dataset, and on cards.
MODEL_METRICS = [f"{model_folder(name)}/metrics/{file}" for name in PARAMS.models for file in METRIC_FILES]
MEASURED = [run_folder(*one) for one in SELECTED] + [model_folder(name) for name in PARAMS.models]
CELL_FILES = [path for folder in MEASURED for path in all_cells(folder)]


def measured_data(wildcards):
    """What the benchmarks of the dataset read."""
    read = [manifest_of(kind, split, data=Path(DATA), annotations=Path(ANNOTATIONS)) for kind, split in MEASURED_ON]
    lists = CLASS_LISTS if "classes" in dict(MEASURED_ON) else []
    return read + lists + (CATEGORIES if "composition" in dict(MEASURED_ON) else [])


def weights_before(run, seed):
    """The files of weights that a run starts from, if there are any: those of another run, or of others."""
    model = RUNS[run].params.model
    named = (model.pretrained, model.image_weights, model.text_weights)
    files = [weights for weights in named if weights and Path(weights).is_file()]
    return files + ([f"{run_folder(model.start, seed)}/model.safetensors"] if model.start else [])


def inputs_of_run(wildcards):
    """The manifests of what a run reads."""
    folders = FOLDERS.inputs(NEEDS[wildcards.run])
    return {name: f"{folder}/manifest.json" for name, folder in folders.items()}


def parts_of_split(folder):
    """The training split is dealt with in parts before it is gathered. They are forgotten afterwards, so that how many
    there were changes nothing, and only a gathering that is due asks for them.
    """

    def done(wildcards):
        return [f"{folder}/train/parts/done"] if wildcards.split == "train" else []

    return done


def run_options(selected):
    """--run FOLDER for every run and seed."""
    return " ".join(f"--run {run_folder(run, seed)}" for run, seed in selected)
