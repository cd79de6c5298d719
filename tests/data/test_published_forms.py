"""Benchmarks in their published forms, in miniature: from the files to a split that can be measured."""

import json

import numpy as np
import published_forms
import pyarrow.parquet as pq
import pytest
from hub_server import REPOSITORY
from own_files import counts, noise, pictures, write_json
from PIL import Image
from published_forms import encoded
from pydantic import TypeAdapter, ValidationError

from vlalign.data.samples import decode_image
from vlalign.data.shards.manifest import verify_split
from vlalign.data.shards.obtain import bring
from vlalign.data.shards.split import read_manifest, read_split
from vlalign.errors import VlalignError
from vlalign.evaluation.hard_negatives import read_category
from vlalign.params import VerifyParams
from vlalign.params.cards import read_card
from vlalign.params.data import needs_of_split
from vlalign.params.sources import AnySource

SOURCE = TypeAdapter(AnySource)
SUGARCREPE = {
    "add_att": 2,
    "add_obj": 1,
    "replace_att": 1,
    "replace_obj": 1,
    "replace_rel": 1,
    "swap_att": 1,
    "swap_obj": 1,
}


def made(tmp_path, place, most_bad=0.0, **params):
    """The folder of a split that was brought and verified, and what its manifest says."""
    directory = tmp_path / "out" / place
    source = SOURCE.validate_python(params)
    bring(source, directory, base=tmp_path, classes=place.startswith("zeroshot/"))
    verify_split(directory, VerifyParams(max_bad_share=most_bad), needs=needs_of_split(place))
    return directory, read_manifest(directory)


def paths(directory):
    return {sample.meta["path"]: sample.key for sample in read_split(directory)}


def numbered(*names):
    return {name: noise(seed) for seed, name in enumerate(names)}


def sugar_crepe(folder):
    """The seven files with the names of COCO's pictures, and a picture that none of them names."""
    categories = {
        name: [(f"{number + 1:012d}.jpg", f"{name} {item} is true", f"{name} {item} is false") for item in range(count)]
        for number, (name, count) in enumerate(SUGARCREPE.items())
    }
    names = [f"{number + 1:012d}.jpg" for number in range(len(SUGARCREPE))]
    return published_forms.sugar_crepe(folder, categories, numbered(*names, "000000099999.jpg"))


def winoground(folder):
    examples = [
        (f"{number} kisses {number + 1}", f"{number + 1} kisses {number}", noise(2 * number), noise(2 * number + 1))
        for number in range(3)
    ]
    return published_forms.winoground(folder, examples)


def aro(folder, box=(2, 1, 5, 4)):
    """Two relations within one picture, and an attribution."""
    texts = ("the door is to the left of the shirt", "the shirt is to the left of the door")
    relations = [("2343729.jpg", (0, 0, 9, 6), *texts), ("2343729.jpg", box, *texts)]
    pictures = numbered("2343729.jpg", "498335.png")
    return published_forms.aro(folder, relations, [("498335.png", box, *texts)], pictures)


def jpeg(seed):
    return encoded(noise(seed), "JPEG")


def bivlc(folder, **columns):
    kinds = [("add", "obj"), ("swap", "att"), ("add", "obj")]
    rows = [
        {
            "image": jpeg(2 * number),
            "caption": f"caption {number}",
            "negative_caption": f"negative {number}",
            "negative_image": jpeg(2 * number + 1),
            "type": kinds[number][0],
            "subtype": kinds[number][1],
        }
        | columns
        for number in range(3)
    ]
    return published_forms.bivlc(folder, rows)


def coop(folder):
    splits = {
        "train": [["wild_cat/image_0001.jpg", 1, "wild_cat"], ["faces/image_0001.jpg", 0, "face"]],
        "val": [["wild_cat/image_0002.jpg", 1, "wild_cat"]],
        "test": [["faces/image_0003.jpg", 0, "face"], ["wild_cat/image_0003.jpg", 1, "wild_cat"]],
    }
    pictures = numbered(*(path for rows in splits.values() for path, _, _ in rows))
    return published_forms.coop(
        folder / "split_zhou_Caltech101.json", folder / "101_ObjectCategories", splits, pictures
    )


def aircraft(folder):
    splits = {
        "train": [("1025794", "707-320")],
        "val": [("1340192", "Boeing 717"), ("0056978", "707-320")],
        "test": [("0034309", "Boeing 717")],
    }
    pictures = numbered(*(number for rows in splits.values() for number, _ in rows))
    return published_forms.aircraft(folder, ["707-320", "Boeing 717"], splits, pictures)


def hub_set(folder, told):
    """Path in the repository -> content: two samples a shard."""
    return published_forms.hub_set(folder, "test", [(noise(number), one) for number, one in enumerate(told)])


def items(directory, category):
    """(caption, negative caption, picture, negative picture) of every item, the pictures as the source calls them."""
    named = paths(directory)
    names = {key: path for path, key in named.items()} | {None: None}
    found = read_category(directory / f"{category}.json", named)
    return [(one.caption, one.negative_caption, names[one.key], names[one.negative_key]) for one in found]


def card_source(repository, name):
    """The source of a card's test split, of the repository on this machine."""
    source = read_card(name, [repository / "config/benchmarks"]).sources["test"]
    return source.model_dump() | {"repository": REPOSITORY}


def test_a_set_of_classes_on_the_hub_brings_their_names(tmp_path, hub, repository):
    names = published_forms.class_lists(["tench", "goldfish"])
    files = hub_set(tmp_path / "set", [{"cls": label} for label in (1, 0, 1)])
    hub.commit(files | names, small=["test/nshards.txt", *names])
    directory, manifest = made(tmp_path, "zeroshot/test", **card_source(repository, "cars"))
    assert (manifest["samples"], len(manifest["shards"]), manifest["source"]["source"]) == (3, 2, "hub")
    assert [sample.label for sample in read_split(directory)] == [1, 0, 1]
    assert manifest["files"].keys() == names.keys()
    assert (directory / "classnames.txt").read_bytes() == names["classnames.txt"]


def test_a_set_of_captions_on_the_hub_has_one_in_each_line(tmp_path, hub, repository):
    captions = [[f"caption {number} of {image}" for number in range(5 + image)] for image in range(3)]
    files = hub_set(tmp_path / "set", [{"txt": "\n".join(lines)} for lines in captions])
    hub.commit(files | {"dataset_type.txt": b"retrieval\n"}, small=["test/nshards.txt", "dataset_type.txt"])
    directory, manifest = made(tmp_path, "test", **card_source(repository, "mscoco_captions"))
    assert (manifest["samples"], manifest["captions"], manifest["files"]) == (3, 5 + 6 + 7, {})
    assert [list(sample.captions) for sample in read_split(directory)] == captions


def test_sugarcrepe_comes_with_the_pictures_that_its_items_name(tmp_path):
    directory, manifest = made(tmp_path, "composition/test", **sugar_crepe(tmp_path / "sugar_crepe"))
    assert set(manifest["files"]) == {f"{name}.json" for name in SUGARCREPE}
    assert manifest["needs"] == ["image"]
    assert manifest["skipped"] == {}
    assert sorted(paths(directory)) == [f"{number + 1:012d}.jpg" for number in range(len(SUGARCREPE))]
    assert {name: len(items(directory, name)) for name in SUGARCREPE} == SUGARCREPE
    assert items(directory, "add_att") == [
        ("add_att 0 is true", "add_att 0 is false", "000000000001.jpg", None),
        ("add_att 1 is true", "add_att 1 is false", "000000000001.jpg", None),
    ]


def test_hard_negatives_of_ones_own_have_sugarcrepes_form(tmp_path):
    pictures(tmp_path / "mine/deep", "a.png", "b.png")
    row = {"filename": "./deep/a.png", "caption": "x", "negative_caption": "y", "negative_filename": "deep/b.png"}
    write_json(tmp_path / "mine/colours.json", {"first": row, "second": row | {"negative_filename": None}})
    params = {"source": "sugarcrepe", "annotations": "mine", "images": "mine", "names": ["colours"]}
    directory, _ = made(tmp_path, "composition/test", **params)
    assert items(directory, "colours") == [("x", "y", "deep/a.png", "deep/b.png"), ("x", "y", "deep/a.png", None)]


def test_an_example_of_winoground_has_two_pictures(tmp_path):
    directory, manifest = made(tmp_path, "composition/test", **winoground(tmp_path / "winoground"))
    assert (manifest["samples"], list(manifest["files"])) == (6, ["winoground.json"])
    assert items(directory, "winoground")[1] == ("1 kisses 2", "2 kisses 1", "ex_1_img_0.png", "ex_1_img_1.png")
    assert len(items(directory, "winoground")) == 3


@pytest.mark.parametrize("box", [(2, 1, 5, 4), (-1, 3, 20, 6)])
def test_pictures_of_aro_are_cut_to_their_boxes(tmp_path, box):
    """As ARO's loader cuts them, whose words these are: crop((x, y, x + w, y + h)) of the picture in RGB."""
    directory, manifest = made(tmp_path, "composition/test", **aro(tmp_path / "aro", box))
    assert (manifest["samples"], sorted(manifest["files"])) == (3, ["attribution.json", "relation.json"])
    whole, part = (name for *_, name, _ in items(directory, "relation"))
    ((*captions, third, _),) = items(directory, "attribution")
    assert captions == ["the door is to the left of the shirt", "the shirt is to the left of the door"]
    samples = {sample.meta["path"]: np.asarray(decode_image(sample.image)) for sample in read_split(directory)}
    x, y, width, height = box
    for name, file, cut in (
        (whole, "2343729.jpg", (0, 0, 9, 6)),
        (part, "2343729.jpg", None),
        (third, "498335.png", None),
    ):
        expected = Image.open(tmp_path / "aro/images" / file).convert("RGB").crop(cut or (x, y, x + width, y + height))
        assert (samples[name] == np.asarray(expected)).all()
        assert samples[name].shape == (expected.height, expected.width, 3)


def test_rows_of_bivlc_bring_their_own_pictures(tmp_path):
    params = bivlc(tmp_path / "bivlc")
    directory, manifest = made(tmp_path, "composition/test", **params, shard_size=2)
    assert (manifest["samples"], len(manifest["shards"]), list(manifest["files"])) == (6, 3, ["bivlc.json"])
    assert items(directory, "bivlc")[2] == ("caption 2", "negative 2", "000002-image.jpg", "000002-negative_image.jpg")
    content = {sample.meta["path"]: sample.image for sample in read_split(directory)}
    assert content["000001-image.jpg"] == jpeg(2)
    assert content["000002-negative_image.jpg"] == jpeg(5)
    directory, manifest = made(tmp_path, "composition/validation", **params, by_kind=True)
    assert {name: len(items(directory, name)) for name in ("add_obj", "swap_att")} == {"add_obj": 2, "swap_att": 1}


def test_a_split_of_coop_has_the_classes_of_all_three(tmp_path):
    params = coop(tmp_path / "caltech-101")
    for split, labels in {"train": [1, 0], "val": [1], "test": [0, 1]}.items():
        directory, manifest = made(tmp_path, f"zeroshot/{split}", **params, split=split)
        assert [sample.label for sample in read_split(directory)] == labels
        assert (directory / "classnames.txt").read_text() == "face\nwild cat\n"
        assert set(manifest["files"]) == {"classnames.txt", "zeroshot_classification_templates.txt"}
    assert list(paths(directory)) == ["faces/image_0003.jpg", "wild_cat/image_0003.jpg"]


def test_the_lists_of_fgvc_aircraft_name_variants(tmp_path):
    directory, _ = made(tmp_path, "zeroshot/validation", **aircraft(tmp_path / "fgvc_aircraft"), split="val")
    assert [(sample.meta["path"], sample.label) for sample in read_split(directory)] == [
        ("1340192.jpg", 1),
        ("0056978.jpg", 0),
    ]
    assert (directory / "classnames.txt").read_text() == "707-320\nBoeing 717\n"


def test_captions_of_urban1k_lie_in_a_folder_of_their_own(tmp_path):
    long = "A busy street, which is wide. " * 30
    captions = {1: long, 2: f"{long}\nOf which only the first line is read.\n"}
    params = published_forms.urban1k(tmp_path / "Urban1k", captions, numbered(1, 2, 3))
    del params["lines"]
    directory, manifest = made(tmp_path, "test", most_bad=0.5, **params, lines="first")
    assert [sample.captions for sample in read_split(directory)] == [(long.strip(),), (long.strip(),)]
    assert counts(manifest["skipped"]) == {"no caption": 1}
    directory, manifest = made(tmp_path, "validation", most_bad=0.5, **params)
    assert manifest["captions"] == 3
    with pytest.raises(ValidationError, match="captions, lines: they are for `labels: captions`"):
        made(tmp_path, "test", **params | {"labels": "classes"})
    with pytest.raises(VlalignError, match="nowhere is not a folder; correct `captions`"):
        made(tmp_path, "test", **params | {"captions": "nowhere"})


def test_json_lines_of_docci_are_a_table(tmp_path):
    rows = [("test_00001", "One.\nTwo lines."), ("qual_test_00000", "No.")]
    params = published_forms.docci(tmp_path / "docci", rows, numbered("test_00001", "qual_test_00000"))
    directory, _ = made(tmp_path, "test", **params)
    assert {sample.meta["path"]: sample.captions for sample in read_split(directory)} == {
        "test_00001.jpg": ("One. Two lines.",)
    }


def test_categories_of_an_earlier_packing_do_not_stay(tmp_path):
    params = bivlc(tmp_path / "bivlc")
    made(tmp_path, "composition/test", **params, by_kind=True)
    directory, _ = made(tmp_path, "composition/test", **params)
    assert [path.name for path in directory.glob("*.json")].count("add_obj.json") == 0
    (directory / "bivlc.json").unlink()
    with pytest.raises(VlalignError, match=r"bivlc\.json is named in .*shards\.json but missing; delete that"):
        verify_split(directory, VerifyParams(), needs=("image",))


@pytest.mark.parametrize(
    ("form", "lost"),
    [
        (sugar_crepe, "sugar/val2017/000000000003.jpg"),
        (winoground, "winoground/images/ex_2_img_1.png"),
        (aro, "aro/images/498335.png"),
    ],
)
def test_a_picture_that_an_item_names_must_be_there(tmp_path, form, lost):
    params = form(tmp_path / lost.partition("/")[0])
    (tmp_path / lost).unlink()
    with pytest.raises(
        VlalignError, match=rf"{lost} is missing, which item \w+ of \w+ names; bring all pictures there"
    ):
        made(tmp_path, "composition/test", **params)


def test_pictures_of_classes_that_are_missing_are_counted(tmp_path):
    params = coop(tmp_path / "caltech-101")
    (tmp_path / "caltech-101/101_ObjectCategories/faces/image_0003.jpg").unlink()
    _, manifest = made(tmp_path, "zeroshot/test", most_bad=0.5, **params, split="test")
    assert manifest["skipped"] == {"missing file": {"count": 1, "first": ["faces/image_0003.jpg"]}}


ROW = {"filename": "000000000001.jpg", "caption": "x"}


@pytest.mark.parametrize(
    ("form", "file", "content", "message"),
    [
        (sugar_crepe, "add_att.json", {"7": ROW}, r"item 7 has no 'negative_caption'"),
        (sugar_crepe, "add_att.json", {"7": ROW | {"negative_caption": 3}}, r"item 7 has something else than text"),
        (sugar_crepe, "add_att.json", {"7": "x"}, r"item 7 is no object"),
        (sugar_crepe, "add_att.json", [ROW], r"holds no object with items"),
        (sugar_crepe, "add_att.json", "{", r"is damaged or not what its name says .*; correct `annotations`"),
        (sugar_crepe, "swap_obj.json", None, r"cannot be read \(No such file or directory\); correct `annotations`"),
        (winoground, "examples.jsonl", {"image_0": "ex_0_img_0"}, r"item of line 1 has no 'caption_0'"),
        (winoground, "examples.jsonl", '{"image_0": \n', r"is damaged or not .*line 1: .*; correct `annotations`"),
        (winoground, "examples.jsonl", None, r"cannot be read .*; correct `annotations`"),
        (aro, "visual_genome_attribution.json", [{"image_path": "498335.png"}], r"item 0 has no 'true_caption'"),
        (aro, "visual_genome_attribution.json", {}, r"holds no list of items"),
        (aro, "visual_genome_attribution.json", "[", r"is damaged or not .*; correct `folder`"),
        (aro, "visual_genome_relation.json", None, r"cannot be read .*; correct `folder`"),
        (aro, "images/2343729.jpg", "no picture", r"cannot be cut to its box .*; bring the picture again"),
        (bivlc, "test-00001-of-00002.parquet", "no table", r"is damaged or not .*; correct `tables`"),
        (coop, "split_zhou_Caltech101.json", {"train": [], "val": []}, r"has no list `test`"),
        (coop, "split_zhou_Caltech101.json", {"train": [["a.jpg", "0", "x"]], "val": [], "test": []}, r"train\.0 is"),
        (
            coop,
            "split_zhou_Caltech101.json",
            {"train": [["a.jpg", 0, "x"]], "val": [["b.jpg", 0, "y"]], "test": []},
            r"class 0 is 'x' and 'y'",
        ),
        (
            coop,
            "split_zhou_Caltech101.json",
            {"train": [["a.jpg", 1, "x"]], "val": [], "test": []},
            r"no images of class 0",
        ),
        (
            coop,
            "split_zhou_Caltech101.json",
            {"train": [["a", 0, "a_b"], ["b", 1, "a b"]], "val": [], "test": []},
            r"the class 'a_b' reads 'a b', as another class does",
        ),
        (
            coop,
            "split_zhou_Caltech101.json",
            {"train": [], "val": [], "test": [["a.jpg", 0, "x"]] * 2},
            r"names a\.jpg twice",
        ),
        (coop, "split_zhou_Caltech101.json", "{", r"is damaged or not .*; correct `annotations`"),
        (aircraft, "images_variant_test.txt", "0034309 Boeing 7", r"line 1: .* has a class that variants\.txt lacks"),
        (aircraft, "images_variant_test.txt", "0034309 707-320\n0034309 707-320", r"line 2: .* for the second time"),
        (aircraft, "variants.txt", None, r"cannot be read .*; correct `folder`"),
    ],
)
def test_what_is_wrong_with_a_published_file_is_named(tmp_path, form, file, content, message):
    params = form(tmp_path / "own")
    path = tmp_path / "own" / file
    path.unlink()
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    params |= {"split": "test"} if form in (coop, aircraft) else {}
    with pytest.raises(VlalignError, match=rf"{path}.*{message}"):
        made(tmp_path, "zeroshot/test" if form in (coop, aircraft) else "composition/test", **params)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"negative_image": {"bytes": None, "path": "000000001.jpg"}},
            r"row 000000 has no bytes under 'negative_image'",
        ),
        ({"caption": " "}, r"item 000000 has an empty text under 'caption'; take the original file"),
        ({"caption": None}, r"item 000000 has something else than text under 'caption'"),
    ],
)
def test_a_row_of_bivlc_lacks_nothing(tmp_path, columns, message):
    with pytest.raises(VlalignError, match=rf"test-00000-of-00002\.parquet: {message}"):
        made(tmp_path, "composition/test", **bivlc(tmp_path / "own", **columns))


def test_a_table_of_bivlc_has_its_columns(tmp_path):
    params = bivlc(tmp_path / "own")
    path = tmp_path / "own/test-00001-of-00002.parquet"
    pq.write_table(pq.read_table(path).drop_columns("subtype"), path)
    with pytest.raises(VlalignError, match=r"test-00001-of-00002\.parquet has no column 'subtype'"):
        made(tmp_path, "composition/test", **params)
    path.unlink()
    with pytest.raises(VlalignError, match=r"test-00001-of-00002\.parquet cannot be read .*; correct `tables`"):
        made(tmp_path, "composition/test", **params)


@pytest.mark.parametrize("form", [sugar_crepe, winoground, aro, bivlc, coop, aircraft])
def test_what_a_source_names_is_looked_for_before_anything_runs(tmp_path, form):
    params = form(tmp_path / "own") | ({"split": "test"} if form in (coop, aircraft) else {})
    source = SOURCE.validate_python(params)
    there, away = source.located(tmp_path), source.located(tmp_path / "elsewhere")
    assert all((tmp_path / path).is_file() for path in source.inputs())
    assert len(source.inputs()) == len(set(source.inputs())) > 0
    for look in there.checks().values():
        look()
    for look in away.checks().values():
        with pytest.raises((VlalignError, OSError), match="elsewhere"):
            look()


@pytest.mark.parametrize("form", [sugar_crepe, winoground, aro, bivlc])
def test_hard_negatives_are_whole_and_of_no_other_use(tmp_path, form):
    params = form(tmp_path / "own")
    with pytest.raises(ValidationError, match="part: hard negatives name pictures of every part"):
        SOURCE.validate_python(params | {"part": [0, 0.5]})
    source = SOURCE.validate_python(params)
    with pytest.raises(ValueError, match="are not divided"):
        source.held_out({"test": 0.5})
    assert all("has hard negatives alone" in source.lacks(need) for need in ("captions", "classes"))


@pytest.mark.parametrize("form", [coop, aircraft])
def test_sources_of_classes_have_no_captions(tmp_path, form):
    source = SOURCE.validate_python(form(tmp_path / "own") | {"split": "test"})
    assert "no captions" in source.lacks("captions")
    assert source.lacks("classes") == ""
