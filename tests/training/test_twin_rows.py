"""Twins of captions in batches, and the term that trains on them."""

import logging
import pickle
import random

import numpy as np
import pytest
import torch
from annotated_scenes import parsed, words_of, write_pairs, write_phrases
from pydantic import ValidationError
from training_runs import TOWER, train_below

from vlalign import models
from vlalign.annotate.phrases.annotation import Constituent
from vlalign.annotate.phrases.phrase_files import ParsedCaption
from vlalign.annotate.phrases.trees import Parse
from vlalign.annotate.phrases.twins import drawn_twins
from vlalign.data.samples import Sample, encode_png
from vlalign.data.shards.split import read_split
from vlalign.errors import VlalignError
from vlalign.models.pictures import normalise
from vlalign.objectives import hard_negative_loss
from vlalign.params import ObjectiveParams, RunParams
from vlalign.training.data.batches import PairedSet, check_parts
from vlalign.training.objective import Objective
from vlalign.training.term import Step

BOTH = ("swap", "flip")
STEP = Step(lambda key: torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return models.create(TOWER, pooling="average").eval()


@pytest.fixture(scope="module")
def data(inputs, encoder):
    return PairedSet(inputs.split, encoder, phrases=inputs.phrases, twins=BOTH)


def same(one, other):
    ours, theirs = one.columns(), other.columns()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def entries_of(inputs):
    return {
        (sample.key, index): ParsedCaption(sample.key, index, caption, parse.words, parse.constituents)
        for sample in read_split(inputs.split)
        for index, (caption, parse) in enumerate(parsed(sample))
    }


def test_a_caption_that_has_twins_comes_with_one_of_them(inputs, encoder, data):
    entries = entries_of(inputs)
    for caption in range(3):
        batch = data.select(torch.arange(len(data)), caption, when="0/0")
        for row, (tokens, twin, real) in enumerate(zip(batch.tokens, batch.twins, batch.twin_mask, strict=True)):
            entry = entries[data.split.key(row), caption]
            texts = list(drawn_twins(entry, BOTH, random.Random(f"0/0/twins/{entry.key}/{caption}")))
            assert real == bool(texts)
            assert torch.equal(twin, encoder.tokenizer([texts[0]])[0] if texts else tokens)
        assert batch.twin_mask.any()


def test_twins_are_a_function_of_seed_and_epoch(inputs, encoder, data):
    again = pickle.loads(pickle.dumps(data))
    for step in (0, 7):
        assert same(data.batch(seed=1, step=step, size=10), again.batch(seed=1, step=step, size=10))
    rows = torch.arange(len(data))
    one, other = (data.select(rows, when=when) for when in ("0/0", "0/1"))
    assert torch.equal(one.tokens, other.tokens)
    assert torch.equal(one.twin_mask, other.twin_mask), "whether there is one is no matter of chance"
    assert not torch.equal(one.twins, other.twins)


def test_twins_change_nothing_else_of_a_batch(inputs, encoder, data):
    plain = PairedSet(inputs.split, encoder).batch(seed=0, step=1, size=6)
    batch = data.batch(seed=0, step=1, size=6)
    assert torch.equal(batch.tokens, plain.tokens)
    assert torch.equal(batch.images, plain.images)
    assert plain.twins is plain.twin_mask is None
    assert len(batch.all_tokens()) == 12
    parts = batch.split(4)
    assert torch.equal(torch.cat([part.twins for part in parts]), batch.twins)


def write_captions(folder, captions, parses):
    picture = encode_png(np.zeros((32, 32, 3), np.uint8))
    names = [f"{number}" for number in range(len(captions))]
    write_pairs(folder / "split", [Sample(name, picture, (text,)) for name, text in zip(names, captions, strict=True)])
    pairs = zip(names, captions, parses, strict=True)
    write_phrases(folder / "phrases", {name: [(text, parse)] for name, text, parse in pairs})


def flat(caption):
    return Parse(words_of(caption))


def test_a_twin_that_truncation_makes_equal_is_none(encoder, tmp_path):
    long = " ".join(["dog"] * 40)
    captions = [f"{long} left", f"left {long}"]
    write_captions(tmp_path, captions, [flat(caption) for caption in captions])
    data = PairedSet(tmp_path / "split", encoder, phrases=tmp_path / "phrases", twins=("flip",))
    batch = data.select(torch.arange(2))
    assert batch.twin_mask.tolist() == [False, True]
    assert torch.equal(batch.twins[0], batch.tokens[0])
    assert torch.equal(batch.twins[1], encoder.tokenizer([f"right {long}"])[0])


def test_captions_without_twins_are_counted(encoder, tmp_path, caplog):
    captions = ["a small dog", "a dog", "a cat"]
    write_captions(tmp_path, captions, [flat(caption) for caption in captions])
    some = PairedSet(tmp_path / "split", encoder, phrases=tmp_path / "phrases", twins=BOTH)
    with caplog.at_level(logging.WARNING):
        check_parts(some)
    assert "2 of the first 3 pairs have no twins of objective.hard_negatives.kinds" in caplog.text
    none = PairedSet(tmp_path / "split", encoder, phrases=tmp_path / "phrases", twins=("swap",))
    with pytest.raises(VlalignError, match=r"none of the first 3 pairs of .* has twins as objective\.hard_neg"):
        check_parts(none)


def test_a_caption_that_was_never_parsed_is_named(encoder, tmp_path):
    write_captions(tmp_path, ["a dog"], [Parse(words_of("a dog"), (Constituent("NP", 0, 2),))])
    write_phrases(tmp_path / "phrases", {"0": []})
    with pytest.raises(VlalignError, match="caption 0 of '0' was never parsed"):
        PairedSet(tmp_path / "split", encoder, phrases=tmp_path / "phrases", twins=BOTH).select(torch.tensor([0]))


@pytest.mark.parametrize("against", ["batch", "own"])
def test_the_term_is_the_loss_of_a_batch(data, encoder, against):
    params = ObjectiveParams.model_validate({"contrastive": 0, "hard_negatives": {"weight": 0.5, "against": against}})
    objective, batch = Objective(params), data.batch(seed=0, step=0, size=12)
    image, text = encoder(normalise(batch.all_images(), encoder), batch.all_tokens())
    features = objective.features(image, text, encoder.logit_scale, batch)
    total, losses = objective(features, STEP)
    sides = image.embedding_ID, text.embedding_CD[:12], text.embedding_CD[12:]
    wanted = hard_negative_loss(*sides, twin_mask=batch.twin_mask, scale=encoder.logit_scale.exp(), against=against)
    assert losses["hard_negatives"] == wanted
    assert total == 0.5 * wanted
    shown = objective.statistics(features, STEP)
    assert shown["twin_share"] == pytest.approx(100 * batch.twin_mask.float().mean().item())
    assert 0 <= shown["twin_accuracy"] <= 100


def test_twins_come_behind_what_joins_the_divergences(inputs, config):
    terms = {"hard_negatives": 1.0, "cs": {"weight": 1.0, "captions": "all"}}
    params = RunParams.model_validate({**config(batch_size=6)["params"], "objective": terms})
    encoder = models.create(TOWER, pooling="average").eval()
    batch = inputs.training_set(encoder, params).batch(seed=0, step=0, size=6)
    image, text = encoder(normalise(batch.images, encoder), batch.all_tokens())
    features = Objective(params.objective).features(image, text, encoder.logit_scale, batch)
    assert torch.equal(features["more_texts_ED"], text.embedding_CD[6:18])
    assert torch.equal(features["twins_CD"], text.embedding_CD[18:])
    torch.testing.assert_close(features["twins_CD"], encoder.encode_text(batch.twins).embedding_CD)


def test_params():
    off = ObjectiveParams()
    assert not off.hard_negatives.is_used
    assert "hard_negatives" not in off.relevant()
    assert off.needs.folders == ()
    on = ObjectiveParams.model_validate({"hard_negatives": 0.3})
    assert on.needs.twins == BOTH
    assert on.needs.folders == ("phrases",)
    assert on.relevant()["hard_negatives"] == {"weight": 0.3, "kinds": ["swap", "flip"], "against": "batch"}
    with pytest.raises(ValidationError, match=r"hard_negatives.*kinds"):
        ObjectiveParams.model_validate({"hard_negatives": {"weight": 1.0, "kinds": []}})


def test_frozen_features_are_refused(config):
    frozen = {"model": {"tower": TOWER, "adapters": {}}, "objective": {"hard_negatives": 1.0}}
    with pytest.raises(ValidationError, match=r"model\.adapters: .* have no twins of captions; .*hard_negatives"):
        RunParams.model_validate({**config()["params"], **frozen})


@pytest.mark.exhaustive
def test_a_run_in_parts_ends_as_one_of_whole_batches(inputs, config, tmp_path):
    terms = {"contrastive": 1.0, "hard_negatives": {"weight": 1.0, "against": "own"}}
    runs = []
    for parts in (1, 2):
        run = config(steps=6, accumulate=parts)
        run["params"]["objective"] = terms
        runs.append(train_below(tmp_path / f"{parts}", run, inputs))
    for name, value in runs[0].items():
        torch.testing.assert_close(value, runs[1][name], atol=2e-4, rtol=0, msg=name)
