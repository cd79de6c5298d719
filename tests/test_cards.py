"""The cards and suites that are shipped: each is valid, whole, and says where its numbers come from."""

import re
from pathlib import Path

import pytest
import yaml

from vlalign.data.sources.karpathy import PUBLISHED
from vlalign.data.sources.sugarcrepe import SUGARCREPE
from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import FOLDERS, known_benchmarks
from vlalign.params.cards import CARD, SUITE, Card, known, read_card, read_suite, read_suites

SHIPPED = Path(__file__).parents[1] / "config" / "benchmarks"
CARDS = {name: read_card(name, [SHIPPED]) for name in known(CARD, [SHIPPED])}
SUITES = {name: read_suite(name, [SHIPPED]) for name in known(SUITE, [SHIPPED])}
HUB = re.compile(r"clip-benchmark/wds_(vtab-)?(\w[\w-]*)")
# Of VTAB, whose splits the hub has under names of their own; CLIP_benchmark's list of its data sets.
VTAB = {"caltech101", "cifar10", "cifar100", "dtd", "eurosat", "flowers", "pcam", "pets", "resisc45"}
# What each kind of data is counted by.
COUNTED = {"pairs": {"images", "captions"}, "classes": {"images", "classes"}, "composition": {"items"}}


def write(folder, name, **changes):
    card = {"title": "Mine", "tasks": ["zeroshot"], "sources": {"test": {"source": "folder", "folder": "mine"}}}
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(card | changes))
    return folder


def refused(folder, name, reader=read_card):
    with pytest.raises(VlalignError) as raised:
        reader(name, [folder])
    return str(raised.value)


@pytest.mark.parametrize("name", CARDS)
def test_a_card_says_what_it_is_where_it_comes_from_and_how_large_it_is(name):
    card = CARDS[name]
    assert card.name == name
    assert all((card.title, card.licence, card.citation))
    assert card.homepage.startswith(("https://", "http://"))
    assert "\n" not in card.citation
    given = card.counts.model_dump(exclude_none=True)
    assert given.keys() >= COUNTED[card.kind_of(card.tasks[0])]
    assert all(isinstance(count, int) and count > 0 for count in given.values())
    assert card.split in card.sources


@pytest.mark.parametrize("name", CARDS)
def test_what_is_on_the_hub_is_called_as_clip_benchmark_calls_it(name):
    for split, source in CARDS[name].sources.items():
        if source.name != "hub":
            assert not any(Path(path).is_absolute() for path in source.inputs())
            continue
        found = HUB.fullmatch(source.repository)
        assert found[2] == {"coop-imagenet": "imagenet1k"}.get(name, name)
        assert (found[1] is not None) == (found[2] in VTAB)
        assert source.shards == (f"{split}/*.tar",)


def test_names_and_titles_are_those_of_one_card_each():
    assert len({card.title for card in CARDS.values()}) == len(CARDS)
    assert len({suite.title for suite in SUITES.values()}) == len(SUITES)


def test_every_card_is_of_use():
    assert set(CARDS) == {card.name for suite in SUITES.values() for card in suite.cards}


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_has_as_many_cards_as_its_name_says(name):
    suite, number = SUITES[name], re.search(r"\d+$", name)
    assert len(suite.cards) == len({card.name for card in suite.cards})
    assert number is None or len(suite.cards) == int(number[0])


@pytest.mark.parametrize("name", SUITES)
def test_published_numbers_stand_in_columns_and_name_their_source(name):
    suite = SUITES[name]
    columns = {column for column, _, _ in suite.columns()}
    assert len(columns) == len(suite.columns())
    assert all(0 < number < 100 for numbers in suite.published.values() for number in numbers.values())
    assert bool(suite.published) == bool(suite.source) == bool(suite.setting)
    assert {column for numbers in suite.published.values() for column in numbers} <= columns | {"mean"}


def test_sugarcrepe_is_shown_category_by_category():
    columns = [column for column, card, _ in SUITES["composition"].columns() if card.name == "sugar_crepe"]
    assert columns == [f"sugar_crepe/{category}/accuracy" for category in SUGARCREPE]


def test_numbers_of_the_papers_are_those_that_the_report_has():
    """Two copies of one number must not differ."""
    text = (SHIPPED.parents[1] / "src/vlalign/reporting/published.yaml").read_text(encoding="utf-8")
    tables = {table["name"]: table for table in yaml.safe_load(text)["tables"]}
    for column, suite in enumerate(("zeroshot17", "retrieval3", "robustness6")):
        for method, numbers in tables["powerclip"]["rows"].items():
            assert SUITES[suite].published[method] == {"mean": numbers[column]}
    ways = [
        (card, way) for card in ("flickr30k", "urban1k", "docci") for way in ("image_to_text_r1", "text_to_image_r1")
    ]
    for method, numbers in tables["cs-aligner-retrieval"]["rows"].items():
        for (card, way), number in zip(ways, numbers, strict=True):
            suite, row = ("retrieval3", f"{method} (ViT-L/14)") if card == "flickr30k" else ("longcaption", method)
            assert SUITES[suite].published[row][f"{card}/{way}"] == number
    suite, table = SUITES["fewshot-adapters"], tables["cs-aligner-classification"]
    assert table["rows"].keys() == suite.published.keys() == {"CS-Aligner"}
    columns = [f"{card.name}/cs_adapter_16_shots/accuracy" for card in suite.cards]
    assert suite.published["CS-Aligner"] == dict(zip(columns, table["rows"]["CS-Aligner"], strict=True))
    names = [card.name.removeprefix("coop-") for card in suite.cards]
    stems = [column.lower().rstrip("0123456789") for column in table["columns"]]
    assert all(map(str.startswith, names, stems))


def test_retrieval_is_measured_on_karpathys_splits():
    for name, called in {"mscoco_captions": "coco", "flickr8k": "flickr8k", "flickr30k": "flickr30k"}.items():
        assert CARDS[name].counts.images == PUBLISHED[called]["test"]


def test_every_split_of_a_card_has_its_place():
    assert CARDS["coop-eurosat"].places().keys() == {f"zeroshot/{split}" for split in ("train", "validation", "test")}
    assert CARDS["coop-eurosat"].places()["zeroshot/validation"].split == "val"
    assert CARDS["winoground"].places().keys() == {"composition/test"}
    assert CARDS["docci"].places().keys() == {"test"}
    assert set(FOLDERS) >= {Card.kind_of(task) for task in known_benchmarks()}


@pytest.mark.parametrize(
    ("reader", "asked", "nearest"),
    [
        (read_card, "sugarcrepe", "sugar_crepe"),
        (read_card, "fgvc-aircraft", "fgvc_aircraft"),
        (read_suite, "zeroshot", "zeroshot17"),
    ],
)
def test_an_unknown_name_gives_the_nearest(reader, asked, nearest):
    what = "card" if reader is read_card else "suite"
    assert re.search(rf"there is no {what} '{asked}' in .*nearest: (.*, )?{nearest}", refused(SHIPPED, asked, reader))


def test_a_card_of_ones_own_is_one_file_and_wins_over_one_that_is_shipped(tmp_path):
    write(tmp_path, "pets")
    assert read_card("pets", [SHIPPED, tmp_path]).title == "Mine"
    assert read_card("cars", [SHIPPED, tmp_path]) == CARDS["cars"]


def test_a_card_stands_for_a_suite_of_it_alone(tmp_path):
    assert [suite.name for suite in read_suites("zeroshot17", [SHIPPED])] == ["zeroshot17"]
    [suite] = read_suites("pets", [SHIPPED])
    assert (suite.name, suite.task, [card.name for card in suite.cards]) == ("pets", "zeroshot", ["pets"])
    both = read_suites("cifar10", [SHIPPED])
    assert [(suite.name, suite.task) for suite in both] == [
        ("cifar10-zeroshot", "zeroshot"),
        ("cifar10-linear-probe", "linear-probe"),
    ]
    with pytest.raises(VlalignError, match=r"there is no suite 'zeroshot16' in .*; nearest: zeroshot17"):
        read_suites("zeroshot16", [SHIPPED])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ["zero-shot"]}, r"tasks\.0: .*'zero-shot'"),
        ({"counts": {"images": 0}}, r"counts\.images: .*greater than or equal to 1"),
        ({"metrics": ["acuracy"]}, r"metrics: 'acuracy' is measured by none of its tasks; nearest: accuracy"),
        ({"metrics": ["accuracy", "class_mean", "accuracy"]}, r"metrics: accuracy stands there twice; remove one"),
        ({"templates": ["a photo"]}, r"templates: 'a photo' lacks \{c\}"),
        ({"split": "validation"}, r"split: there is no source for validation; name one of test"),
        ({"licens": "MIT"}, r"licens: unknown key; nearest: licence"),
        ({"tasks": ["zeroshot", "retrieval"]}, r"tasks: they need data of different kinds"),
        ({"tasks": ["retrieval"]}, r"sources\.test: a folder of classes has no captions"),
        (
            {"sources": {"test": {"source": "coco", "annotations": "a", "images": "b"}}},
            r"sources\.test: it has no classes",
        ),
        (
            {"sources": {"test": {"source": "aro", "folder": "a"}}},
            r"sources\.test: `source: aro` has hard negatives alone",
        ),
        ({"sources": {"test": {"source": "folder"}}}, r"sources\.test\.folder: Field required"),
    ],
)
def test_a_mistake_in_a_card_is_named_with_its_file_and_key(tmp_path, changes, message):
    told = refused(write(tmp_path, "mine", **changes), "mine")
    assert told.startswith(f"{tmp_path}/mine.yaml is not valid:")
    assert re.search(message, told)


def test_a_card_is_called_by_its_file_alone(tmp_path):
    with open(write(tmp_path, "mine") / "mine.yaml", "a") as stream:
        stream.write("name: other\n")
    told = refused(tmp_path, "mine")
    assert told == f"{tmp_path}/mine.yaml: name: cards and suites are called by their files; remove this key"


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        (
            {"cards": ["pets", "mscoco_captions"]},
            r"cards: mscoco_captions is for retrieval, modality, not for zeroshot",
        ),
        ({"cards": ["pets", "cars", "pets"]}, r"cards: pets stands there twice; remove one"),
        ({"cards": ["pets"], "metrics": ["accuracy"] * 2}, r"metrics: accuracy stands there twice"),
        ({"cards": ["pet"]}, r"there is no card 'pet' in .*; nearest: pets"),
        ({"cards": "pets"}, r"cards: give the names of cards"),
        (
            {"cards": ["pets"], "published": {"CLIP": {"pet": 1.0}}},
            r"published\.CLIP: there is no column 'pet'; nearest: pets",
        ),
    ],
)
def test_a_mistake_in_a_suite_is_named(tmp_path, suite, message):
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites/mine.yaml").write_text(yaml.safe_dump({"title": "Mine", "task": "zeroshot", **suite}))
    with pytest.raises(VlalignError, match=message):
        read_suite("mine", [SHIPPED, tmp_path])
