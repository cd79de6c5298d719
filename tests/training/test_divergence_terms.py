"""Every term that compares the distributions of both modalities, and those that are still to come."""

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from training_runs import EXTRAS

from vlalign.objectives import cs_divergence, gaussian_kl, mmd, sliced_wasserstein
from vlalign.params import ObjectiveParams, RunParams
from vlalign.training.objective import Objective
from vlalign.training.term import Step, known_terms
from vlalign.training.terms._distributions import DistributionTerm

KINDS = {name.replace("-", "_"): kind for name, kind in known_terms().items() if issubclass(kind, DistributionTerm)}
every = pytest.mark.parametrize("name", KINDS)
# With params that are not the default, and the function that the term calls with them.
CALLS = {
    "cs": ({"sigma": 0.7, "unbiased": False}, lambda x, y: cs_divergence(x, y, sigma=0.7)),
    "mmd": ({"sigma": 0.7, "unbiased": False}, lambda x, y: mmd(x, y, sigma=0.7)),
    "gaussian_kl": ({"shrinkage": 0.2}, lambda x, y: gaussian_kl(x, y, shrinkage=0.2)),
    "sliced_wasserstein": (
        {"projections": 7},
        lambda x, y: sliced_wasserstein(x, y, projections=7, generator=torch.Generator().manual_seed(0)),
    ),
}


def features(**counts):
    random = torch.Generator().manual_seed(1)
    embeddings = {name: F.normalize(torch.randn(n, 8, generator=random) + 0.5, dim=1) for name, n in counts.items()}
    embeddings["text_CD"] = F.normalize(embeddings["text_CD"] - 1, dim=1)
    return {**embeddings, "logit_scale": torch.tensor(1.0)}


PAIRS = {"image_ID": 6, "text_CD": 6}
SIDES = (("image_ID", "more_images_ED"), ("text_CD", "more_texts_ED"))
STEP = Step(lambda key: torch.Generator().manual_seed(0))


def objective(name, **params):
    return Objective(ObjectiveParams.model_validate({"contrastive": 0, name: {"weight": 0.5, **params}}))


def test_there_is_a_call_for_each():
    assert set(CALLS) == set(KINDS) == {"cs", "mmd", "gaussian_kl", "sliced_wasserstein"}


@every
@pytest.mark.parametrize("more", [{}, {"more_images_ED": 3, "more_texts_ED": 17}])
def test_it_is_that_of_all_embeddings_of_a_batch(name, more):
    params, call = CALLS[name]
    batch = features(**PAIRS, **more)
    total, losses = objective(name, **params, **(EXTRAS if more else {}))(batch, STEP)
    x, y = (torch.cat([batch[key] for key in keys if key in batch]) for keys in SIDES)
    assert losses[name] == call(x, y)
    assert total == 0.5 * losses[name]


@every
def test_it_trains(name):
    batch = features(**PAIRS)
    free = [batch[key].requires_grad_() for key in PAIRS]
    loss = objective(name)
    optimizer, totals = torch.optim.Adam(free, lr=0.02), []
    for _ in range(20):
        optimizer.zero_grad()
        total, _ = loss(batch, STEP)
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.7 * totals[0]


@every
def test_it_is_off_and_says_what_it_is(name):
    default = getattr(ObjectiveParams(), name)
    assert not default.is_used
    assert name not in ObjectiveParams.model_validate({name: {**EXTRAS, "weight": 0}}).relevant()
    kind = KINDS[name]
    assert set(kind.labels) >= {name}
    assert next(iter(kind.describe(default).values())) == kind.weights(default)[name] == 0
    assert "@article" in kind.citation


@every
def test_a_number_alone_is_the_weight(name):
    assert getattr(ObjectiveParams.model_validate({name: 0.25}), name).weight == 0.25


@pytest.mark.parametrize("changed", [{"captions": "one"}, {"unpaired": {"images": 3}}, {"unpaired": {}}])
@pytest.mark.parametrize("first", [{"cs": {"weight": 1.0}}, {"sliced_wasserstein": {"weight": 1.0}}])
def test_terms_of_one_run_compare_the_same_embeddings(config, first, changed):
    """All that comes beside the pairs of a batch is theirs together, so that none may want less of it."""
    ((name, params),) = first.items()

    def run(extras, **others):
        terms = {name: {**params, **EXTRAS}, "mmd": {"weight": 1.0, **EXTRAS, **extras}, **others}
        return RunParams.model_validate({**config()["params"], "objective": terms})

    needs = run({}).objective.needs
    assert (needs.other_captions, needs.unpaired_images, needs.unpaired_captions) == (True, 3, 5)
    with pytest.raises(ValidationError, match=r"two terms choose (other|unpaired) (captions|images) differently"):
        run(changed)
    assert run({**changed, "weight": 0}).objective.needs == needs, "a term that is off chooses nothing"


def test_the_divergence_of_tokens_chooses_no_embeddings():
    tokens = {"cs": {"token_weight": 1.0}, "mmd": {"weight": 1.0, **EXTRAS}}
    assert ObjectiveParams.model_validate(tokens).needs.unpaired_images == 3
