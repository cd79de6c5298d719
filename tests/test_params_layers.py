"""Params laid over each other: what files extend, what is given by hand, and that all who read them see the same."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from repository import PROJECT, new_repository
from typer.testing import CliRunner

from vlalign import cli, params
from vlalign.cli.options import given
from vlalign.errors import VlalignError

CONFIG = sorted(path.relative_to(PROJECT) for path in (PROJECT / "config").rglob("*.yaml"))
# The cards of benchmarks are no params.
OVERLAYS = [path for path in CONFIG if "benchmarks" not in path.parts]


@pytest.fixture(autouse=True)
def _repository(monkeypatch):
    monkeypatch.chdir(PROJECT)


def write(folder, **files):
    """Params files of these names, in a folder."""
    for name, values in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
    return folder / f"{next(iter(files))}.yaml"


def train(*files):
    return params.load("params.yaml", *files).train


def test_a_file_stands_on_what_it_extends(tmp_path):
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", base={"train": {"steps": 7, "batch_size": 8, "warmup": 0.5}})
    top = write(tmp_path, top={"extends": "below/base.yaml", "train": {"steps": 9}})
    assert (train(top).steps, train(top).batch_size, train(top).warmup) == (9, 8, 0.5)
    assert train(top, write(tmp_path, last={"train": {"batch_size": 16}})).batch_size == 16


def test_of_several_the_later_ones_win_and_each_counts_once(tmp_path):
    write(tmp_path, base={"train": {"steps": 1, "warmup": 0.1}})
    for name, steps in (("one", 2), ("two", 3)):
        write(tmp_path, **{name: {"extends": "base.yaml", "train": {"steps": steps}}})
    assert train(write(tmp_path, top={"extends": ["one.yaml", "two.yaml"]})).steps == 3
    # The base, which `two` extends too, does not come over `one` again.
    write(tmp_path, two={"extends": "base.yaml"})
    assert train(tmp_path / "top.yaml").steps == 2
    assert train(tmp_path / "one.yaml", tmp_path / "two.yaml").steps == 2


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("top.yaml", r"top\.yaml extends \S*top\.yaml: a circle"),
        ("middle.yaml", r"top\.yaml extends \S*middle\.yaml extends \S*top\.yaml: a circle"),
        ("absent.yaml", r"absent\.yaml does not exist; .*\(\S*top\.yaml extends it\)"),
        ("odd.yaml", r"odd\.yaml, line 1: .* more than 10,000 characters.*\(\S*top\.yaml extends it\)"),
        (3, r"top\.yaml: extends: 3 names no file"),
        (["middle.yaml", {}], r"top\.yaml: extends: "),
        ("", r"top\.yaml: extends: \[''\] names no file"),
    ],
)
def test_what_cannot_be_extended_is_named(tmp_path, extends, message):
    write(tmp_path, middle={"extends": "top.yaml"}, odd={"a": "x" * 10_001})
    with pytest.raises(VlalignError, match=message):
        params.load("params.yaml", write(tmp_path, top={"extends": extends}))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("train.steps=50", {"train": {"steps": 50}}),
        ("train.learning_rate=1e-3", {"train": {"learning_rate": "1e-3"}}),
        ("train.epochs=", {"train": {"epochs": None}}),
        ("train.compile=true", {"train": {"compile": True}}),
        ("runs.arms=[clip, cs]", {"runs": {"arms": ["clip", "cs"]}}),
        ("train={steps: 5, betas: [0.9, 0.95]}", {"train": {"steps": 5, "betas": [0.9, 0.95]}}),
        ("root=a=b", {"root": "a=b"}),
    ],
)
def test_a_value_by_hand_is_yaml(text, values):
    assert params.read_change(text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.steps", "'train.steps' changes no param; write KEY=VALUE, such as train.steps=50"),
        ("=5", "'=5' changes no param"),
        ("train..steps=5", "'train..steps=5' changes no param"),
        ("train.steps=[", "did not find expected node content"),
        ("train.steps=!!python/name:os.system x", "train.steps=...: line 1: the tag"),
        ("train={steps: 1, steps: 2}", "train=...: line 1: train.steps stands there twice"),
        ("train.steps=" + "9" * 101, "train.steps=...: line 1: train.steps is a number of more than 100 digits"),
        ("a=" + "[" * 60 + "]" * 60, "more than 50 levels deep"),
    ],
)
def test_a_damaged_value_by_hand_is_named(text, message):
    with pytest.raises(VlalignError, match=re.escape(message)):
        params.read_change(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.stepz=50", "train.stepz: unknown key; nearest: steps"),
        ("trian.steps=50", "trian: unknown key; nearest: train"),
        ("arms.clip.objectiv={}", "arms.clip.objectiv: unknown key; nearest: objective"),
        ("objective.powerset.regions.cuont=5", "objective.powerset.regions.cuont: unknown key; nearest: count"),
        ("train.steps=many", "train.steps: Input should be a valid integer"),
        ("train.steps.more=1", "train.steps: Input should be a valid integer"),
    ],
)
def test_a_mistake_by_hand_names_the_key(text, message):
    with pytest.raises(VlalignError, match=re.escape(message)):
        params.load("params.yaml", text)


def test_values_are_written_as_they_are_read():
    values = {"root": "a b", "train": {"steps": 5, "augment": None, "betas": [0.9, 0.95]}, "focus": "1", "odd": "a: [b"}
    texts = params.written_changes(values)
    assert "root=a b" in texts
    assert params.merged({}, *map(params.read_change, texts)) == values


def test_paths_count_from_the_folder_of_the_first_file(tmp_path, monkeypatch):
    here = params.load("params.yaml", "config/test.yaml")
    monkeypatch.chdir(tmp_path)
    assert params.load(PROJECT / "params.yaml", PROJECT / "config" / "test.yaml") == here


@pytest.mark.parametrize("root", ["demo", ".", "/elsewhere"])
def test_folders_are_seen_from_where_the_command_runs(tmp_path, monkeypatch, root):
    folder = tmp_path / root
    folder.mkdir(exist_ok=True) if root != "/elsewhere" else None
    files = [str(PROJECT / "params.yaml"), f"root={folder}"]
    assert given(files).folders.data == folder / "data" / "scenes"
    if folder.is_dir():
        monkeypatch.chdir(folder)
        assert given(files).folders.data == Path("data") / "scenes", "as rules name it"


# What the workflow has, and how it tells its commands.
SEEN = """
include: "rules/common.smk"
seen = {"params": PARAMS.model_dump(mode="json"), "options": GIVEN, "folder": os.getcwd(), "told": TOLD}
Path(REPOSITORY / "seen.json").write_text(json.dumps(seen))
rule all:
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    found = new_repository(tmp_path_factory.mktemp("seen"))
    (found.root / "workflow" / "seen.smk").write_text(SEEN)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("overlay", OVERLAYS, ids=str)
@pytest.mark.parametrize("config", [[], ["--config", "runs={seeds: [7]}", "train={warmup: 1.0e-3}"]])
def test_commands_see_what_the_workflow_sees(repository, monkeypatch, overlay, config):
    overlays = ["--configfile", str(overlay)]
    repository.run("snakemake", "--snakefile", "workflow/seen.smk", "--dry-run", *overlays, *config)
    seen = json.loads((repository.root / "seen.json").read_text())
    monkeypatch.chdir(seen["folder"])
    files = [word for word in shlex.split(seen["options"]) if word != "--params"]
    found = given(files)
    assert found.params.model_dump(mode="json") == seen["params"]
    assert found.folders.root == Path()
    assert (found.params.train.warmup == 1e-3) == bool(config)
    for step, options in seen["told"].items():
        digest = options.split(" --digest ")[1]
        found.agree(digest, step)
        with pytest.raises(VlalignError, match="no longer those that the workflow was started with"):
            found.agree(digest[:-1], step)


@pytest.mark.slow
def test_a_login_on_snakemakes_command_line_is_refused(repository):
    config = "datasets={mine: {train: 'https://me:secret@host/a.tar'}}"
    result = repository.attempt("snakemake", "--snakefile", "workflow/seen.smk", "--dry-run", "--config", config)
    assert result.returncode != 0
    assert "--config has a login, a signature or a token" in result.stdout
    assert "secret" not in result.stdout.partition("--config has")[2]


RUNNER = CliRunner()


@pytest.mark.parametrize("command", ["phrases", "regions"])
def test_what_is_changed_by_hand_is_not_written_where_the_workflow_writes(tmp_path, command):
    options = ["--params", "params.yaml", "--params", f"root={tmp_path}", "--split", "train"]
    for change in (["annotate.regions.side=64"], ["--data", str(tmp_path)]):
        result = RUNNER.invoke(cli.app, [command, *options, *change])
        assert isinstance(result.exception, VlalignError)
        assert f"{tmp_path}/data/annotations/scenes/{command}/train is the workflow's; " in str(result.exception)


def test_an_edited_param_is_seen_by_its_step_alone(tmp_path):
    before = given(["params.yaml"]).params
    after = given(["params.yaml", "annotate.parser.max_words=7", "arms.powerclip.train.steps=9"])
    for step in ("dataset", "parser", "regions", "verify", "evaluate", "report"):
        after.agree(params.digest(params.relevant(before, step)), step)
    after.agree(params.digest(params.relevant(before, "pretrain", run="clip")), "pretrain", run="clip")
    for step, which in (("phrases", {}), ("pretrain", {"run": "powerclip"})):
        with pytest.raises(VlalignError, match=f"the params of `{step}` are no longer"):
            after.agree(params.digest(params.relevant(before, step, **which)), step, **which)
