import pickle
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from annotated_scenes import (
    COUNT,
    PARAMS,
    constituents_of,
    parsed,
    words_of,
    write_annotated,
    write_pairs,
    write_phrases,
)

from vlalign import models
from vlalign.annotate.phrases.annotation import Constituent, ParsedCaption, Word
from vlalign.annotate.phrases.trees import Parse
from vlalign.annotate.regions.annotation import write_regions
from vlalign.annotate.regions.boxes import random_boxes
from vlalign.data.samples import Sample, decode_image, decode_instances, encode_png
from vlalign.data.shards.manifest import write_split
from vlalign.data.shards.split import read_split
from vlalign.errors import VlalignError
from vlalign.files import read_json
from vlalign.models.pictures import normalise, preprocess
from vlalign.params import AugmentParams, PhraseChoice, RegionChoice, RegionDamage
from vlalign.records import read_record, stamp, write_record
from vlalign.training.data.batches import PairedSet
from vlalign.training.data.caption_rows import choose_phrases
from vlalign.training.data.loading import Steps
from vlalign.training.data.loading import load as load_batches
from vlalign.training.data.order import generator
from vlalign.training.data.row_cache import CachedRows, MadeRows
from vlalign.training.terms.powerset import PowersetParams

PHRASES, REGIONS = PhraseChoice(labels=("NP",), count=4), RegionChoice(kinds=("mask", "box"), count=5)
DAMAGED = RegionChoice(damage=RegionDamage(holes=0.2))


@pytest.fixture(scope="module")
def encoder(repository):
    torch.manual_seed(0)
    return models.create(read_json(repository / "config/towers/test.json"), pooling="average").eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("annotated")
    write_annotated(root)
    return root


def load(folder, encoder, *, phrase_choice=PHRASES, region_choice=REGIONS, **options):
    return PairedSet(
        folder / "split",
        encoder,
        phrases=folder / "phrases",
        regions=folder / "regions",
        phrase_choice=phrase_choice,
        region_choice=region_choice,
        **options,
    )


@pytest.fixture(scope="module")
def data(folder, encoder):
    return load(folder, encoder)


@pytest.fixture
def drawn(data, monkeypatch):
    """seed, step -> the indices of a batch of four."""
    seen = []
    select = data.select
    monkeypatch.setattr(data, "select", lambda i, c, *, when: seen.append((i.tolist(), c.tolist())) or select(i, c))
    return lambda seed, step: data.batch(seed=seed, step=step, size=4) and seen.pop()


def same(one, other):
    ours, theirs = one.columns(), other.columns()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_a_batch_is_a_function_of_seed_and_step(data, folder, encoder):
    again = load(folder, encoder)
    later = again.batch(seed=1, step=7, size=4)
    torch.manual_seed(123)
    random.seed(123)
    assert same(data.batch(seed=1, step=7, size=4), later)
    assert same(data.batch(seed=1, step=0, size=4), again.batch(seed=1, step=0, size=4))
    assert not torch.equal(data.batch(seed=2, step=7, size=4).images, later.images)
    assert not torch.equal(data.batch(seed=1, step=6, size=4).images, later.images)


def test_an_epoch_visits_every_image_at_most_once_and_drops_the_rest(drawn):
    per_epoch = COUNT // 4
    orders = []
    for epoch in range(3):
        images = [image for step in range(per_epoch) for image in drawn(0, epoch * per_epoch + step)[0]]
        assert len(set(images)) == len(images) == per_epoch * 4
        orders.append(images)
    assert orders[0] != orders[1] != orders[2]


def test_an_epoch_of_a_size_that_divides_visits_every_image_once(data, monkeypatch):
    seen, select = [], data.select
    monkeypatch.setattr(data, "select", lambda i, c, *, when: seen.extend(i.tolist()) or select(i, c))
    for step in range(2):
        data.batch(seed=0, step=step, size=COUNT // 2)
    assert sorted(seen) == list(range(COUNT))


def test_captions_are_those_of_their_images_and_all_are_drawn(drawn):
    seen = set()
    for step in range(60):
        seen.update(zip(*drawn(0, step), strict=True))
    assert seen == {(image, caption) for image in range(COUNT) for caption in range(PARAMS.captions)}


def test_a_batch_that_is_larger_than_the_split_names_the_key(data):
    with pytest.raises(VlalignError, match=rf"train\.batch_size is {COUNT + 1}"):
        data.batch(seed=0, step=0, size=COUNT + 1)


def test_tensors_equal_those_made_from_the_samples_one_by_one(data, folder, encoder):
    samples = list(read_split(folder / "split"))
    rows = torch.arange(COUNT)
    batch = data.select(rows, 1)
    assert torch.equal(
        normalise(batch.images, encoder), preprocess(encoder)([decode_image(sample.image) for sample in samples])
    )
    assert torch.equal(batch.tokens, encoder.tokenizer([sample.captions[1] for sample in samples]))
    for row, sample in enumerate(samples):
        words = words_of(sample.captions[1])
        spans = {(part.first, part.last) for part in constituents_of(sample, 1, words)}
        expected = sorted((span for span in spans if span[1] - span[0] >= 2), key=lambda s: (s[1] - s[0], s))
        found = [tuple(members.nonzero()[:, 0].tolist()) for members in batch.members[row] if members.any()]
        assert found == [tuple(range(*span)) for span in expected[: PHRASES.count]]
        assert batch.phrase_mask[row].sum() == len(found)
        assert naive_owners(batch.tokens[row], words, encoder) == batch.words[row].tolist()


def naive_owners(tokens, words, encoder):
    """Each token's word: captions of the dataset split at spaces, so word by word is how they are tokenized."""
    owners = [-1]
    for index, word in enumerate(words):
        owners += [index] * len(encoder.tokenizer.encode(word.text))
    assert int(tokens.argmax()) == len(owners)
    return owners + [-1] * (len(tokens) - len(owners))


def test_regions_cover_the_patches_that_their_masks_cover(data, folder, encoder):
    rows = torch.arange(COUNT)
    batch = data.select(rows)
    patch = encoder.image_size // encoder.grid[0]
    for row, sample in enumerate(read_split(folder / "split")):
        labels = decode_instances(sample.instances)
        objects = [instance for instance in np.unique(labels) if instance][: REGIONS.count]
        for region, instance in enumerate(objects):
            for place, covered in enumerate(batch.coverage[row, region].tolist()):
                top, left = place // encoder.grid[1] * patch, place % encoder.grid[1] * patch
                inside = (labels == instance)[top : top + patch, left : left + patch]
                assert covered == pytest.approx(inside.mean(), abs=1e-6)
        assert batch.region_mask[row].all(), "boxes fill up what objects leave"


def test_without_annotations_a_batch_holds_pairs_alone(folder, encoder, data):
    plain = PairedSet(folder / "split", encoder)
    batch = plain.batch(seed=0, step=0, size=4)
    assert (batch.words, batch.members, batch.phrase_mask, batch.coverage, batch.region_mask) == (None,) * 5
    annotated = data.batch(seed=0, step=0, size=4)
    assert torch.equal(batch.tokens, annotated.tokens), "the annotations change no token"
    assert torch.equal(batch.images, annotated.images)


def test_a_split_whose_images_may_lack_captions_is_refused(tmp_path, encoder):
    picture = encode_png(np.zeros((32, 32, 3), np.uint8))
    write_split(tmp_path, [Sample("a", picture), Sample("b", picture, ("a dog",))], source={})
    with pytest.raises(VlalignError, match="verified without asking for captions"):
        PairedSet(tmp_path, encoder)


def test_a_caption_that_was_never_parsed_is_named(folder, encoder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    samples = {sample.key: list(parsed(sample)) for sample in read_split(tmp_path / "split")}
    del samples["000000003"][2]
    write_phrases(tmp_path / "phrases", samples)
    with pytest.raises(VlalignError, match="caption 2 of '000000003' was never parsed"):
        load(tmp_path, encoder).select(torch.tensor([3]), 2)


def test_an_image_without_regions_is_named(folder, encoder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    manifest = read_record(tmp_path / "regions" / "manifest.json")
    manifest["shards"] = manifest["shards"][:1]
    write_record(tmp_path / "regions" / "manifest.json", manifest)
    with pytest.raises(VlalignError, match=r"000001\.tar has no regions in .*; run the regions rule"):
        load(tmp_path, encoder)
    write_regions(tmp_path / "regions" / "000000.arrow", [])
    manifest["shards"] = read_record(folder / "regions" / "manifest.json")["shards"]
    write_record(tmp_path / "regions" / "manifest.json", manifest)
    with pytest.raises(VlalignError, match=r"000000\.arrow is not the file that .*manifest\.json describes"):
        load(tmp_path, encoder)
    manifest["shards"][0] |= stamp(tmp_path / "regions" / "000000.arrow")
    write_record(tmp_path / "regions" / "manifest.json", manifest)
    with pytest.raises(VlalignError, match=r"'000000000' has no regions in .*; run the regions rule"):
        load(tmp_path, encoder)


def test_a_caption_that_is_too_long_loses_the_phrases_that_are_cut(encoder, tmp_path):
    caption = " ".join(["dog"] * 40)
    picture = encode_png(np.zeros((32, 32, 3), np.uint8))
    write_pairs(tmp_path / "split", [Sample("a", picture, (caption,))])
    spans = [(0, 2), (23, 26), (24, 27), (30, 40), (0, 40)]
    parse = Parse(words_of(caption), tuple(Constituent("NP", *span) for span in spans))
    write_phrases(tmp_path / "phrases", {"a": [(caption, parse)]})
    data = PairedSet(tmp_path / "split", encoder, phrases=tmp_path / "phrases", phrase_choice=PHRASES)
    assert encoder.context_length == 28, "start, 26 words, end"
    members = data.select(torch.tensor([0])).members[0]
    assert [tuple(row.nonzero()[:, 0].tolist()) for row in members if row.any()] == [(0, 1), (23, 24, 25)]


def entry_of(*constituents, words=8):
    placed = tuple(Word(0, 0, "", "NN") for _ in range(words))
    return ParsedCaption("k", 0, "", placed, tuple(Constituent(*part) for part in constituents))


def chosen(entry, choice, *, present=range(8)):
    return choose_phrases(entry, choice, present=set(present))


def test_phrases_are_chosen_by_label_and_length():
    entry = entry_of(("S", 0, 8), ("NP", 0, 2), ("NP", 3, 4), ("PP", 4, 8), ("VP", 2, 8))
    assert chosen(entry, PhraseChoice(labels=("NP", "PP"), min_words=2)) == [(0, 2), (4, 8)]
    assert chosen(entry, PhraseChoice(labels=("NP", "PP"), min_words=1)) == [(3, 4), (0, 2), (4, 8)]
    assert chosen(entry, PhraseChoice(labels=("VP", "S"), min_words=7)) == [(0, 8)]
    assert chosen(entry, PhraseChoice(labels=("QP",))) == []


def test_the_shortest_phrases_come_first_and_the_others_are_left_out():
    entry = entry_of(("S", 0, 8), ("NP", 5, 8), ("NP", 0, 3), ("NP", 3, 5))
    everything = [(3, 5), (0, 3), (5, 8), (0, 8)]
    for count in range(1, 5):
        assert chosen(entry, PhraseChoice(count=count)) == everything[:count]


def test_equal_word_ranges_are_one_phrase():
    assert chosen(entry_of(("NP", 0, 4), ("S", 0, 4), ("NP", 0, 4)), PhraseChoice()) == [(0, 4)]


def test_phrases_that_lost_a_word_are_dropped():
    entry = entry_of(("NP", 0, 2), ("NP", 3, 6), ("S", 0, 8))
    assert chosen(entry, PhraseChoice(), present=range(5)) == [(0, 2)]


def test_labels_are_those_of_whatever_treebank_the_parser_knows():
    entry = entry_of(("IP-HLN", 0, 8), ("NP-SBJ", 0, 2), ("名詞句", 3, 6), ("grup.nom", 4, 8))
    assert chosen(entry, PhraseChoice(labels=("NP-SBJ", "名詞句", "grup.nom"))) == [(0, 2), (3, 6), (4, 8)]


def test_random_generators_depend_on_their_key_alone():
    def draw(*key):
        return torch.rand(4, generator=generator(*key)).tolist()

    assert draw(0, "order", 1) == draw(0, "order", 1)
    keys = ((0, "order", 1), (0, "order", 2), (1, "order", 1), (0, "caption", 1))
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)


def test_long_keys_have_generators_of_their_own():
    seeds = [2024010101, 2024010102, "a long name", "a long names"]
    assert len({generator(seed, "order", 0).initial_seed() for seed in seeds}) == len(seeds)


@pytest.mark.parametrize("augment", [None, AugmentParams(scale=(0.3, 0.8))])
def test_what_is_kept_is_what_is_read_anew(folder, encoder, augment):
    kept, anew = (load(folder, encoder, augment=augment, room=room) for room in (2**30, 0))
    assert isinstance(anew.pictures, MadeRows)
    assert isinstance(kept.captions, CachedRows)
    assert isinstance(kept.pictures, CachedRows) == (augment is None)
    for step in range(7):
        assert same(kept.batch(seed=3, step=step, size=5), anew.batch(seed=3, step=step, size=5))


def test_every_epoch_sees_other_parts_boxes_and_masks(folder, encoder):
    choice = RegionChoice(kinds=("mask", "box"), count=3, order="random")
    data = load(folder, encoder, augment=AugmentParams(scale=(0.3, 0.8)), region_choice=choice)
    rows = torch.arange(COUNT)
    one, again, other = (data.select(rows, when=when) for when in ("0/0", "0/0", "0/1"))
    assert same(one, again)
    assert torch.equal(one.tokens, other.tokens)
    different = (one.images != other.images).flatten(1).any(1)
    assert different.all()
    assert (one.coverage != other.coverage).flatten(1).any(1).float().mean() > 0.9


def test_damage_is_the_same_in_every_epoch_and_in_every_order(folder, encoder):
    def covered(when="0/0", **choice):
        data = load(folder, encoder, region_choice=RegionChoice(count=5, **choice))
        return data.select(torch.arange(COUNT), when=when).coverage

    spoilt = RegionDamage(holes=0.5, merges=0.3)
    whole, damaged = covered(), covered(damage=spoilt)
    assert torch.equal(damaged, covered("1/7", damage=spoilt))
    assert ((damaged != whole).any(2) == (whole.sum(2) > 0)).float().mean() > 0.9
    assert torch.equal(damaged.sum(2) > 0, whole.sum(2) > 0), "no region vanishes"
    drawn = covered("1/7", damage=spoilt, order="random")
    assert not torch.equal(drawn, damaged)
    assert torch.equal(drawn.sort(1).values, damaged.sort(1).values), "other places, the same masks"


def test_damage_is_said_of_runs_that_have_it_alone():
    """A run of before has the digest of before."""
    plain, spoilt = (PowersetParams(weight=1, regions=choice) for choice in (RegionChoice(), DAMAGED))
    assert "damage" not in plain.relevant()["regions"]
    assert spoilt.relevant()["regions"] == {**plain.relevant()["regions"], "damage": {"holes": 0.2, "merges": 0.0}}
    assert PowersetParams(regions=DAMAGED).relevant() == {"weight": 0.0}


def test_boxes_alone_need_no_annotation_and_are_new_in_every_epoch(folder, encoder):
    data = PairedSet(folder / "split", encoder, region_choice=RegionChoice(kinds=("box",), count=6))
    rows = torch.arange(COUNT)
    one, other = data.select(rows, when="0/0"), data.select(rows, when="0/1")
    assert one.coverage.shape == (COUNT, 6, encoder.grid[0] * encoder.grid[1])
    assert one.region_mask.all()
    assert not torch.equal(one.coverage, other.coverage)
    assert torch.equal(one.coverage, data.select(rows, when="0/0").coverage)
    key = data.split.key(3)
    assert torch.equal(one.coverage[3], random_boxes(random.Random(f"0/0/boxes/{key}"), 6, encoder.grid))


def test_a_loader_holds_no_more_at_the_end_of_an_epoch(tmp_path, encoder):
    """Of 100 MB of pictures, which would show if any of what was read were kept."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    pictures = (encode_png(np.roll(pixels, shift, axis=0)) for shift in range(840))
    write_pairs(tmp_path, (Sample(f"{k}", picture, (f"a dog {k}",)) for k, picture in enumerate(pictures)))
    data = PairedSet(tmp_path, encoder, room=0)
    steps = Steps(data, seed=0, size=14, share=lambda rows: rows)
    batches = iter(load_batches(steps, range(60), workers=1, pinned=False))
    status, held = Path(f"/proc/{batches._workers[0].pid}/status"), []
    for _ in range(50):  # the loader ends when it has made the last batch
        next(batches)
        held.append(int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1]) / 1024)
    assert max(held[10:]) - held[10] < 10, "MiB"


def test_a_set_can_be_handed_to_other_processes(data):
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(again.batch(seed=0, step=0, size=4).images, data.batch(seed=0, step=0, size=4).images)
