"""Released checkpoints from a hub on this machine to the tables of suites, without any training."""

import json

import miniatures
import open_clip
import pytest
import torch
import yaml
from hub_server import HubServer
from repository import PROJECT, jobs, new_repository
from safetensors.torch import save

from vlalign.evaluation.metrics import read_folder
from vlalign.params import load
from vlalign.params.cards import read_card, read_suite
from vlalign.records import stamp
from vlalign.reporting.exports import FORMATS

pytestmark = pytest.mark.slow

RELEASED = "config/paper/released.yaml"
SHIPPED = PROJECT / "config" / "benchmarks"
MODELS = load(PROJECT / "params.yaml", PROJECT / RELEASED).models
AUTHORS = {name: spec.hub for name, spec in MODELS.items()}
# Of ARO there are no files.
SUITES = {"zeroshot17": ["cars"], "composition": ["winoground", "aro"]}
CELLS = [("zeroshot", "cars"), ("composition", "winoground")]
TOWER = json.loads((PROJECT / "config/towers/test.json").read_text())
del TOWER["vision_cfg"]["pool_type"]


def weights(seed):
    torch.manual_seed(seed)
    return open_clip.CLIP(**TOWER).state_dict()


def checkpoint(seed):
    """A repository as the authors' fork of open_clip pushes it."""
    config = {"model_cfg": TOWER, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    files = {"open_clip_config.json": json.dumps(config).encode(), "open_clip_model.safetensors": save(weights(seed))}
    return files | {"README.md": b"# PowerCLIP\n", "vocab.json": b"{}"}


@pytest.fixture(scope="module")
def hub():
    with HubServer() as server:
        for seed, repository in enumerate(AUTHORS.values()):
            server.commit(checkpoint(seed), repository=repository, small=("open_clip_config.json", "vocab.json"))
        yield server


@pytest.fixture(scope="module")
def repository(hub, tmp_path_factory):
    """The tables were made by the command that the overlay's first lines give, of less data and one more model."""
    folder = tmp_path_factory.mktemp("released")
    repository = new_repository(folder / "project")
    cards = {name: read_card(name, [SHIPPED]) for names in SUITES.values() for name in names if name != "aro"}
    counts = {name: miniatures.publish(card, repository.root / "published", hub) for name, card in cards.items()}
    miniatures.write_cards(
        repository.root / "cards", {name: {"counts": found} for name, found in counts.items()}, SHIPPED
    )
    for name, names in SUITES.items():
        suite = yaml.safe_load((SHIPPED / f"suites/{name}.yaml").read_text()) | {"cards": names}
        (repository.root / "cards/suites").mkdir(exist_ok=True)
        (repository.root / f"cards/suites/{name}.yaml").write_text(yaml.safe_dump(suite))
    # As open_clip's trainer leaves them.
    (repository.root / "own").mkdir()
    (repository.root / "own/tower.json").write_text(json.dumps(TOWER))
    trained = {"epoch": 1, "name": "own", "state_dict": weights(7), "optimizer": {"state": {}, "param_groups": []}}
    torch.save(trained, repository.root / "own/epoch_1.pt")
    own = {"tower": "own/tower.json", "pretrained": "own/epoch_1.pt", "activation": "gelu", "pooling": "default"}
    evaluation = {"cards": ["config/benchmarks", "cards"], "suites": list(SUITES)}
    (repository.root / "small.yaml").write_text(yaml.safe_dump({"evaluation": evaluation, "models": {"own": own}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HOME", str(folder / "hub"))
        patch.setenv("NO_PROXY", "*")
        (repository.root / "printed.txt").write_text(repository.run(*command()))
        yield repository


def command(*options, target="suites"):
    return ["snakemake", "--cores", "2", *options, "--configfile", RELEASED, "small.yaml", "--", target]


def plan(repository):
    return jobs(repository.run(*command("--dry-run")))


def change(repository, path, **keys):
    file = repository.root / path
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | keys))


def table(repository, suite):
    records = json.loads((repository.root / f"paper/results/suites/{suite}.json").read_text())["rows"]
    return {(record["model"], record["card"], record["metric"]): record for record in records}


def suite_text(repository, suite):
    return (repository.root / f"paper/results/suites/{suite}.md").read_text()


def test_the_overlay_asks_for_every_suite_and_trains_nothing(tmp_path):
    params = load(PROJECT / "params.yaml", PROJECT / RELEASED)
    shipped = {path.stem for path in (SHIPPED / "suites").glob("*.yaml")}
    # Of learners that its papers have not.
    assert {suite.name for suite in params.evaluation.suites} == shipped - {"fewshot-adapters"}
    assert {spec.pooling for spec in params.models.values()} == {"average"}
    [told] = [line for line in (PROJECT / RELEASED).read_text().splitlines() if "snakemake" in line]
    snakemake, *arguments = told.removeprefix("#").split()
    planned = jobs(new_repository(tmp_path / "project").run(snakemake, "--dry-run", *arguments))
    rules = {job.split()[0] for job in planned}
    assert rules == {"card_shards", "card_manifest", "measure_model", "suites"}
    measured = {job for job in planned if job.startswith("measure_model ")}
    on_the_hub = [
        (suite.task, card.name)
        for suite in params.evaluation.suites
        for card in suite.cards
        if card.sources["test"].name == "hub"
    ]
    assert measured == {
        f"measure_model model={model}, task={task}, card={card}" for model in params.models for task, card in on_the_hub
    }


def test_every_model_is_measured_on_what_is_there(repository):
    for name in (*AUTHORS, "own"):
        folder = repository.root / "paper/results/models" / name
        cells = {path.parent.relative_to(folder / "benchmarks").parts for path in folder.rglob("evaluation.json")}
        assert cells == set(CELLS)
        for task, card in CELLS:
            told, _ = read_folder(folder / "benchmarks" / task / card)
            assert told["model"]["pooling"] == ("default" if name == "own" else "average")
            if name == "own":
                assert told["weights"] == stamp(repository.root / "own/epoch_1.pt")["sha256"]
            else:
                assert told["source"].startswith(f"{AUTHORS[name]} of the Hugging Face hub at {told['commit']}")
    assert not (repository.root / "paper/results/runs").exists()


def test_the_tables_show_published_and_measured(repository):
    files = {path.name for path in (repository.root / "paper/results/suites").iterdir()}
    assert files == {f"{suite}{suffix}" for suite in SUITES for suffix in FORMATS}
    found = table(repository, "zeroshot17")
    published = read_suite("zeroshot17", [SHIPPED]).published["PowerCLIP-S (SAM 2 masks)"]["mean"]
    mean = found["powerclip-sam2", "mean", "mean"]
    assert mean["value"] == found["powerclip-sam2", "cars", "accuracy"]["value"]
    assert (mean["published"], mean["difference"]) == (published, pytest.approx(mean["value"] - published))
    assert found["powerclip-sam", "mean", "mean"]["published"] is None
    assert "CC12M, 32 epochs" in mean["trained_on"]
    text = suite_text(repository, "composition")
    assert "ARO is missing: " in text
    assert "published/aro" in text
    assert "| mean | – | – | – |" in text
    assert "Winoground: Group score" in (repository.root / "printed.txt").read_text(), "the last job shows them"


def test_afterwards_there_is_nothing_to_do(repository):
    assert "Nothing to be done" in repository.run(*command("--dry-run"))
    assert repository.run("vlalign", "check", "paper").splitlines() == ["paper: 0 files to mend, 0 foreign"]


OTHERWISE_TRAINED = {
    name: {**spec.model_dump(exclude_none=True), "trained_on": "other data"} for name, spec in MODELS.items()
}


def of_card(card, task="zeroshot"):
    return {f"measure_model model={model}, task={task}, card={card}" for model in (*AUTHORS, "own")} | {"suites"}


@pytest.mark.parametrize(
    ("path", "keys", "expected"),
    [
        ("cards/cars.yaml", {"templates": ["a {c}", "the {c}"]}, of_card("cars")),
        ("cards/winoground.yaml", {"counts": {"items": 30}}, of_card("winoground", "composition")),
        ("cards/winoground.yaml", {"remark": "Mind the order."}, {"suites"}),
        ("cards/suites/composition.yaml", {"metrics": ["macro"]}, {"suites"}),
        (RELEASED, {"report": {"published": {"powerclip-sam": "PowerCLIP-S (SAM 2 masks)"}}}, {"suites"}),
        (RELEASED, {"models": OTHERWISE_TRAINED}, {"suites"}),
    ],
)
def test_a_change_makes_what_depends_on_it_and_nothing_else(repository, path, keys, expected):
    before = (repository.root / path).read_text()
    change(repository, path, **keys)
    try:
        assert plan(repository) == expected
    finally:
        (repository.root / path).write_text(before)


def test_other_weights_are_noticed(repository):
    path = repository.root / "own/epoch_1.pt"
    before = path.read_bytes()
    torch.save(weights(8), path)
    assert plan(repository) == {f"measure_model model=own, task={task}, card={card}" for task, card in CELLS} | {
        "suites"
    }
    path.write_bytes(before)
    assert plan(repository) == set(), "the content counts, not the time"


CELL = "results/models/own/benchmarks/zeroshot/cars/evaluation.json"


def test_another_template_measures_again_without_the_pictures(repository):
    def features():
        return {path: path.stat().st_mtime_ns for path in repository.root.glob("paper/checkpoints/features/*.safe*")}

    before, (old, _) = features(), read_folder((repository.root / "paper" / CELL).parent)
    change(repository, "cards/cars.yaml", templates=["one {c} here"])
    repository.run(*command(target=CELL))
    new, _ = read_folder((repository.root / "paper" / CELL).parent)
    assert old["card_digest"] != new["card_digest"]
    assert old["data"] == new["data"]
    assert before.items() <= features().items()
    assert len(features()) == len(before) + 1, "the prompts"
    assert plan(repository) == of_card("cars") - {"measure_model model=own, task=zeroshot, card=cars"}


def test_a_wrong_count_fails_the_step_and_names_both_numbers(repository):
    change(repository, "cards/cars.yaml", counts={"images": 8041})
    result = repository.attempt(*command(target=CELL))
    assert result.returncode != 0
    assert f"test has {miniatures.IMAGES['test']} images, but Stanford Cars was published with 8,041" in result.stdout


def test_a_set_that_cannot_be_downloaded_says_so_and_the_others_go_on_without_it(repository):
    gone = {"source": "hub", "repository": "clip-benchmark/wds_gone", "shards": ["test/*.tar"]}
    change(repository, "cards/cars.yaml", sources={"test": gone})
    result = repository.attempt(*command("--keep-going"))
    assert result.returncode != 0
    assert "the hub does not let you read it" in result.stdout
    assert "or go on without it, with evaluation.left_out: {cars: why}" in result.stdout
    small = yaml.safe_load((repository.root / "small.yaml").read_text())
    change(repository, "small.yaml", evaluation=small["evaluation"] | {"left_out": {"cars": "it is gone"}})
    repository.run(*command())
    assert "Stanford Cars is missing: left out: it is gone" in suite_text(repository, "zeroshot17")
    assert "Winoground is missing" not in suite_text(repository, "composition")
    assert plan(repository) == set()
