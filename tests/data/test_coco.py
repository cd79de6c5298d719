import pytest
from own_files import counts, listed, pictures, write_json

from vlalign.data.skipped import Skips
from vlalign.data.sources.coco import CocoSource
from vlalign.data.sources.karpathy import PUBLISHED, KarpathySource
from vlalign.errors import VlalignError


def karpathy(path, *splits, images=None, **options):
    folder = str(images or path.parent)
    return KarpathySource(source="karpathy", annotations=str(path), images=folder, splits=splits, **options)


def coco(path, **options):
    return CocoSource(source="coco", annotations=str(path), images=str(path.parent), **options)


def record(name, split, *captions, **fields):
    return {"filename": name, "split": split, "sentences": [{"raw": text} for text in captions], **fields}


def kept(**splits):
    return [record(f"{split}{index}.jpg", split, "x") for split, count in splits.items() for index in range(count)]


def test_images_of_the_chosen_splits_come_with_all_their_captions_in_the_order_of_the_file(tmp_path):
    images = [
        record("b.jpg", "test", "one ", "two\nlines", "", filepath="val2014"),
        record("c.jpg", "val", "three", filepath="val2014"),
        record("a.jpg", "restval", "four", filepath="val2014"),
        record("a.jpg", "test", "five", "five", filepath="train2014"),
    ]
    pictures(tmp_path, "val2014/a.jpg", "val2014/b.jpg", "val2014/c.jpg", "train2014/a.jpg")
    path = write_json(tmp_path / "dataset.json", {"images": images})
    assert listed(karpathy(path, "test", "restval")) == (
        [
            ("val2014/b.jpg", ("one", "two lines")),
            ("val2014/a.jpg", ("four",)),
            ("train2014/a.jpg", ("five", "five")),
        ],
        {},
    )


def test_pictures_may_lie_in_one_folder(tmp_path):
    pictures(tmp_path / "flat", "a.jpg")
    images = [record("a.jpg", "test", "one", filepath="val2014"), record("b.jpg", "test", "two", filepath="val2014")]
    path = write_json(tmp_path / "dataset.json", {"images": images})
    found, skips = listed(karpathy(path, "test", images=tmp_path / "flat"))
    assert found == [("val2014/a.jpg", ("one",))]
    assert skips == {"missing file": {"count": 1, "first": ["val2014/b.jpg"]}}


def test_a_file_that_is_named_twice_has_the_captions_of_both(tmp_path):
    pictures(tmp_path, "a.jpg")
    path = write_json(tmp_path / "d.json", {"images": [record("a.jpg", "val", "one"), record("a.jpg", "val", "two")]})
    assert listed(karpathy(path, "val"))[0] == [("a.jpg", ("one", "two"))]


@pytest.mark.slow
@pytest.mark.parametrize("dataset", PUBLISHED)
def test_published_splits_have_their_published_sizes(tmp_path, dataset):
    sizes = PUBLISHED[dataset] | {"train": 3}
    path = write_json(tmp_path / "d.json", {"dataset": dataset, "images": kept(**sizes)})
    others = [split for split in sizes if split != "train"]
    assert karpathy(path, *others).listing(Skips()).total == sum(PUBLISHED[dataset][split] for split in others)
    expected = (
        rf"has 3 images of split 'train', but Karpathy's {dataset} has {PUBLISHED[dataset]['train']:,} \(found: 3"
    )
    with pytest.raises(VlalignError, match=expected):
        karpathy(path, "val", "train").listing(Skips())
    assert karpathy(path, "train", part=(0.0, 0.9)).listing(Skips()).total == 3
    path = write_json(tmp_path / "d.json", {"dataset": "mine", "images": kept(**sizes)})
    assert karpathy(path, "train").listing(Skips()).total == 3


def test_the_published_splits_make_the_datasets():
    # train2014 and val2014 have 123,287 pictures together.
    assert sum(PUBLISHED["coco"].values()) == 123_287
    assert sum(PUBLISHED["flickr30k"].values()) == 31_014
    assert sum(PUBLISHED["flickr8k"].values()) == 8_000


def test_a_split_that_is_not_there_is_named(tmp_path):
    path = write_json(tmp_path / "d.json", {"images": kept(train=2, val=1)})
    with pytest.raises(VlalignError, match=r"no images of split 'restval'; correct `splits` \(found: 2 train, 1 val\)"):
        listed(karpathy(path, "train", "restval"))


def test_captions_of_coco_are_joined_by_the_image_and_stay_in_order(tmp_path):
    pictures(tmp_path, "2.jpg", "1.jpg", "3.jpg")
    content = {
        "images": [
            {"id": 20, "file_name": "2.jpg"},
            {"id": 10, "file_name": "1.jpg"},
            {"id": 30, "file_name": "3.jpg"},
        ],
        "annotations": [
            {"image_id": 10, "id": 5, "caption": "one\n"},
            {"image_id": 20, "id": 4, "caption": "two"},
            {"image_id": 10, "id": 3, "caption": "three"},
            {"image_id": 99, "id": 2, "caption": "four"},
        ],
    }
    found, skips = listed(coco(write_json(tmp_path / "captions.json", content)))
    assert found == [("2.jpg", ("two",)), ("1.jpg", ("one", "three"))]
    assert counts(skips) == {"no caption": 1, "caption of an image that is not listed": 1}
    assert skips["caption of an image that is not listed"]["first"] == ["99"]


def test_half_a_character_in_a_caption_is_replaced_and_a_bom_is_passed_over(tmp_path):
    pictures(tmp_path, "a.jpg")
    text = '{"images": [{"filename": "a.jpg", "split": "val", "sentences": [{"raw": "a \\ud83d dog"}]}]}'
    (tmp_path / "d.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert listed(karpathy(tmp_path / "d.json", "val"))[0] == [("a.jpg", ("a ? dog",))]


@pytest.mark.parametrize("make", [lambda path: karpathy(path, "val"), coco])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read \(No such file or directory\); correct `annotations`"),
        ("", "is damaged or not what its name says"),
        ('{"images": [', "is damaged or not what its name says"),
        (b'{"images": "caf\xe9"}', "is not in UTF-8"),
        ("[]", "has no list `images`"),
        ('{"annotations": []}', "has no list `images`"),
        ('{"images": {"a": 1}, "annotations": []}', "has no list `images`"),
        ('{"images": [{}], "annotations": []}', "is not like .*KeyError"),
        ('{"images": [3], "annotations": []}', "is not like .*TypeError"),
        ('{"images": [{"id": 1, "file_name": 3, "split": "val", "filename": 3}], "annotations": []}', "is not like"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path, make, content, message):
    path = tmp_path / "captions.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(VlalignError, match=rf"captions\.json {message}"):
        listed(make(path))


def test_captions_that_are_no_text_and_files_of_the_other_kind_are_named(tmp_path):
    path = write_json(tmp_path / "d.json", {"images": [record("a.jpg", "val", "x", None)]})
    with pytest.raises(VlalignError, match="no image is left"):
        listed(karpathy(path, "val"))
    path = write_json(tmp_path / "d.json", {"images": [record("a.jpg", "val", 3)]})
    with pytest.raises(VlalignError, match="is not like Karpathy's"):
        listed(karpathy(path, "val"))
    with pytest.raises(VlalignError, match="has no list `annotations`, so it is not of the kind"):
        listed(coco(path))


def test_a_missing_folder_of_pictures_is_named(tmp_path):
    path = write_json(tmp_path / "d.json", {"images": kept(val=1), "annotations": []})
    with pytest.raises(VlalignError, match="nowhere is not a folder; correct `images`"):
        listed(karpathy(path, "val", images="nowhere"))
