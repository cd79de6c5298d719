"""Snakemake and DVC over one DAG, on real repositories: what one has made, the other does not make again."""

import fcntl
import hashlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
import yaml
from repository import Repository, jobs

from vlalign.records import read_record

pytestmark = pytest.mark.slow

CLEAN = "Data and pipelines are up to date."
SUMMARIES = {"collect", "focus", "report"}
EXPERIMENTS = ["clip", "powerclip", "tau-0.1"]


def digest(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest(path) for path in folder.rglob("*") if path.is_file()}


def declared_outs(repository: Repository) -> set[str]:
    stages = yaml.safe_load((repository.root / "dvc.yaml").read_text())["stages"].values()
    return {name for stage in stages for kind in ("outs", "metrics") for out in stage.get(kind, []) for name in out}


def recorded_outs(repository: Repository, revision: str) -> dict[str, str]:
    """Path -> MD5 of what a revision's dvc.lock records."""
    lock = yaml.safe_load(repository.run("git", "show", f"{revision}:dvc.lock"))
    return {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}


def spoilt_objects(repository: Repository) -> list[str]:
    """Files of DVC's cache whose content is not what their name says."""
    objects = [path for path in (repository.root / ".dvc/cache/files/md5").glob("*/*") if path.is_file()]
    assert objects
    return [str(path) for path in objects if digest(path) != (path.parent.name + path.name).removesuffix(".dir")]


def test_after_snakemake_nothing_is_left_to_do_or_to_commit(finished):
    assert finished.plan() == set()
    assert finished.changes() == []


def test_dvc_versions_exactly_what_snakemake_makes(finished):
    table = finished.run("snakemake", "--summary", "all").splitlines()
    made = {Path(line.split("\t")[0]) for line in table if "\t" in line and not line.startswith("output_file")}
    versioned = {Path(out) for out in declared_outs(finished)} - {Path(".snakemake/metadata")}
    assert made
    assert {path for path in made if not versioned & {path, *path.parents}} == set()
    assert {out for out in versioned if not any(out in {path, *path.parents} for path in made)} == set()


def test_dvc_records_what_snakemake_has_made(finished, reproduced):
    recorded, printed = reproduced
    assert "Running stage 'workflow'" in printed
    assert jobs(printed) == set()
    for folder in ("results", ".snakemake/metadata"):
        assert contents(recorded.root / folder) == contents(finished.root / folder)
    assert recorded.run("git", "show", "--name-only", "--format=", "HEAD").split() == ["dvc.lock"]
    assert recorded.changes() == []
    assert CLEAN in recorded.run("dvc", "status")
    assert recorded.plan() == set()


def test_a_changed_value_runs_itself_and_what_summarises_it(recorded_copy):
    repository = recorded_copy
    others = contents(repository.root / "results/runs")
    [grid] = yaml.safe_load((repository.root / "params.yaml").read_text())["ablations"]
    repository.set_params({"ablations": [{**grid, "values": [0.001]}]})

    expected = {"pretrain run=tau-0.001, seed=0", "evaluate run=tau-0.001, seed=0", *SUMMARIES}
    assert repository.plan() == expected
    assert jobs(repository.run("dvc", "repro")) - {"all"} == expected

    assert repository.plan() == set()
    assert CLEAN in repository.run("dvc", "status")
    assert others.items() <= contents(repository.root / "results/runs").items()
    collected = read_record(repository.root / "results/metrics.json")
    assert {row["run"] for row in collected["rows"]} == {"clip", "powerclip", "tau-0.001"}
    assert spoilt_objects(repository) == []


def test_every_run_becomes_an_experiment(recorded):
    before = recorded.run("git", "for-each-ref", "refs/heads"), recorded.run("git", "symbolic-ref", "HEAD")
    recorded.run("vlalign", "experiments")

    assert recorded.changes() == []
    assert recorded.run("git", "stash", "list") == ""
    assert (recorded.run("git", "for-each-ref", "refs/heads"), recorded.run("git", "symbolic-ref", "HEAD")) == before
    assert CLEAN in recorded.run("dvc", "status")

    names = recorded.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    made = {name.rsplit("/", maxsplit=1)[1]: name for name in names if name.rsplit("/", maxsplit=1)[1] in EXPERIMENTS}
    assert sorted(made) == EXPERIMENTS
    ours = recorded_outs(recorded, "HEAD")
    for name in made.values():
        theirs = recorded_outs(recorded, name)
        assert {out: theirs[out] for out in ("data", "results")} == {out: ours[out] for out in ("data", "results")}

    assert "modality.mean_distance" in recorded.run("dvc", "metrics", "diff", "clip", "tau-0.1")
    assert "retrieval.text_to_image_r1" in recorded.run("dvc", "metrics", "show")
    assert "objective.powerset.tau" in recorded.run("dvc", "params", "diff", "powerclip", "tau-0.1")
    shown = recorded.run("dvc", "exp", "show", "--only-changed", "--no-pager")
    assert all(f"[{name}]" in shown for name in EXPERIMENTS)


def test_experiments_start_from_recorded_results_only(recorded_copy):
    recorded_copy.set_params({"focus": "clip"})
    result = recorded_copy.attempt("vlalign", "experiments")
    assert result.returncode == 1
    assert "uncommitted changes" in result.stdout
    assert "Traceback" not in result.stdout


def experiments_of(repository: Repository) -> dict[str, str]:
    """Commit of every experiment by its name."""
    listed = repository.run("git", "for-each-ref", "--format=%(refname) %(objectname)", "refs/exps").splitlines()
    return {name.rsplit("/", maxsplit=1)[1]: commit for name, commit in map(str.split, listed)}


@pytest.fixture
def without_experiments(recorded_copy) -> Repository:
    """Recorded results, and none of the experiments that other tests have made of them."""
    for name in recorded_copy.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").splitlines():
        recorded_copy.run("git", "update-ref", "-d", name)
    return recorded_copy


@pytest.mark.exhaustive
def test_killed_experiments_are_continued_and_leave_nothing_behind(without_experiments):
    repository = without_experiments
    others = repository.root / ".dvc/tmp/exps/standalone/tmp-of-somebody-else"
    others.mkdir(parents=True)
    (repository.root / "own").mkdir()
    (repository.root / "own" / "untracked.txt").touch()
    running = repository.start("vlalign", "experiments")
    deadline = time.monotonic() + 120
    while len(experiments_of(repository)) < 1 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(2)  # into the next one
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    before = experiments_of(repository)
    assert 0 < len(before) < len(EXPERIMENTS), "killed too early or too late"

    assert f"{len(before)} of 3 experiments exist already" in repository.run("vlalign", "experiments")
    after = experiments_of(repository)
    assert sorted(after) == EXPERIMENTS
    assert before.items() <= after.items(), "nothing is made twice"
    collected = read_record(repository.root / "results/metrics.json")
    means = {row["run"]: round(row["value"], 4) for row in collected["rows"] if row["metric"] == "mean_distance"}
    for name in ("powerclip", "tau-0.1"):
        diff = json.loads(repository.run("dvc", "metrics", "diff", "--json", "clip", name))
        found = diff["metrics.json"]["modality.mean_distance"]
        assert (found["old"], found["new"]) == (means["clip"], means[name])
    assert "Running" not in repository.run("dvc", "exp", "show", "--no-pager")
    assert others.is_dir()
    assert [path.name for path in (repository.root / ".dvc/tmp").glob("vlalign-experiments*")] == [
        "vlalign-experiments.lock"
    ]
    assert repository.changes() == ["?? own/"]


def test_one_call_makes_experiments_at_a_time(recorded_copy):
    lock = recorded_copy.root / ".dvc/tmp/vlalign-experiments.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        result = recorded_copy.attempt("vlalign", "experiments")
    assert result.returncode == 1
    assert "another `vlalign experiments` is at work" in result.stdout


@pytest.mark.exhaustive
def test_an_experiment_of_other_params_is_made_again(without_experiments):
    repository = without_experiments
    repository.run("vlalign", "experiments", "clip")
    [made] = experiments_of(repository).values()
    repository.run("git", "update-ref", f"refs/exps/{head(repository)}/tau-0.1", made)
    assert "experiments exist already" not in repository.run("vlalign", "experiments", "tau-0.1")
    assert experiments_of(repository)["tau-0.1"] != made


def head(repository: Repository) -> str:
    commit = repository.run("git", "rev-parse", "HEAD").strip()
    return f"{commit[:2]}/{commit[2:]}"


def test_results_travel_through_a_remote(recorded, tmp_path):
    recorded.run("git", "clone", "--quiet", recorded.root, tmp_path / "clone")
    clone = Repository(tmp_path / "clone")
    for repository in (recorded, clone):
        repository.run("dvc", "remote", "add", "--local", "--force", "--default", "store", tmp_path / "store")
    recorded.run("dvc", "push")
    clone.run("dvc", "pull")

    assert clone.plan() == set()
    assert CLEAN in clone.run("dvc", "status")
    assert clone.changes() == []


@pytest.mark.parametrize("link", ["hardlink", "symlink"])
def test_records_that_are_links_do_not_spoil_the_cache(recorded_copy, link):
    repository = recorded_copy
    repository.run("dvc", "config", "--local", "cache.type", link)
    repository.run("dvc", "checkout", "--relink")
    records = list((repository.root / ".snakemake/metadata").iterdir())
    assert all(record.is_symlink() or record.stat().st_nlink > 1 for record in records)

    repository.set_params({"focus": "clip"})
    assert jobs(repository.run("snakemake", "all")) - {"all"} == {"focus"}
    assert spoilt_objects(repository) == []


def test_a_killed_run_ends_with_the_same_weights(finished_copy):
    repository = finished_copy
    model = repository.root / "results/runs/powerclip/seed-0/model.safetensors"
    checkpoints = repository.root / "checkpoints/powerclip/seed-0"
    weights = digest(model)
    model.unlink()

    command = ["snakemake", str(model.relative_to(repository.root))]
    running = repository.start(*command)
    deadline = time.monotonic() + 120
    while not list(checkpoints.glob("step-*.pt")) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert list(checkpoints.glob("step-*.pt")), "killed too early or too late"
    assert not model.exists()

    assert "--unlock" in repository.attempt(*command).stdout
    repository.run("snakemake", "--unlock")
    assert jobs(repository.run(*command)) == {"pretrain run=powerclip, seed=0"}
    assert "continuing powerclip" in (repository.root / "logs/pretrain/powerclip/seed-0.log").read_text()
    assert digest(model) == weights


def test_how_a_run_is_watched_trains_nothing_again(finished_copy):
    finished_copy.set_params(
        {"runtime": {"checkpoint_every": 7, "log_every": 1, "validate_every": None, "trackers": ["tensorboard"]}}
    )
    assert finished_copy.plan() == set()


@pytest.mark.exhaustive
def test_two_processes_train_a_run_with_trackers(finished_copy):
    repository = finished_copy
    folder = repository.root / "results/runs/powerclip/seed-0"
    before = (folder / "history.csv").read_text().splitlines()
    (folder / "model.safetensors").unlink()
    repository.set_params({"runtime": {"trackers": ["dvclive", "tensorboard"], "workers": 1}})
    several = ("--set-resources", "pretrain:processes=2", "--set-threads", "pretrain=2", "--cores", "2")
    repository.run("snakemake", *several, "--", str((folder / "model.safetensors").relative_to(repository.root)))

    after = (folder / "history.csv").read_text().splitlines()
    column = before[0].split(",").index("loss")
    losses = [[float(line.split(",")[column]) for line in lines[1:]] for lines in (before, after)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    logs = repository.root / "logs/pretrain/powerclip/seed-0"
    assert list((logs / "tensorboard").glob("events*"))
    assert (logs / "dvclive" / "plots/metrics/loss.tsv").is_file()
    assert repository.changes() == [" M params.yaml"]


def test_an_overlay_stays_below_its_root(finished_copy):
    repository = finished_copy
    before = contents(repository.root)
    repository.run("snakemake", "--configfile", "config/test.yaml", "--", "data/scenes/train/manifest.json")

    after = contents(repository.root)
    assert "test-run/data/scenes/train/manifest.json" in after
    outside = {path for path in after.keys() - before.keys() if not path.startswith(("test-run/", ".snakemake/log/"))}
    assert outside == set()
    assert {path for path in before if after[path] != before[path]} == set()
    assert repository.plan() == set()


@pytest.mark.parametrize(
    ("change", "rules"),
    [
        ({"runtime": {"parts": 3}}, set()),
        ({"runtime": {"workers": 2, "cache_mib": 10, "log_every": 5}}, set()),
        ({"annotate": {"regions": {"batch_size": 4}}}, set()),
        ({"annotate": {"parser": {"batch_size": 100, "max_skipped": 5, "device": "cpu"}}}, set()),
    ],
)
def test_how_steps_work_trains_nothing_again(finished, tmp_path, change, rules):
    (tmp_path / "change.yaml").write_text(yaml.safe_dump(change))
    printed = finished.run("snakemake", "--dry-run", "--configfile", tmp_path / "change.yaml", "--", "all")
    assert {job.split(" ")[0] for job in jobs(printed)} - {"all"} == rules
