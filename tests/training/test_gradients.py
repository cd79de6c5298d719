"""The gradient of the whole batch from parts of it."""

import functools

import pytest
import torch
from training_runs import EVERY_TERM

from vlalign import models
from vlalign.models.pictures import normalise
from vlalign.params import ObjectiveParams, RunParams
from vlalign.training.data.batches import PairedSet
from vlalign.training.gradients import RandomState, accumulate
from vlalign.training.objective import Objective
from vlalign.training.term import Step, known_terms


@pytest.fixture
def trained(config, inputs):
    """An encoder in fp64, its objective with every term, and a batch."""

    def make():
        torch.manual_seed(0)
        encoder = models.create(config()["params"]["model"]["tower"], pooling="average").double().train()
        params = RunParams.model_validate({**config(batch_size=11)["params"], "objective": EVERY_TERM})
        objective = Objective(params.objective).double()
        batch = inputs.training_set(encoder, params).batch(seed=0, step=0, size=11)
        return encoder, objective, batch

    return make


def gradient(encoder, objective, batch, parts):
    def encode(part):
        image, text = encoder(normalise(part.all_images(), encoder), part.all_tokens())
        return objective.features(image, text, encoder.logit_scale, part)

    def loss(features):
        return objective(features, Step(lambda _: torch.Generator().manual_seed(0)))

    everything = [*encoder.parameters(), *objective.parameters()]
    for parameter in everything:
        parameter.grad = None
    total, terms, features = accumulate(batch.split(parts), encode, loss)
    assert set(terms) == set(objective.weights)
    assert set(objective.terms) == set(known_terms())
    assert len(features["image_ID"]) == len(batch.tokens)
    assert (len(features["more_images_ED"]), len(features["more_texts_ED"])) == (3, 5 + 2 * 11)
    return total, [torch.zeros(()) if p.grad is None else p.grad.clone() for p in everything]


@pytest.mark.parametrize("parts", [2, 4, 11])
def test_parts_have_the_gradient_of_the_whole(trained, parts):
    compare = functools.partial(torch.testing.assert_close, atol=1e-12, rtol=0)
    whole, wanted = gradient(*trained(), parts=1)
    total, found = gradient(*trained(), parts=parts)
    compare(total, whole)
    for ours, theirs in zip(found, wanted, strict=True):
        compare(ours, theirs)
    assert sum(grad.abs().sum() > 0 for grad in wanted) > 20


def test_a_restored_state_draws_the_same_and_leaves_no_trace():
    state = RandomState()
    first, after = torch.rand(3), torch.rand(3)
    state = RandomState()
    third = torch.rand(3)
    with state.restored():
        assert torch.equal(torch.rand(3), third)
        torch.rand(100)
    fourth = torch.rand(3)
    assert not torch.equal(fourth, third)
    assert not torch.equal(first, after)
    with state.restored():
        torch.rand(3)
        assert torch.equal(torch.rand(3), fourth)


DROPPED = {
    "timm_model_name": "test_vit",
    "timm_pool": "avg",
    "timm_drop": 0.3,
    "timm_drop_path": 0.3,
    "image_size": 160,
}


def test_dropout_draws_the_same_in_both_passes(config, inputs):
    tower = {**config()["params"]["model"]["tower"], "vision_cfg": DROPPED}
    encoder = models.create(tower, pooling="average").train()
    objective = Objective(ObjectiveParams())
    batch = PairedSet(inputs.split, encoder).batch(seed=0, step=0, size=6)
    encoded = []

    def encode(part):
        image, text = encoder(normalise(part.images, encoder), part.tokens)
        encoded.append(image.embedding_ID.detach())
        return objective.features(image, text, encoder.logit_scale, part)

    accumulate(batch.split(3), encode, lambda features: objective(features, Step(lambda _: torch.Generator())))
    first, second = encoded[:3], encoded[3:]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    encode(batch.split(3)[0])
    assert not torch.equal(encoded[-1], encoded[0]), "nothing is dropped"
