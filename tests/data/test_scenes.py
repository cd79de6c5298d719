import itertools
from collections import Counter

import numpy as np
import pytest
from caption_words import named

from vlalign.data.samples import decode_image, decode_instances
from vlalign.data.scenes import dataset as scenes
from vlalign.data.scenes.scene import CLASSES, INVERSE
from vlalign.data.shards.split import read_split
from vlalign.files import read_json
from vlalign.params import ScenesParams

IMAGES = {"train": 30, "validation": 20, "test": 24}
SMALL = ScenesParams(
    images=IMAGES, image_size=48, captions=2, classes=8, zeroshot_images=16, composition_items=6, seed=0
)
ATTRIBUTES = ("count", "size", "tint", "name")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    scenes.build(folder, SMALL)
    return folder


@pytest.fixture(scope="module")
def samples(built):
    return {split: list(read_split(built / split)) for split in IMAGES}


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def facts_of_caption(words):
    """What a full caption states, from its words alone."""
    groups = list(named(words))
    stated = set(groups)
    for relation in ("left of", "right of", "above", "below"):
        if f" {relation} " in words:
            stated.add(directed(groups[0], relation.split()[0], groups[1]))
    if " on the left" in words or " on the right" in words:
        first = words.index(" on the left") if " on the left" in words else len(words)
        second = words.index(" on the right") if " on the right" in words else len(words)
        stated.add(directed(groups[0], "left" if first < second else "right", groups[1]))
    if " at the top" in words:
        stated.add(directed(groups[0], "above" if words.index(" top") < words.index(" bottom") else "below", groups[1]))
    return stated


def directed(first, relation, second):
    if relation in ("right", "below"):
        first, second, relation = second, first, INVERSE[relation]
    return first[2:], relation, second[2:]


def facts_of_scene(scene):
    groups = [(group.count, group.size, group.tint, group.name) for group in scene.groups]
    relation = {directed(groups[0], scene.relation, groups[1])} if scene.relation else set()
    return set(groups) | relation


def test_the_same_seed_gives_the_same_bytes(built, tmp_path):
    scenes.build(tmp_path, SMALL)
    assert contents(tmp_path) == contents(built)


def test_another_seed_gives_other_pictures(samples):
    others = list(scenes.split_samples("test", IMAGES["test"], SMALL.model_copy(update={"seed": 1})))
    assert not {sample.image for sample in others} & {sample.image for sample in samples["test"]}


def test_splits_have_their_sizes_and_share_no_picture(samples):
    assert {split: len(found) for split, found in samples.items()} == IMAGES
    for one, other in itertools.combinations(IMAGES, 2):
        assert not {sample.image for sample in samples[one]} & {sample.image for sample in samples[other]}


def test_every_sample_has_its_captions_and_stratum(samples):
    for sample in itertools.chain.from_iterable(samples.values()):
        assert len(sample.captions) == SMALL.captions
        assert decode_image(sample.image).size == (48, 48)
        assert decode_instances(sample.instances).shape == (48, 48)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_strata_have_their_share(share):
    params = SMALL.model_copy(update={"simple_share": share, "image_size": 32})
    found = Counter(sample.stratum for sample in scenes.split_samples("train", 100, params))
    assert found["simple"] == 100 * share


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_single_objects_are_in_training_alone(share):
    params = SMALL.model_copy(update={"simple_share": 1.0, "single_share": share, "image_size": 32})
    for split in ("train", "test"):
        counts = {decode_instances(sample.instances).max() for sample in scenes.split_samples(split, 40, params)}
        assert counts == ({1} if split == "train" and share else {2, 3}), split


def test_phrases_name_words_of_their_caption(samples):
    for sample in itertools.chain.from_iterable(samples.values()):
        for phrase in sample.meta["phrases"]:
            words = sample.captions[phrase["caption"]][phrase["start"] : phrase["end"]]
            assert sum(group[0] for group in named(words)) == len(phrase["instances"]), words


def test_every_object_of_a_phrase_can_be_seen(samples):
    for sample in itertools.chain.from_iterable(samples.values()):
        visible = set(np.unique(decode_instances(sample.instances)).tolist()) - {0}
        for phrase in sample.meta["phrases"]:
            assert set(phrase["instances"]) <= visible, f"{sample.key}: {phrase}"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_no_held_out_caption_states_what_two_pictures_were_drawn_from(monkeypatch, split):
    monkeypatch.setattr(scenes, "_sample", lambda key, scene, nodes, *, size: (scene, [node.text() for node in nodes]))
    params = SMALL.model_copy(update={"classes": 20, "captions": 3})
    gallery = list(scenes.split_samples(split, 200, params))
    pictures = [facts_of_scene(scene) for scene, _ in gallery]
    for index, (scene, captions) in enumerate(gallery):
        for caption in captions:
            stated = facts_of_caption(caption)
            true_of = [number for number, facts in enumerate(pictures) if stated <= facts]
            assert true_of == [index], f"{caption}: {scene}"


@pytest.mark.parametrize("split", ["validation", "test"])
def test_zero_shot_files_are_those_of_clip_benchmark(built, split):
    folder = built / "zeroshot"
    names = (folder / "classnames.txt").read_text().splitlines()
    assert names == list(CLASSES)[: SMALL.classes]
    assert all("{c}" in line for line in (folder / "zeroshot_classification_templates.txt").read_text().splitlines())
    assert (folder / split / "nshards.txt").read_text().strip() == "1"
    assert (folder / split / "0.tar").is_file()
    found = list(read_split(folder / split))
    assert len(found) == SMALL.zeroshot_images
    assert Counter(sample.label for sample in found) == dict.fromkeys(range(SMALL.classes), 2)


def changes(one, other):
    """Which attributes of which groups differ between two captions, in order."""
    before, after = list(named(one)), list(named(other))
    assert len(before) == len(after)
    return [
        (ATTRIBUTES[place], index, before[index][place], after[index][place])
        for index in range(len(before))
        for place in range(len(ATTRIBUTES))
        if before[index][place] != after[index][place]
    ]


def swapped(attribute):
    def check(one, other):
        (name_a, _, old_a, new_a), (name_b, _, old_b, new_b) = changes(one, other)
        return (name_a, name_b) == (attribute, attribute) and (old_a, old_b) == (new_b, new_a)

    return check


def replaced(attribute):
    def check(one, other):
        ((name, _, _, new),) = changes(one, other)
        return name == attribute and (attribute == "count" or new not in one.split())

    return check


def flipped(one, other):
    moved = {word for pair in zip(one.split(), other.split(), strict=True) if pair[0] != pair[1] for word in pair}
    relations = [{"left", "right"}, {"above", "below"}, {"top", "bottom"}]
    return changes(one, other) == [] and moved in relations


INTENDED = {
    "swap_object": swapped("name"),
    "swap_attribute": swapped("tint"),
    "flip_relation": flipped,
    "replace_object": replaced("name"),
    "replace_attribute": replaced("tint"),
    "change_count": replaced("count"),
}


@pytest.mark.parametrize("category", scenes.CATEGORIES)
def test_hard_negatives_differ_in_the_intended_way(built, category):
    for split in ("validation", "test"):
        table = read_json(built / "composition" / split / f"{category}.json")
        assert len(table) == SMALL.composition_items
        for item in table.values():
            assert INTENDED[category](item["caption"], item["negative_caption"]), item


@pytest.mark.parametrize("category", scenes.CATEGORIES)
def test_the_pictures_of_hard_negatives_are_there_and_differ(built, category):
    pictures = {sample.key: sample for sample in read_split(built / "composition" / "test")}
    for item in read_json(built / "composition" / "test" / f"{category}.json").values():
        positive = pictures[item["filename"].removesuffix(".png")]
        assert positive.stratum in ("simple", "clutter")
        assert ("negative_filename" in item) == (category != "change_count")
        if "negative_filename" in item:
            assert pictures[item["negative_filename"].removesuffix(".png")].image != positive.image


def test_the_licence_of_the_artwork_travels_with_the_data(built):
    for manifest in built.rglob("manifest.json"):
        assert "OpenMoji" in read_json(manifest)["source"]["artwork"]


def test_the_contact_sheet_is_drawn(built):
    assert (built / "contact_sheet.png").read_bytes().startswith(b"\x89PNG")
