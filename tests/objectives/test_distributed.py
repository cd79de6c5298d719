"""Processes that share a batch: the loss and, after DDP's mean, the gradient of one process with all of it."""

import contextlib
import os
import socket
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from vlalign.objectives import (
    centre,
    cs_divergence,
    gaussian_kl,
    hard_negative_loss,
    mmd,
    powerset_loss,
    sliced_wasserstein,
    token_cs_divergence,
)
from vlalign.objectives.distributed import Shares, gather, plain

PAIRS, REGIONS, PHRASES, WIDTH = 12, 4, 3, 5
# How many pairs each process holds.
SHARES = {1: (12,), 2: (5, 7), 4: (3, 1, 6, 2)}


def batch():
    random = torch.Generator().manual_seed(3)
    regions = torch.randn(PAIRS, REGIONS, WIDTH, generator=random, dtype=torch.float64)
    phrases = torch.randn(PAIRS, PHRASES, WIDTH, generator=random, dtype=torch.float64)
    masks = [torch.rand(x.shape[:2], generator=random) < 0.7 for x in (regions, phrases)]
    return regions, phrases, *masks


def powerset(rule):
    def loss(regions, phrases, region_mask, phrase_mask, group, weights):
        masks = {"region_mask": region_mask, "phrase_mask": phrase_mask}
        random = torch.Generator().manual_seed(0)
        phi, p = (F.normalize(x, dim=-1) for x in (regions, phrases))
        return powerset_loss(phi, p, tau=0.1, generator=random, group=group, tile=2, **masks, **rule)

    return loss


def centred(regions, phrases, region_mask, phrase_mask, group, weights):
    phi, p = centre(regions, region_mask, group=group), centre(phrases, phrase_mask, group=group)
    return powerset_loss(phi, p, region_mask=region_mask, phrase_mask=phrase_mask, tau=0.1, group=group)


def learnt(regions, phrases, region_mask, phrase_mask, group, weights):
    """The cost and the scale have gradients too."""
    scalars = {"cost": 0.1 * weights[0, 0], "scale": 3 * weights[1, 1]}
    return powerset({"loss": "cross-entropy", **scalars})(regions, phrases, region_mask, phrase_mask, group, weights)


def learnt_orders(regions, phrases, region_mask, phrase_mask, group, weights):
    """So have the order of the norm of every phrase, and one for all."""
    scale = {"loss": "cross-entropy", "scale": 4.0, "aggregator": "holder"}
    each = 2 + (phrases @ weights[0]).tanh()
    one = 2 + weights[0, 0].tanh()
    features = regions, phrases, region_mask, phrase_mask, group, weights
    return sum(powerset({**scale, "norm_order": order})(*features) for order in (each, one))


def divergence(function, **rule):
    def loss(regions, phrases, region_mask, phrase_mask, group, weights):
        return function(regions[:, 0], phrases[:, 0], group=group, **rule)

    return loss


def unpaired(function, **rule):
    """Three times as many points on one side, of which only their process knows the number."""

    def loss(regions, phrases, region_mask, phrase_mask, group, weights):
        return function(regions[:, 0], phrases.flatten(0, 1), group=plain(group), **rule)

    return loss


def sliced(x, y, **rule):
    return sliced_wasserstein(x, y, generator=torch.Generator().manual_seed(0), **rule)


def hard_negatives(against):
    def loss(regions, phrases, region_mask, phrase_mask, group, weights):
        sides = regions[:, 0], phrases[:, 0], phrases[:, 1]
        return hard_negative_loss(*sides, twin_mask=phrase_mask[:, 1], scale=0.5, against=against, group=group)

    return loss


def tokens(regions, phrases, region_mask, phrase_mask, group, weights):
    masks = {"x_mask": region_mask, "y_mask": phrase_mask}
    return token_cs_divergence(regions, phrases, sigma=1.0, unbiased=True, tile=2, group=plain(group), **masks)


LOSSES = {
    "triplet, hardest": powerset({"negatives": "hardest"}),
    "triplet, semi-hard": powerset({"negatives": "semi-hard", "per_region": True, "direction": "t2r"}),
    "cross-entropy": powerset({"loss": "cross-entropy", "scale": 4.0}),
    "sampled": powerset({"loss": "cross-entropy", "aggregator": "sampled"}),
    "calibrated": powerset({"aggregator": "calibrated"}),
    "cost of the batch": powerset({"cost": "batch", "empty_subset": False}),
    "learnt": learnt,
    "learnt orders": learnt_orders,
    "centred": centred,
    "divergence": divergence(cs_divergence, sigma=0.7, tile=2),
    "divergence, unbiased": divergence(cs_divergence, sigma=(0.5, 1.0), unbiased=True, tile=2),
    "divergence, median": divergence(cs_divergence, unbiased=True, tile=2),
    "mmd": divergence(mmd, sigma=0.7, tile=2),
    "mmd, unbiased, median": divergence(mmd, unbiased=True, tile=2),
    "gaussian_kl": divergence(gaussian_kl, shrinkage=0.1),
    "sliced_wasserstein": divergence(sliced),
    "mmd, unpaired": unpaired(mmd, sigma=0.7),
    "sliced_wasserstein, unpaired": unpaired(sliced),
    "hard negatives": hard_negatives("batch"),
    "hard negatives, own": hard_negatives("own"),
    "tokens": tokens,
}


def results(processes, rank, group):
    """Value of every loss, and its gradient with regard to weights that all processes share."""
    start = sum(SHARES[processes][:rank])
    rows = slice(start, start + SHARES[processes][rank])
    regions, phrases, *masks = (x[rows] for x in batch())
    found = {}
    for name, loss in LOSSES.items():
        weights = torch.eye(WIDTH, dtype=torch.float64).requires_grad_()
        value = loss(regions @ weights, phrases @ weights.square(), *masks, group, weights)
        (gradient,) = torch.autograd.grad(value, weights)
        if group is not None:
            dist.all_reduce(gradient)
        found[name] = value.item(), gradient / processes
    return found


def sent(run):
    """What `run` gives, and how often each kind of message went around meanwhile."""
    kinds = ("all_gather", "all_reduce")
    with contextlib.ExitStack() as stack:
        spies = {kind: stack.enter_context(mock.patch.object(dist, kind, wraps=getattr(dist, kind))) for kind in kinds}
        return run(), {kind: spy.call_count for kind, spy in spies.items()}


def work(rank, processes, port, folder):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=processes)
    known = Shares(dist.group.WORLD, SHARES[processes])
    found = [sent(lambda group=group: results(processes, rank, group)) for group in (dist.group.WORLD, known)]
    with pytest.raises(ValueError, match="give the plain group"):
        gather(torch.zeros(99, 2), known)
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_processes_together_equal_one(processes, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(work, (processes, port, str(tmp_path)), nprocs=processes)
    alone = results(1, 0, None)
    for rank in range(processes):
        (asked, messages), (known, fewer) = torch.load(tmp_path / f"{rank}.pt")
        for name, (value, gradient) in asked.items():
            assert value == pytest.approx(alone[name][0], abs=1e-10), (name, rank)
            torch.testing.assert_close(gradient, alone[name][1], atol=1e-10, rtol=0, msg=f"{name}, rank {rank}")
            assert known[name][0] == value
            assert torch.equal(known[name][1], gradient)
        # Every gathering and every question where one's own rows lie costs a message that says how many there are.
        assert fewer["all_reduce"] == messages["all_reduce"]
        assert fewer["all_gather"] < messages["all_gather"] / 2


def test_the_mean_of_the_ranks_own_divergences_is_another_number():
    regions, phrases, *_ = batch()
    whole = cs_divergence(regions[:, 0], phrases[:, 0], sigma=0.7).item()
    parts = [cs_divergence(regions[rows, 0], phrases[rows, 0], sigma=0.7).item() for rows in (slice(6), slice(6, 12))]
    assert abs(sum(parts) / 2 - whole) > 0.05


def test_processes_need_a_generator_of_their_own_choice():
    with pytest.raises(ValueError, match="generator is missing"):
        powerset_loss(*batch()[:2], aggregator="sampled", group=object())
