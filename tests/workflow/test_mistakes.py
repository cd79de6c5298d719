"""Mistakes in the params end the workflow before it writes anything, with a message that names the key."""

import re

import pytest
import yaml
from repository import new_repository

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"train": {"stepz": 4}}, "train.stepz: unknown key"),
        ({"objective": {"powerset": {"tau": 0}}}, "objective.powerset.tau: "),
        ({"objective": {"powerset": {"regions": {"count": 0}}}}, "objective.powerset.regions.count: "),
        ({"runs": {"arms": ["clip", "clup"]}}, "runs.arms: 'clup' is not one of"),
        ({"model": {"tower": "config/towers/none.json"}}, "model.tower: "),
    ],
)
def test_params_that_cannot_be(fresh, tmp_path, params, message):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(params))
    result = fresh.attempt("snakemake", "--configfile", overlay, "--", "all")
    assert result.returncode != 0
    assert message in result.stdout
    assert "Traceback" not in result.stdout
    assert written(fresh) == set()


def test_an_overlay_that_is_missing(fresh):
    result = fresh.attempt("snakemake", "--configfile", "config/none.yaml", "--", "all")
    assert result.returncode != 0
    assert "config/none.yaml" in result.stdout
    assert written(fresh) == set()


@pytest.mark.parametrize("root", [".", "own"])
def test_a_failed_step_shows_its_own_message(tmp_path, root):
    repository = new_repository(tmp_path / "project")
    (repository.root / "captions.csv").write_text("image,text\na.png,a dog\n")
    mine = {"train": {"source": "table", "table": "captions.csv"}, "hold_out": {"validation": 0.2, "test": 0.2}}
    repository.set_params({"root": root, "dataset": "mine", "datasets": {"mine": mine}})
    # In place of the environment that `make` would install.
    (repository.root / ".venv").mkdir()
    (repository.root / ".venv" / ".ready").touch()
    result = repository.attempt("make", "all")
    assert result.returncode != 0
    shown = re.search(r"^(\S+) ends with:\n    error: (.*)", result.stdout, flags=re.MULTILINE)
    assert shown, result.stdout
    assert (repository.root / shown[1]).read_text().endswith(f"{shown[2]}\n"), "a path from where the user stands"
    assert "captions.csv has no column 'caption'" in shown[2]
    assert "Host: " not in result.stdout


def written(repository) -> set[str]:
    """Files that are not in the commit, ignored ones too, but for the caches of Snakemake and Python."""
    lines = repository.run("git", "status", "--porcelain", "--ignored").splitlines()
    return {line[3:] for line in lines if "__pycache__" not in line} - {".snakemake/"}
