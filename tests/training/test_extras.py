"""Images and captions without a partner, and the captions of an image that were not drawn."""

import pytest
import torch
from training_runs import EVERY_TERM, train_below

from vlalign import models
from vlalign.data.shards.split import Split, read_split
from vlalign.errors import VlalignError
from vlalign.models.pictures import normalise
from vlalign.objectives import cs_divergence
from vlalign.params import RunParams
from vlalign.training.data.batches import PairedSet
from vlalign.training.data.inputs import Inputs
from vlalign.training.data.unpaired import UnpairedCaptions, UnpairedImages
from vlalign.training.objective import Objective
from vlalign.training.term import Step


def whole(rows):
    return rows


@pytest.fixture
def encoder(config):
    torch.manual_seed(0)
    return models.create(config()["params"]["model"]["tower"], pooling="average").eval()


def test_an_epoch_of_a_stream_visits_every_sample_at_most_once(inputs, encoder):
    stream = UnpairedImages(inputs.unpaired_images, 4, encoder)
    epochs = [[i for step in (0, 1) for i in stream.draw(0, 2 * epoch + step)[0].tolist()] for epoch in range(3)]
    for visited in epochs:
        assert len(set(visited)) == 8
        assert set(visited) <= set(range(9))
    assert epochs[0] != epochs[1]
    assert stream.draw(0, 3)[0].tolist() == epochs[1][4:]


def test_streams_have_orders_of_their_own(inputs, encoder):
    images = UnpairedImages(inputs.unpaired_images, 9, encoder).draw(0, 0)[0]
    captions = UnpairedCaptions(inputs.unpaired_captions, 9, encoder).draw(0, 0)[0]
    assert images.tolist() != captions.tolist()


@pytest.mark.parametrize("kind", [UnpairedImages, UnpairedCaptions])
def test_shares_together_are_the_whole(inputs, encoder, kind):
    folder = inputs.unpaired_images if kind is UnpairedImages else inputs.unpaired_captions
    rows = kind(folder, 5, encoder)
    parts = [rows(0, 3, lambda x, rank=rank: x.tensor_split(7)[rank]) for rank in range(7)]
    assert torch.equal(torch.cat(parts), rows(0, 3, whole))
    assert parts[-1].shape[0] == 0


def test_captions_are_those_of_the_stream_and_all_are_drawn(inputs, encoder):
    known = {
        tuple(encoder.tokenizer([c])[0].tolist()) for s in read_split(inputs.unpaired_captions) for c in s.captions
    }
    rows = UnpairedCaptions(inputs.unpaired_captions, 9, encoder)
    seen = {tuple(tokens.tolist()) for step in range(30) for tokens in rows(0, step, whole)}
    assert seen == known


def test_pictures_are_those_of_the_stream(inputs, encoder):
    stream = UnpairedImages(inputs.unpaired_images, 9, encoder)
    order = stream.draw(0, 0)[0]
    every = PairedSet(inputs.split, encoder)  # any set of pictures, to show that these are others
    pictures = stream(0, 0, whole)
    assert pictures.shape == (9, 3, 32, 32)
    assert len({picture.sum().item() for picture in pictures}) > 5
    assert not torch.equal(pictures[0], every.select(order[:1]).images[0])


def test_too_many_and_others_than_needed_are_refused(inputs, encoder):
    with pytest.raises(VlalignError, match=r"a step takes 10 samples of .*, which has 9; lower `unpaired`"):
        UnpairedImages(inputs.unpaired_images, 10, encoder)
    with pytest.raises(VlalignError, match="verified without asking for captions"):
        UnpairedCaptions(inputs.unpaired_images, 2, encoder)


def params_of(config, **cs):
    objective = {"cs": {**EVERY_TERM["cs"], "token_weight": 0, **cs}}
    return RunParams.model_validate({**config(batch_size=6)["params"], "objective": objective})


def test_a_batch_has_them_beside_its_pairs(config, inputs, encoder):
    batch = inputs.training_set(encoder, params_of(config)).batch(seed=0, step=1, size=6)
    plain = PairedSet(inputs.split, encoder).batch(seed=0, step=1, size=6)
    assert torch.equal(batch.images, plain.images)
    assert torch.equal(batch.tokens, plain.tokens)
    assert batch.more_images.shape[0] == 3
    assert batch.more_tokens.shape[0] == 5 + 6 * 2
    split, drawn = Split(inputs.split), {tuple(row.tolist()) for row in batch.tokens}
    others = {tuple(row.tolist()) for row in batch.more_tokens[5:]}
    assert split.most_captions == 3
    known = {
        tuple(encoder.tokenizer([caption])[0].tolist())
        for sample in read_split(inputs.split)
        for caption in sample.captions
        if any(tuple(encoder.tokenizer([other])[0].tolist()) in drawn for other in sample.captions)
    }
    assert others <= known


def test_the_divergence_is_that_of_all_and_infonce_that_of_the_pairs(config, inputs, encoder):
    params = params_of(config)
    batch = inputs.training_set(encoder, params).batch(seed=0, step=0, size=6)
    objective = Objective(params.objective)
    with torch.no_grad():
        image, text = encoder(normalise(batch.all_images(), encoder), batch.all_tokens())
        features = objective.features(image, text, encoder.logit_scale, batch)
        _, terms = objective(features, Step(lambda _: torch.Generator()))
        expected = cs_divergence(image.embedding_ID, text.embedding_CD, sigma=(0.5, 1.0), unbiased=True)
        pairs = encoder(normalise(batch.images, encoder), batch.tokens)
        alone = Objective(params_of(config, captions="one", unpaired={}).objective)
        plain = type(batch)(images=batch.images, tokens=batch.tokens)
        _, without = alone(alone.features(*pairs, encoder.logit_scale, plain), Step(lambda _: torch.Generator()))
    torch.testing.assert_close(terms["cs"], expected)
    torch.testing.assert_close(terms["contrastive"], without["contrastive"])
    assert not torch.isclose(terms["cs"], without["cs"], rtol=1e-3)


def test_a_run_with_unpaired_data_says_what_is_missing(config, inputs, tmp_path):
    run = {**config(), "params": params_of(config).model_dump(mode="json")}
    with pytest.raises(VlalignError, match="needs more than pairs: give unpaired_images and unpaired_captions"):
        train_below(tmp_path, run, Inputs(inputs.split))


def test_runs_depend_on_the_unpaired_data(config, inputs, tmp_path):
    def train(name, **cs):
        return train_below(
            tmp_path / name, {**config(), "params": params_of(config, **cs).model_dump(mode="json")}, inputs
        )

    one, again = train("one"), train("again")
    other = train("other", unpaired={"images": 0, "captions": 5})
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
