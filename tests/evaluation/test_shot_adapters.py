"""Adapters that learn from few images of each class, beside the same training written out."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation_cases import by_place, constant, unit
from scipy.stats import binom
from torch import Tensor

from vlalign.evaluation import shot_adapters
from vlalign.evaluation.benchmarks.few_shot import FewShotParams, few_shot_rows
from vlalign.evaluation.few_shots import LEARNERS
from vlalign.evaluation.probes import Labelled
from vlalign.evaluation.shot_adapters import AdaptedClassifier, fit_adapters, training
from vlalign.models.adapters import Adapters
from vlalign.objectives import cs_divergence
from vlalign.params import AdapterParams

CLASSES, DIM = 4, 8
BOTH = ("adapter", "cs-adapter")
ONE = FewShotParams(shots=(4,), seeds=(1, 2), learners=BOTH)
CHOSEN = ("learning_rate", "steps", "divergence_weight")


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shot_adapters, "STEPS", (2, 12))


def prompts() -> Tensor:
    """Class vectors that say little of the images, and lie apart from them."""
    return F.normalize(unit(CLASSES, DIM) + 1.5 * unit(CLASSES, DIM, seed=9) + 3 * constant(CLASSES, DIM), dim=1)


def cloud(per_class: int, *, noise: float = 1.0, seed: int = 0) -> Labelled:
    labels = torch.arange(CLASSES).repeat(per_class)
    images = unit(CLASSES, DIM)[labels] + noise * unit(len(labels), DIM, seed=seed + 1)
    return Labelled(F.normalize(images, dim=1), labels)


def relabelled(data: Labelled, *, seed: int) -> Labelled:
    order = torch.randperm(len(data.labels_N), generator=torch.Generator().manual_seed(seed))
    return Labelled(data.images_ND, data.labels_N[order])


def trained(weight: float, *, steps: int = 12, seed: int = 1, data: Labelled | None = None) -> AdaptedClassifier:
    found = training(prompts(), data or cloud(3), learning_rate=1e-3, weight=weight, seed=seed)
    return next(classifier for step, classifier in found if step == steps)


def parameters(classifier: AdaptedClassifier) -> list[Tensor]:
    return [value.detach().clone() for value in classifier.adapters.parameters()]


def mapped(x: np.ndarray, weights: dict[str, Tensor], tower: str) -> Tensor:
    """x + W₂ gelu(W₁ norm(x) + b₁) + b₂ at unit length, row by row."""
    rows = []
    for row in torch.as_tensor(x):
        normed = (row - row.mean()) / torch.sqrt(row.var(correction=0) + 1e-5)
        normed = normed * weights[f"{tower}.mlp.0.weight"] + weights[f"{tower}.mlp.0.bias"]
        hidden = weights[f"{tower}.mlp.1.weight"] @ normed + weights[f"{tower}.mlp.1.bias"]
        hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
        row = row + weights[f"{tower}.mlp.4.weight"] @ hidden + weights[f"{tower}.mlp.4.bias"]
        rows.append(row / torch.sqrt((row * row).sum()))
    return torch.stack(rows)


def mean_kernel(x: Tensor, y: Tensor) -> Tensor:
    values = [torch.exp(-((a - b) ** 2).sum() / (2 * s * s)) for s in (0.25, 0.5, 1.0) for a in x for b in y]
    return torch.stack(values).mean()


def by_hand(data: Labelled, classes: Tensor, *, weight: float, steps: int, seed: int, rate: float) -> dict[str, Tensor]:
    """Weights after Adam's steps on all images at once, in float64 and by loops."""
    torch.manual_seed(seed)
    start = Adapters(DIM, DIM, AdapterParams(dimension=DIM, hidden=256)).double()
    weights = {name: value.detach().clone().requires_grad_() for name, value in start.named_parameters()}
    first, second = ({name: torch.zeros_like(value) for name, value in weights.items()} for _ in range(2))
    for step in range(1, steps + 1):
        images = mapped(data.images_ND.double().numpy(), weights, "image")
        texts = mapped(classes.double().numpy(), weights, "text")
        loss = torch.zeros((), dtype=torch.float64)
        for image, label in zip(images, data.labels_N.tolist(), strict=True):
            logits = torch.stack([100 * (image * text).sum() for text in texts])
            loss = loss + (torch.logsumexp(logits, 0) - logits[label]) / len(images)
        if weight:
            within = mean_kernel(images, images).log() + mean_kernel(texts, texts).log()
            loss = loss + weight * (within - 2 * mean_kernel(images, texts).log())
        gradients = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
        for name, value in weights.items():
            first[name] = 0.9 * first[name] + 0.1 * gradients[name]
            second[name] = 0.999 * second[name] + 0.001 * gradients[name] ** 2
            move = first[name] / (1 - 0.9**step) / (torch.sqrt(second[name] / (1 - 0.999**step)) + 1e-8)
            weights[name] = (value - rate * move).detach().requires_grad_()
    return weights


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_training_agrees_with_loops(weight: float) -> None:
    data = cloud(2)
    weights = by_hand(data, prompts(), weight=weight, steps=12, seed=5, rate=1e-3)
    images, classes = trained(weight, seed=5, data=data).embedded(data.images_ND)
    expected = mapped(data.images_ND.double().numpy(), weights, "image"), mapped(prompts().numpy(), weights, "text")
    for found, wanted in zip((images, classes), expected, strict=True):
        torch.testing.assert_close(found.double(), wanted.double(), rtol=0, atol=1e-3)
    assert (images - data.images_ND).norm(dim=1).min() > 0.05, "it has learnt something"


def test_adapters_begin_at_the_zero_shot_classifier() -> None:
    adapters = Adapters(DIM, DIM, AdapterParams(dimension=DIM, hidden=256))
    images, classes = AdaptedClassifier(prompts(), adapters).embedded(cloud(2).images_ND)
    torch.testing.assert_close((images, classes), (cloud(2).images_ND, prompts()))


def test_a_divergence_without_weight_is_the_adapter_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = parameters(trained(0.0))
    cross_entropy = AdaptedClassifier.loss

    def with_nothing(self: AdaptedClassifier, shots: Labelled, *, weight: float) -> Tensor:
        images_ID, classes_KD = self.embedded(shots.images_ND)
        return cross_entropy(self, shots, weight=0.0) + 0.0 * cs_divergence(images_ID, classes_KD, sigma=0.5)

    with monkeypatch.context() as patch:
        patch.setattr(AdaptedClassifier, "loss", with_nothing)
        assert all(map(torch.equal, alone, parameters(trained(0.0))))
    assert not all(map(torch.equal, alone, parameters(trained(0.1))))
    shots, validation, tested = cloud(4), cloud(4, seed=1), cloud(20, seed=2)
    fitted, chosen = fit_adapters(prompts(), shots, validation, weights=(0.0,), seed=3)
    hits, told = LEARNERS["adapter"](shots, validation, tested, prompts(), 3)
    assert torch.equal(fitted.hits(tested), hits)
    assert told == chosen


def test_the_divergence_brings_both_modalities_together() -> None:
    def apart(weight: float) -> float:
        classifier = trained(weight)
        return cs_divergence(*classifier.embedded(cloud(3).images_ND), sigma=shot_adapters.SIGMA).item()

    assert apart(10.0) < apart(1.0) < apart(0.0)


def test_what_is_learnt_depends_on_the_seed_of_the_draw_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shot_adapters, "BATCH", 5)
    torch.manual_seed(1)
    first, state = parameters(trained(0.1)), torch.get_rng_state()
    torch.manual_seed(2)
    assert all(map(torch.equal, first, parameters(trained(0.1))))
    assert not all(map(torch.equal, first, parameters(trained(0.1, seed=2))))
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state), "the generator is left as it was"


@pytest.mark.parametrize(("count", "sizes"), [(3, [3] * 5), (5, [5] * 5), (8, [5, 3, 5, 3, 5])])
def test_every_image_is_seen_once_before_any_is_seen_again(
    count: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shot_adapters, "BATCH", 5)
    batches = list(shot_adapters._batches(count, 5, seed=1))
    assert [len(rows) for rows in batches] == sizes
    seen = torch.cat(batches)
    orders = [seen[start : start + count].tolist() for start in range(0, len(seen) - count + 1, count)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert orders[0] != orders[1]


def test_the_first_of_the_best_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shot_adapters, "LEARNING_RATES", (1e-3, 1e-4))
    shots, validation = cloud(2), cloud(6, noise=1.5, seed=1)
    weights = (0.1, 10.0)
    fitted, chosen = fit_adapters(prompts(), shots, validation, weights=weights, seed=1)
    right = {}
    for weight in weights:
        for rate in shot_adapters.LEARNING_RATES:
            for steps, one in training(prompts(), shots, learning_rate=rate, weight=weight, seed=1):
                right[weight, rate, steps] = int(one.hits(validation).sum())
    best = max(right, key=lambda place: right[place])
    assert (chosen["divergence_weight"], chosen["learning_rate"], chosen["steps"]) == best
    assert int(fitted.hits(validation).sum()) == right[best], "as it was then, not as it went on"
    assert chosen["steps"] == 2
    assert right[best] > right[*best[:2], 12]


def test_hyperparameters_are_chosen_without_the_measured_split() -> None:
    training_set, validation, tested = (cloud(n, noise=1.5, seed=n) for n in (20, 16, 30))

    def measured(validation: Labelled, tested: Labelled) -> tuple[dict, dict]:
        rows = few_shot_rows(training_set, validation, tested, prompts(), ONE)
        accuracy = {row.group: row.value for row in rows if row.metric == "accuracy"}
        return {row.place[1:]: row.value for row in rows if row.metric in CHOSEN}, accuracy

    found = [measured(validation, other) for other in (tested, relabelled(tested, seed=0))]
    assert len(found[0][0]) == len(BOTH) * len(ONE.seeds) * len(CHOSEN)
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]
    others, _ = measured(relabelled(validation, seed=0), tested)
    changed = {place[0] for place, value in found[0][0].items() if others[place] != value}
    assert changed == set(CHOSEN), "the validation split decides"


def test_separable_classes_are_told_apart_and_repeats_are_equal() -> None:
    parts = [cloud(n, noise=0.1, seed=n) for n in (8, 6, 10)]
    rows = few_shot_rows(*parts, unit(CLASSES, DIM), ONE)
    assert {row.group: row.value for row in rows if row.metric == "accuracy"} == {
        "zero_shot": 100,
        "adapter_4_shots": 100,
        "cs_adapter_4_shots": 100,
    }
    assert by_place(few_shot_rows(*parts, unit(CLASSES, DIM), ONE)) == by_place(rows)


@pytest.mark.parametrize("noise", [0.1, 100.0], ids=["shuffled labels", "features of nothing"])
def test_what_says_nothing_of_the_class_gives_chance(noise: float) -> None:
    parts = [relabelled(cloud(n, noise=noise, seed=n), seed=n) for n in (30, 20, 100)]
    rows = few_shot_rows(*parts, prompts(), ONE.model_copy(update={"shots": (16,)}))
    low, high = binom.interval(0.999, 400, 1 / CLASSES)
    each = {row.group: row.value for row in rows if row.metric in ("accuracy", "seed_accuracy")}
    assert len(each) == 1 + len(BOTH) * (1 + len(ONE.seeds))
    assert all(low <= 4 * value <= high for value in each.values()), each


def test_a_constant_model_is_never_right() -> None:
    alike = Labelled(constant(16, DIM), torch.arange(CLASSES).repeat(4))
    rows = few_shot_rows(alike, None, alike, constant(CLASSES, DIM), ONE.model_copy(update={"shots": (1,)}))
    assert {row.value for row in rows if row.metric == "accuracy"} == {0}
