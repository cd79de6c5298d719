"""Captions against their twins: the loss, written out with loops, and what is no twin."""

import math

import pytest
import torch
import torch.nn.functional as F

from vlalign.objectives import hard_negative_loss

COUNT, WIDTH = 6, 5
every = pytest.mark.parametrize("against", ["batch", "own"])


def sides():
    random = torch.Generator().manual_seed(2)
    return [F.normalize(torch.randn(COUNT, WIDTH, generator=random, dtype=torch.float64), dim=1) for _ in range(3)]


MASK = torch.tensor([True, False, True, True, False, True])


def naive(images, captions, twins, mask, scale, against):
    """By loops over single similarities."""
    found = []
    for i, image in enumerate(images):
        if against == "own":
            others = [captions[i], twins[i]] if mask[i] else []
        else:
            others = [*captions, *(twin for twin, real in zip(twins, mask, strict=True) if real)]
        if others:
            total = sum(torch.exp(scale * image.dot(other)) for other in others)
            found.append(-torch.log(torch.exp(scale * image.dot(captions[i])) / total))
    return sum(found) / len(found)


@every
@pytest.mark.parametrize("mask", [MASK, torch.ones(COUNT, dtype=torch.bool)])
def test_value_and_gradient_are_those_of_loops(against, mask):
    free = [x.requires_grad_() for x in (*sides(), torch.tensor(3.0, dtype=torch.float64))]
    ours = hard_negative_loss(*free[:3], twin_mask=mask, scale=free[3], against=against)
    theirs = naive(*free[:3], mask, free[3], against)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)
    gradients = (torch.autograd.grad(loss, free) for loss in (ours, theirs))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@every
def test_all_are_twins_without_a_mask(against):
    everything = torch.ones(COUNT, dtype=torch.bool)
    assert hard_negative_loss(*sides(), against=against) == hard_negative_loss(
        *sides(), twin_mask=everything, against=against
    )


@every
def test_what_is_no_twin_may_be_anything(against):
    images, captions, twins = sides()
    wanted = hard_negative_loss(images, captions, twins, twin_mask=MASK, against=against)
    broken = twins.masked_fill(~MASK[:, None], math.nan).requires_grad_()
    loss = hard_negative_loss(images, captions, broken, twin_mask=MASK, against=against)
    assert loss == wanted
    loss.backward()
    assert (broken.grad[~MASK] == 0).all()
    assert (broken.grad[MASK] != 0).any(1).all()


def test_without_any_twin_it_is_infonce_or_nothing():
    images, captions, twins = (x.requires_grad_() for x in sides())
    none = torch.zeros(COUNT, dtype=torch.bool)
    loss = hard_negative_loss(images, captions, twins, twin_mask=none, scale=2.0)
    torch.testing.assert_close(loss, F.cross_entropy(2.0 * images @ captions.T, torch.arange(COUNT)))
    nothing = hard_negative_loss(images, captions, twins, twin_mask=none, against="own")
    nothing.backward()
    assert nothing == 0
    assert (images.grad == 0).all()


@every
def test_a_twin_like_its_caption_costs_more_than_one_unlike_it(against):
    images, captions, _ = sides()
    near, far = (hard_negative_loss(images, captions, x, scale=5.0, against=against) for x in (captions, -images))
    assert near > far
    if against == "own":
        assert near.item() == pytest.approx(math.log(2))


def test_large_scales_do_not_overflow():
    images, captions, twins = (x.float() for x in sides())
    assert hard_negative_loss(images, captions, twins, scale=1e4).isfinite()


def test_bf16_is_computed_in_fp32():
    images, captions, twins = (x.bfloat16() for x in sides())
    wanted = hard_negative_loss(images.float(), captions.float(), twins.float(), scale=10.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert hard_negative_loss(images, captions, twins, scale=10.0) == wanted


def test_errors_name_the_argument():
    images, captions, twins = sides()
    with pytest.raises(ValueError, match="against is 'all'; it must be one of batch, own"):
        hard_negative_loss(images, captions, twins, against="all")
    with pytest.raises(ValueError, match=r"twins_ID \(5, 5\): I must agree"):
        hard_negative_loss(images, captions, twins[1:])
    with pytest.raises(ValueError, match="2 dimensions, and D must agree"):
        hard_negative_loss(images, captions[:, 1:], twins)
    with pytest.raises(ValueError, match=r"twin_mask has shape .* expected bool I"):
        hard_negative_loss(images, captions, twins, twin_mask=torch.ones(COUNT))
