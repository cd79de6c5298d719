"""Adapters on frozen towers through the workflow: from another run's weights, and from packages."""

import json

import pytest
from repository import jobs, new_repository

from vlalign.evaluation.metrics import read_metrics
from vlalign.freshness import KINDS, imports, modules, reachable
from vlalign.models import load
from vlalign.records import read_record

pytestmark = pytest.mark.slow

# Pictures of 32 pixels, and 12 words: the real towers, at the size of the tests.
PAIR = "config/towers/small-pair.json"
ARMS = {
    "clip-cs": {
        "model": {"start": "clip", "adapters": {"dimension": 16, "hidden": 16}},
        "train": {"pairs": 16},
        "objective": {"cs": {"weight": 0.1, "unpaired": {"images": 4, "captions": 6}}},
    },
    "frozen-mmd": {
        "model": {
            "tower": PAIR,
            "image_weights": "package:efficientnet-lite0",
            "text_weights": "package:all-minilm-l6-v2",
            "pooling": "default",
            "adapters": {"dimension": 16, "hidden": 16},
        },
        "objective": {"mmd": {"weight": 0.1}},
    },
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    repository = new_repository(tmp_path_factory.mktemp("adapted") / "project")
    pair = json.loads((repository.root / "config/towers/frozen-pair.json").read_text())
    pair["model_cfg"]["vision_cfg"]["image_size"] = 32
    pair["model_cfg"]["text_cfg"]["context_length"] = 12
    (repository.root / PAIR).write_text(json.dumps(pair))
    runs = {"arms": ["clip", *ARMS], "seeds": [0], "ablations": []}
    repository.set_params({"runs": runs, "arms": ARMS, "focus": "clip", "train": {"steps": 6}})
    repository.run("snakemake", "--cores", "2", "all")
    return repository


def test_adapted_runs_are_runs_like_others(repository):
    for run in ARMS:
        folder = repository.root / "results/runs" / run / "seed-0"
        assert {path.name for path in folder.iterdir()} >= {"model.safetensors", "history.csv", "README.md", "metrics"}
        assert load(folder).adapters is not None
        found = read_metrics(folder)
        assert {"retrieval", "zeroshot", "composition", "modality", "transfer"} <= set(found)
        assert (
            found["grounding"].not_measured
            == "its adapters map pooled features alone, and not those of patches and words"
        )
    assert "frozen-mmd" in (repository.root / "results/report.html").read_text()


def test_afterwards_there_is_nothing_to_do_and_nothing_to_mend(repository):
    assert repository.plan() == set()
    assert "0 files to mend" in repository.run("vlalign", "check")


def test_a_damaged_feature_and_other_towers_are_found(repository, tmp_path):
    copy = repository.copy(tmp_path / "copy")
    feature = next((copy.root / "data/features/scenes/clip-seed-0/train").glob("*.arrow"))
    feature.write_bytes(feature.read_bytes()[:-1] + b"x")
    weights = copy.root / "results/runs/clip/seed-0/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    found = copy.attempt("vlalign", "check").stdout
    assert f"damaged\t{feature.relative_to(copy.root)}" in found
    assert "results/runs/clip-cs/seed-0 was started from other weights than those of results/runs/clip/seed-0" in found


def test_weights_lie_where_they_were(repository):
    runs = repository.root / "results/runs"
    assert all((runs / run / "seed-0/model.safetensors").stat().st_size < 300_000 for run in ARMS)
    assert load(runs / "clip-cs/seed-0").frozen.weights == runs / "clip/seed-0/model.safetensors"


def test_what_towers_give_for_evaluation_is_kept_for_further_runs_on_them(repository):
    kept = list((repository.root / "checkpoints/features").glob("*.safetensors"))
    assert kept
    before = {path: path.stat().st_mtime_ns for path in kept}
    repository.run("vlalign", "evaluate", "--run", "results/runs/clip-cs/seed-0", "--output", "elsewhere")
    repository.run("vlalign", "evaluate", "--run", "results/runs/clip/seed-0", "--output", "elsewhere/clip")
    after = {path: path.stat().st_mtime_ns for path in (repository.root / "checkpoints/features").glob("*.safetensors")}
    assert after == before, "nothing was computed again, and of a run that trains its towers nothing is kept"


@pytest.mark.parametrize("command", ["adapt", "features"])
def test_what_a_command_imports_is_in_its_digest(repository, command):
    plugins = [name for name in imports() if name.rpartition(".")[0] in KINDS.values()]
    known = modules(command) | reachable(imports(), *plugins)
    records = [json.loads(path.read_text()) for path in repository.imports.glob("*.json")]
    seen = [set(record["modules"]) for record in records if record["arguments"][1:2] == [command]]
    assert seen
    assert all(one <= known for one in seen)


def test_another_adapter_trains_itself_alone_and_encodes_nothing(repository):
    repository.set_params({"arms": {"clip-cs": {"model": {"adapters": {"hidden": 8}}}}})
    planned = repository.plan()
    assert {job for job in planned if job.split()[0] in ("adapt", "pretrain", "features")} == {
        "adapt run=clip-cs, seed=0"
    }
    repository.set_params({"arms": {"clip-cs": {"model": {"adapters": {"hidden": 16}}}}})


@pytest.mark.exhaustive
def test_other_towers_are_encoded_again(repository):
    repository.set_params({"arms": {"clip": {"train": {"steps": 7}}}})
    trained = {job for job in repository.plan() if job.split()[0] in ("adapt", "pretrain", "features")}
    assert trained == {
        "pretrain run=clip, seed=0",
        "features towers=clip-seed-0, split=train",
        "features towers=clip-seed-0, split=validation",
        "adapt run=clip-cs, seed=0",
    }
    before = read_record(repository.root / "data/features/scenes/clip-seed-0/train/manifest.json")
    made = jobs(repository.run("snakemake", "--cores", "2", "all"))
    assert trained <= made
    after = read_record(repository.root / "data/features/scenes/clip-seed-0/train/manifest.json")
    assert before["towers"]["weights"] != after["towers"]["weights"]
    assert repository.plan() == set()


def test_towers_that_go_on_from_another_run_wait_for_it(repository):
    further = {"model": {"start": "clip"}, "train": {"steps": 2}}
    runs = {"arms": ["clip", "further", *ARMS]}
    repository.set_params({"arms": {"further": further, "clip": {"train": {"steps": 8}}}, "runs": runs})
    assert {"pretrain run=clip, seed=0", "pretrain run=further, seed=0"} <= repository.plan()
    repository.run("snakemake", "--cores", "2", "results/runs/further/seed-0/run.json")
    record = read_record(repository.root / "results/runs/further/seed-0/run.json")
    clip = read_record(repository.root / "results/runs/clip/seed-0/run.json")
    assert record["inputs"]["start"] == clip["files"]["model.safetensors"]["sha256"]
    repository.set_params({"arms": {"clip": {"train": {"steps": 9}}}})
    assert "pretrain run=further, seed=0" in repository.plan()
