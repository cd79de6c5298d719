"""Mistakes in the params end the workflow before it writes anything, with a message that names the key."""

import re

import pytest
import yaml
from repository import new_repository

pytestmark = pytest.mark.slow

PETS = {split: {"source": "folder", "folder": "pets"} for split in ("train", "validation", "test")}


def bomb(first, opening, item, closing):
    """Forty anchors, each with nine aliases of the one before."""
    lines = [f"a0: &a0 {first}"]
    for number in range(1, 40):
        items = ", ".join(item.format(key=key, number=number - 1) for key in range(9))
        lines.append(f"a{number}: &a{number} {opening}{items}{closing}")
    return "\n".join(lines).encode()


LISTS, MAPPINGS = bomb("[x]", "[", "*a{number}", "]"), bomb("{x: 1}", "{", "k{key}: *a{number}", "}")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"train": {"stepz": 4}}, "train.stepz: unknown key"),
        ({"objective": {"powerset": {"tau": 0}}}, "objective.powerset.tau: "),
        ({"objective": {"powerset": {"regions": {"count": 0}}}}, "objective.powerset.regions.count: "),
        ({"runs": {"arms": ["clip", "clup"]}}, "runs.arms: 'clup' is not one of"),
        ({"model": {"tower": "config/towers/none.json"}}, "model.tower: "),
        ({"train": {"steps": 10**32}}, "train.steps: "),
        ({"root": "README.md"}, "root: README.md cannot be made, since README.md is no folder"),
        ({"root": "README.md/below"}, "root: README.md/below cannot be made, since "),
        ({"datasets": {"mine": PETS}}, "datasets.mine: train: a folder of classes has no captions"),
    ],
)
def test_params_that_cannot_be(fresh, tmp_path, params, message):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(params))
    refused(fresh, message, "--configfile", overlay)


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        (b"train:\n  steps: 4\n  steps: 5\n", "overlay.yaml, line 3: train.steps stands there twice, first on line 2"),
        (LISTS, "overlay.yaml, line 6: more than 100,000 values"),
        (b"a: " + b"[" * 60 + b"]" * 60, "overlay.yaml, line 1: values more than 50 levels deep"),
        (b"dataset: 2020-01-01", "overlay.yaml, line 1: dataset is read as a timestamp"),
    ],
)
def test_overlays_that_snakemake_would_take(fresh, tmp_path, overlay, message):
    (tmp_path / "overlay.yaml").write_bytes(overlay)
    refused(fresh, message, "--configfile", tmp_path / "overlay.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"focus: a\nfocus: b\n", "params.yaml, line 2: focus stands there twice, first on line 1"),
        (MAPPINGS, "params.yaml, line 6: more than 100,000 values"),
        (b"[" * 100_000, "params.yaml, line 1: values more than 50 levels deep"),
        ("focus: clip".encode("utf-16"), "params.yaml is not text in UTF-8"),
        (b"- focus", "params.yaml is not a YAML mapping"),
        (b"__use_yte__: true\nfocus: ?open('ran', 'w').write('')\n", "__use_yte__ lets Snakemake run"),
    ],
)
def test_params_that_are_no_params(fresh, content, message):
    path = fresh.root / "params.yaml"
    before = path.read_bytes()
    path.write_bytes(content)
    try:
        refused(fresh, message, also={"params.yaml"})
    finally:
        path.write_bytes(before)


def test_what_the_command_line_says_still_counts(fresh, tmp_path):
    (tmp_path / "overlay.yaml").write_text("focus: clup\n")
    command = ("snakemake", "--dry-run", "--configfile", tmp_path / "overlay.yaml", "--config", "focus=clip")
    assert "This was a dry-run" in fresh.run(*command, "--", "all")
    refused(fresh, "focus: 'clup' is not one of", "--configfile", tmp_path / "overlay.yaml")


def refused(repository, message, *options, also=frozenset()):
    """Snakemake ends with this message and writes nothing."""
    result = repository.attempt("timeout", "60", "snakemake", *options, "--", "all")
    assert result.returncode == 1, result.stdout
    assert message in result.stdout
    assert "Traceback" not in result.stdout
    assert written(repository) == also


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
