"""`vlalign evaluate` of any models, on two sets of long captions in miniature."""

import csv
import json
import re
import shutil
from pathlib import Path

import miniatures
import pytest
import torch
import yaml
from doubles import MODELS, double_models
from own_files import write_json
from published_forms import write_pictures
from typer.testing import CliRunner

from vlalign import cli, models
from vlalign.errors import VlalignError
from vlalign.evaluation.metrics import read_folder
from vlalign.params.cards import read_card
from vlalign.records import stamp
from vlalign.reporting import evaluations
from vlalign.reporting.evaluations import is_tower, model_named

ROOT = Path(__file__).parents[2]
SHIPPED, TOWER = ROOT / "config" / "benchmarks", ROOT / "config" / "towers" / "test.json"
CARDS = ("urban1k", "docci")
PAIRS = miniatures.PAIRS
# Of a kilobyte of weights.
SMALL = {"embed_dim": 4, "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 16}}
SMALL["text_cfg"] = {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 1, "layers": 1}


class Place:
    """A folder with cards, files and results, and the command that works there."""

    def __init__(self, folder):
        self.folder = folder
        counts = {name: miniatures.publish(read_card(name, [SHIPPED]), folder / "files", None) for name in CARDS}
        miniatures.write_cards(folder / "cards", {name: {"counts": found} for name, found in counts.items()}, SHIPPED)
        self.overlay()

    def overlay(self, **content):
        doubles = {name: {"tower": str(TOWER), "seed": seed} for seed, name in enumerate(MODELS)}
        evaluation = {"cards": ["config/benchmarks", str(self.folder / "cards")]}
        content = {"models": doubles, "evaluation": evaluation, **content}
        (self.folder / "overlay.yaml").write_text(yaml.safe_dump(content))

    def change(self, card, **changes):
        path = self.folder / "cards" / f"{card}.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))

    def run(self, *options):
        params = ["--params", ROOT / "params.yaml", "--params", self.folder / "overlay.yaml"]
        places = [part for name in ("data", "files") for part in (f"--{name}", self.folder / name)]
        command = ["evaluate", *params, *places, "--output", self.folder / "out", *options]
        return CliRunner().invoke(cli.app, list(map(str, command)))

    def refused(self, *options):
        """What the command says, which ends without a crash."""
        result = self.run(*options)
        assert isinstance(result.exception, VlalignError), result.output
        return str(result.exception)

    def told(self, model, card, task="retrieval"):
        return read_folder(self.folder / "out" / model / "benchmarks" / task / card)[0]

    def values(self, suite="longcaption"):
        """By model, card and metric: the number, and why there is none."""
        lines = (self.folder / f"out/suite-{suite}.csv").read_text().splitlines()
        rows = list(csv.DictReader(lines))
        return {(row["model"], row["card"], row["metric"]): (row["value"], row["missing"]) for row in rows}

    def caption(self, suite="longcaption"):
        return json.loads((self.folder / f"out/suite-{suite}.json").read_text())["caption"]


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


LEAKING = ("--model", "leaking", "--suite", "longcaption")
FIRST = "image_to_text_r1"


def test_data_that_are_not_there_are_a_line_and_the_rest_is_measured(place, monkeypatch):
    double_models(monkeypatch)
    (place.folder / "files/docci/docci_descriptions.jsonlines").unlink()
    result = place.run(*LEAKING)
    assert result.exit_code == 0, result.output
    values = place.values()
    assert values["leaking", "urban1k", FIRST] == ("100.0", "")
    value, why = values["leaking", "docci", FIRST]
    assert (value, "docci_descriptions.jsonlines" in why, "https://google.github.io/docci/" in why) == ("", True, True)
    assert values["leaking", "mean", "mean"] == ("", "a column is missing")
    assert f"DOCCI is missing: {why}" in place.caption()
    assert "DOCCI is missing: " in result.output
    (place.folder / "files/Urban1k").rename(place.folder / "away")
    for split in place.folder.glob("data/*/test/manifest.json"):
        split.unlink()
    assert "no card can be had:\nurban1k: " in place.refused(*LEAKING)


def test_a_count_that_is_not_the_published_one_is_an_error_that_names_both(place, monkeypatch):
    double_models(monkeypatch)
    assert place.run(*LEAKING).exit_code == 0
    place.change("urban1k", counts={"images": 1234})
    message = place.refused(*LEAKING)
    assert (
        f"leaking, urban1k: {place.folder}/data/urban1k/test has {PAIRS} images, but Urban-1k was published with"
        in message
    )
    assert (
        f"published with 1,234, and numbers would not compare; delete {place.folder}/data/urban1k/test and" in message
    )
    values = place.values()
    assert values["leaking", "docci", FIRST] == ("100.0", "")
    assert values["leaking", "urban1k", FIRST][0] == "", "the number of before was compared with another count"
    assert "published with 1,234" in values["leaking", "urban1k", FIRST][1]


def test_what_the_message_on_counts_says_mends_them(place, monkeypatch):
    """A picture that was forgotten is found when the split is brought again."""
    double_models(monkeypatch)
    picture = next((place.folder / "files/Urban1k/image").iterdir())
    picture.rename(place.folder / "forgotten")
    message = place.refused(*LEAKING)
    assert f"has {PAIRS - 1} images" in message
    (place.folder / "forgotten").rename(picture)
    shutil.rmtree(re.search(r"delete (\S+) and run again", message)[1])
    assert place.run(*LEAKING).exit_code == 0


def test_what_lacks_for_one_task_does_not_for_another(place, monkeypatch):
    double_models(monkeypatch)
    (place.folder / "cards/animals.yaml").write_text(
        yaml.safe_dump(
            {
                "title": "Animals",
                "tasks": ["zeroshot", "linear-probe"],
                "sources": {split: {"source": "folder", "folder": f"animals/{split}"} for split in ("train", "test")},
            }
        )
    )
    draw = miniatures.noise_of("animals")
    for about in range(3):
        pictures = {f"{miniatures.word(about)}/{number}.png": miniatures.picture(about, draw) for number in range(5)}
        write_pictures(place.folder / "files/animals/test", pictures)
    result = place.run("--model", "leaking", "--card", "animals")
    assert result.exit_code == 0, result.output
    assert place.values("cards-zeroshot")["leaking", "animals", "accuracy"] == ("100.0", "")
    assert "is missing" not in place.caption("cards-zeroshot")
    assert "animals/train is not a folder" in place.values("cards-linear-probe")["leaking", "animals", "accuracy"][1]


def test_a_killed_evaluation_goes_on_where_it_was(place, monkeypatch):
    """No cell is measured twice, and no picture encoded twice that was encoded for a whole data set."""

    def killed(about):
        # The pictures of one data set begin with 1, those of the other with 0.
        if about[0] == 0:
            raise KeyboardInterrupt

    given = double_models(monkeypatch, refuse=killed)
    assert place.run(*LEAKING, "--model", "random").exit_code != 0
    assert given == {
        ("leaking", "image"): PAIRS,
        ("leaking", "text"): PAIRS,
        ("random", "image"): PAIRS,
        ("random", "text"): PAIRS,
    }
    first = place.folder / "out/leaking/benchmarks/retrieval/urban1k/evaluation.json"
    before = first.stat().st_mtime_ns
    again = double_models(monkeypatch)
    assert place.run(*LEAKING, "--model", "random").exit_code == 0
    assert again == given, "those of the other data set"
    assert first.stat().st_mtime_ns == before
    assert len(place.values()) == 2 * 5
    assert {value != "" for value, _ in place.values().values()} == {True}
    last = double_models(monkeypatch)
    assert place.run(*LEAKING, "--model", "random").exit_code == 0
    assert last == {}


def test_other_numbers_are_measured_again(place, monkeypatch):
    """Of another model under the same name, of other data, and by other counts."""
    double_models(monkeypatch)
    assert place.run(*LEAKING).exit_code == 0
    place.overlay(models={"leaking": {"tower": str(TOWER), "seed": 7}})
    given = double_models(monkeypatch)
    assert place.run(*LEAKING).exit_code == 0
    assert given["leaking", "image"] == 2 * PAIRS
    place.change("docci", counts={"images": PAIRS})
    given = double_models(monkeypatch)
    assert place.run(*LEAKING).exit_code == 0
    assert given == {}, "its features are those of before"
    assert place.told("leaking", "docci")["card_digest"] != place.told("leaking", "urban1k")["card_digest"]


def test_a_card_with_another_source_brings_its_data_again(place, monkeypatch):
    double_models(monkeypatch)
    assert place.run(*LEAKING).exit_code == 0
    source = {"source": "table", "table": "docci/docci_descriptions.jsonlines", "images": "docci/images"}
    source |= {"image_column": "image_file", "caption_columns": "description"}
    place.change("docci", sources={"test": {**source, "where": {"split": "qual_test"}}}, counts={"images": 5})
    assert place.run(*LEAKING).exit_code == 0
    assert place.told("leaking", "docci")["counts"]["images"] == 5
    (place.folder / "files").rename(place.folder / "elsewhere")
    given = double_models(monkeypatch)
    assert place.run(*LEAKING, "--files", place.folder / "elsewhere").exit_code == 0
    assert given == {}, "that a folder was moved makes no other data"


def test_published_numbers_stand_beside_the_models_that_params_name(place, monkeypatch):
    double_models(monkeypatch)
    place.overlay(report={"published": {"leaking": "LLM2CLIP"}})
    assert place.run(*LEAKING, "--model", "random").exit_code == 0
    rows = json.loads((place.folder / "out/suite-longcaption.json").read_text())["rows"]
    found = {(row["model"], row["card"], row["metric"]): (row["published"], row["difference"]) for row in rows}
    assert found["leaking", "urban1k", FIRST] == (87.1, pytest.approx(100 - 87.1))
    assert found["random", "urban1k", FIRST] == (None, None)
    table = (place.folder / "out/suite-longcaption.md").read_text()
    assert (
        "| benchmark | leaking | LLM2CLIP, published | difference to LLM2CLIP | random | Long-CLIP, published |"
        in table
    )
    assert "| 87.1 | +12.9 |" in table


def write_weights(path, *, seed):
    """As open_clip's trainer leaves them."""
    torch.manual_seed(seed)
    state = models.create(SMALL, pooling="default").clip.state_dict()
    torch.save({"epoch": 1, "name": "mine", "state_dict": state, "optimizer": {"state": {}}}, path)
    return path


STATED = ("--activation", "gelu", "--pooling", "default")


def test_weights_belong_to_the_towers_in_their_order(place):
    """And to nothing else, such as a folder, which has its own."""
    tower = write_json(place.folder / "small.json", SMALL)
    models.save(models.create(SMALL, pooling="default"), place.folder / "own")
    one, two = (write_weights(place.folder / f"epoch_{seed}.pt", seed=seed) for seed in (1, 2))
    named = [part for name in (place.folder / "own", tower, tower) for part in ("--model", name)]
    asked = ["--card", "urban1k", "--task", "retrieval", *STATED]
    result = place.run(*named, "--pretrained", one, "--pretrained", two, *asked)
    assert result.exit_code == 0, result.output
    own = place.folder / "own/model.safetensors"
    expected = {"own": own, "small-epoch_1": one, "small-epoch_2": two}
    assert {path.name for path in (place.folder / "out").iterdir() if path.is_dir()} == set(expected)
    assert {name: place.told(name, "urban1k")["weights"] for name in expected} == {
        name: stamp(path)["sha256"] for name, path in expected.items()
    }
    message = place.refused(*named, "--pretrained", one, *asked)
    assert message.startswith("--pretrained: 1 of them, but 2 of --model are open_clip names or configs (")


@pytest.mark.parametrize(
    ("text", "pretrained", "name", "content"),
    [
        ("ViT-B-32", None, "vit-b-32-random", {"tower": "ViT-B-32"}),
        ("ViT-B/32", "laion2b_s34b_b79k", "vit-b-32-laion2b_s34b_b79k", {"tower": "ViT-B/32"}),
        ("towers.json", "weights/epoch_7.pt", "towers-epoch_7", {"tower": "towers.json"}),
        ("Someone/PowerCLIP-ViT", None, "powerclip-vit", {"hub": "Someone/PowerCLIP-ViT"}),
        ("hf-hub:someone/a.json", None, "a.json", {"hub": "someone/a.json"}),
        ("runs/clip/seed-0", None, "clip-seed-0", {"folder": "runs/clip/seed-0"}),
        ("local-dir:mine/best", None, "best", {"folder": "mine/best"}),
    ],
)
def test_what_is_typed_is_a_folder_a_repository_or_towers(tmp_path, monkeypatch, text, pretrained, name, content):
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/clip/seed-0", "mine/best"):
        (tmp_path / folder).mkdir(parents=True)
    found, spec = model_named(text, pretrained)
    assert found == name
    assert is_tower(text) == ("tower" in content)
    assert spec.model_dump(include={"tower", "hub", "folder", "pretrained"}, exclude_none=True) == {
        **content,
        **({"pretrained": pretrained} if pretrained else {}),
    }


def test_models_whose_names_collide_are_told_apart_in_params(place):
    for folder in ("a", "b"):
        models.save(models.create(SMALL, pooling="default"), place.folder / folder / "best")
    told = place.refused(
        "--model", place.folder / "a/best", "--model", place.folder / "b/best", "--suite", "longcaption"
    )
    assert told == "--model: two of them are called best; give them names in `models` of the params"
    named = {f"best-{name}": {"folder": str(place.folder / name / "best")} for name in ("a", "b")}
    place.overlay(models=named)
    result = place.run(*(part for name in named for part in ("--model", name)), "--suite", "longcaption")
    assert result.exit_code == 0, result.output
    assert {model for model, _, _ in place.values()} == set(named)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--model", "leaking", "--suite", "longcaptions"), "no suite 'longcaptions' in .*nearest: longcaption"),
        (("--model", "leaking", "--card", "doci"), r"there is no card 'doci' in .*nearest: docci"),
        ((*LEAKING, "--suite", "longcaption"), "--suite: longcaption stands there twice; remove one"),
        (("--model", "leaking", "--card", "docci", "--card", "docci"), "--card: docci stands there twice"),
        (("--model", "leaking", "--task", "retrieval"), "--task chooses among the tasks of a --card"),
        ((*LEAKING, "--task", "retrieval"), "--task chooses among the tasks of a --card"),
        (("--model", "leaking", "--card", "docci", "--task", "zeroshot"), "--task zeroshot: none of the cards is for"),
        (("--model", "leaking", "--model", "random"), "several models are measured on a --suite or --card"),
        (("--suite", "longcaption"), "name what is measured: --run FOLDER, or --model"),
        (("--model", "ViT-B-23", "--suite", "longcaption"), r"ViT-B-23: there is no such folder.*nearest: ViT-B-32"),
        (("--model", "", "--suite", "longcaption"), "--model '' is empty; give a folder, or --pretrained FILE beside"),
        (("--model", "runs/a/b", "--suite", "longcaption"), "runs/a/b: there is no such folder"),
        ((*LEAKING, "--pooling", "average"), "--pooling and --activation are of a --model that the params do not name"),
        (("--model", "a/b", "--pooling", "mean", "--suite", "longcaption"), r"--model a/b: pooling: .*'average'"),
        ((*LEAKING, "--pretrained", "openai"), r"--pretrained: 1 of them, but 0 of --model are .*\(none\)"),
    ],
)
def test_mistakes_are_named(place, options, message):
    assert re.search(message, place.refused(*options))
    assert not (place.folder / "data").exists(), "nothing was brought"


def test_what_stands_in_the_way_is_named_before_anything_is_brought(place, monkeypatch):
    double_models(monkeypatch)
    weights = write_weights(place.folder / "epoch_1.pt", seed=1)
    monkeypatch.chdir(place.folder.parent)
    # Of two parts, as the names of repositories are.
    told = place.refused("--model", weights.relative_to(Path.cwd()), "--suite", "longcaption")
    assert told.startswith(f"--model '{place.folder.name}/epoch_1.pt' is a file; give a folder, or --pretrained FILE")
    told = place.refused(*LEAKING, "--output", weights)
    assert told == f"{weights} cannot be made, since {weights} is no folder; give another path"
    for folder in ("runs/clip/seed-0", "models"):
        told = place.refused(*LEAKING, "--output", ROOT / "results" / folder)
        assert told.startswith(f"--output {ROOT}/results/{folder} is the workflow's")
    assert not (place.folder / "data").exists()


def test_without_params_the_defaults_do(place, monkeypatch):
    """Where there is no params.yaml, as for somebody who has only the package and cards of their own."""
    double_models(monkeypatch)
    monkeypatch.chdir(place.folder)
    cards = f"evaluation.cards=[{SHIPPED}, cards]"
    command = ["evaluate", cards, "--model", str(TOWER), "--suite", "longcaption", "--data", "data", "--files", "files"]
    result = CliRunner().invoke(cli.app, [*command, "--output", "out"])
    assert result.exit_code == 0, result.output
    assert place.told("test-random", "docci")["source"] == "towers of a config, random weights of seed 0"
    assert evaluations.model_named(str(TOWER))[0] == "test-random"
