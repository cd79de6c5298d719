from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation_cases import constant, overall, unit
from scipy.stats import binom
from torch import Tensor

from vlalign.evaluation.benchmark import UnmeasurableError
from vlalign.evaluation.benchmarks.linear_probe import LinearProbeParams, probe_rows
from vlalign.evaluation.probes import EXPONENTS, HALVINGS, Labelled, Recipe, best_exponent, predict, torch_probe

PROTOCOLS = ["clip-benchmark", "logistic-regression"]
CHOSEN = {"clip-benchmark": "weight_decay", "logistic-regression": "inverse_regularisation"}


def cloud(per_class: int, *, noise: float, classes: int = 4, dim: int = 8, seed: int = 0) -> Labelled:
    """Unit vectors around one random centre for each class, class by class."""
    labels = torch.arange(classes).repeat_interleave(per_class)
    images = unit(classes, dim)[labels] + noise * unit(len(labels), dim, seed=seed + 1)
    return Labelled(F.normalize(images, dim=1), labels)


def relabelled(data: Labelled, *, seed: int = 0) -> Labelled:
    order = torch.randperm(len(data.labels_N), generator=torch.Generator().manual_seed(seed))
    return Labelled(data.images_ND, data.labels_N[order])


def measured(
    training: Labelled, validation: Labelled | None, tested: Labelled, protocol: str = "clip-benchmark", **more: object
) -> dict[str, float]:
    params = LinearProbeParams(protocol=protocol, **more)
    return overall(probe_rows(training, validation, tested, classes=4, params=params))


class OnCpu(str):
    """A device that CLIP_benchmark takes for a GPU, which it insists on, and torch for the CPU."""

    def __eq__(self, other: object) -> bool:
        return other in ("cpu", "cuda")

    __hash__ = str.__hash__


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """CLIP_benchmark's linear probe on the CPU; the weights and biases that it trains, one after the other."""
    theirs = pytest.importorskip(
        "clip_benchmark.metrics.linear_probe", reason="clip-benchmark, of the extra `test`, is not installed"
    )
    for kind in (torch.Tensor, torch.nn.Module):
        monkeypatch.setattr(kind, "cuda", lambda self: self)
    # NumPy 2.4 refuses what CLIP_benchmark does: to make a number of an array that holds one.
    accuracy = import_module("clip_benchmark.metrics.zeroshot_classification")
    monkeypatch.setattr(accuracy, "float", np.ndarray.item, raising=False)
    layers, train = [], theirs.train

    def recorded(*args: object) -> torch.nn.Module:
        model = train(*args)
        layers.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
        return model

    monkeypatch.setattr(theirs, "train", recorded)
    return layers


@pytest.mark.parametrize(("seed", "with_validation"), [(0, True), (3, False)])
def test_equals_clip_benchmark(trained: list[Tensor], tmp_path: Path, seed: int, with_validation: bool) -> None:
    from clip_benchmark.metrics import linear_probe

    parts = {name: cloud(n, noise=3, dim=24, seed=n) for name, n in (("train", 24), ("val", 9), ("test", 40))}
    if not with_validation:
        del parts["val"]
    (tmp_path / "mine").mkdir()
    for name, (images, labels) in parts.items():
        torch.save(images, tmp_path / "mine" / f"features_{name}.pt")
        torch.save(labels, tmp_path / "mine" / f"targets_{name}.pt")
    torch.manual_seed(seed)
    theirs = linear_probe.evaluate(
        torch.nn.Identity(), None, None, fewshot_k=-1, batch_size=64, num_workers=0, lr=0.1, epochs=10, model_id="mine",
        seed=seed, feature_root=str(tmp_path), device=OnCpu("cpu"), val_dataloader=parts.get("val"), amp=False,
    )  # fmt: skip
    ours = measured(parts["train"], parts.get("val"), parts["test"], seed=seed)
    assert ours["accuracy"] == 100 * theirs["lp_acc1"]
    assert ours["class_mean"] == 100 * theirs["lp_mean_per_class_recall"]
    assert ours["weight_decay"] == theirs["weight_decay"]
    assert (ours["weight_decay"] > 1e-6) == with_validation
    assert 30 < ours["accuracy"] < 99
    layer, _ = torch_probe(parts["train"], parts.get("val"), Recipe(seed=seed))
    assert torch.equal(torch.cat([layer.weight.flatten(), layer.bias]), trained[-1])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("with_validation", [True, False])
def test_separable_classes_are_told_apart(protocol: str, with_validation: bool) -> None:
    validation = cloud(5, noise=0.1, seed=1) if with_validation else None
    scores = measured(cloud(20, noise=0.1), validation, cloud(10, noise=0.1, seed=2), protocol)
    assert (scores["accuracy"], scores["class_mean"]) == (100, 100)
    assert scores["training_images"] == 80 + 20 * with_validation


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("noise", [0.1, 100.0], ids=["shuffled labels", "features of nothing"])
def test_what_says_nothing_of_the_class_gives_chance(protocol: str, noise: float) -> None:
    training, validation = (relabelled(cloud(n, noise=noise, dim=32, seed=n)) for n in (50, 20))
    tested = relabelled(cloud(100, noise=noise, dim=32, seed=100), seed=1)
    low, high = binom.interval(0.999, 400, 1 / 4)
    rows = probe_rows(training, validation, tested, classes=4, params=LinearProbeParams(protocol=protocol))
    assert low <= overall(rows)["accuracy"] * 4 <= high
    assert [row.chance for row in rows if row.metric in ("accuracy", "class_mean")] == [25, 25]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_regularisation_is_chosen_without_the_measured_split(protocol: str) -> None:
    training, validation, tested = (cloud(n, noise=1.5, seed=n) for n in (16, 8, 10))
    others = (tested, relabelled(tested), cloud(10, noise=0.1))
    found = [measured(training, validation, other, protocol) for other in others]
    assert len({scores["accuracy"] for scores in found}) == 3
    assert len({scores[CHOSEN[protocol]] for scores in found}) == 1
    shuffled = measured(training, relabelled(validation), tested, protocol)
    assert shuffled[CHOSEN[protocol]] != found[0][CHOSEN[protocol]], "the validation split decides"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("with_validation", [True, False])
def test_equal_seeds_give_equal_numbers_whatever_else_draws(protocol: str, with_validation: bool) -> None:
    training, tested = cloud(20, noise=1.5), cloud(20, noise=1.5, seed=2)
    validation = cloud(8, noise=1.5, seed=1) if with_validation else None
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)
        before = torch.get_rng_state()
        found.append(measured(training, validation, tested, protocol, seed=7))
        assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]


def test_another_seed_trains_other_weights() -> None:
    training = cloud(20, noise=1.5)
    one, other = (torch_probe(training, None, Recipe(seed=seed))[0] for seed in (0, 1))
    assert not torch.equal(one.weight, other.weight)


def test_the_mean_over_classes_counts_every_class_once() -> None:
    training, few = cloud(20, noise=0.8), cloud(12, noise=0.8, seed=1)
    tested = few.rows([*range(3), *range(12, 24), *range(36, 40)])
    rows = probe_rows(training, None, tested, classes=4, params=LinearProbeParams())
    scores, items = overall(rows), {row.metric: row.items for row in rows if row.items is not None}
    layer, _ = torch_probe(training, None, Recipe())
    hits = (predict(layer, tested.images_ND) == tested.labels_N).numpy()
    assert items.keys() == {"accuracy", "class_mean"}
    assert all((found == hits).all() for found in items.values()), "so that models are compared image by image"
    each = [hits[tested.labels_N.numpy() == k].mean() for k in (0, 1, 3)]
    assert scores["class_mean"] == pytest.approx(100 * np.mean(each))
    assert scores["accuracy"] == pytest.approx(100 * hits.mean())
    assert scores["accuracy"] != pytest.approx(scores["class_mean"])


def test_without_a_validation_split_c_is_chosen_on_the_share_held_out() -> None:
    training, tested = cloud(25, noise=1.5), cloud(20, noise=1.5, seed=2)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    given = measured(training.rows(order[30:]), training.rows(order[:30]), tested, "logistic-regression")
    assert measured(training, None, tested, "logistic-regression", held_out=0.3) == pytest.approx(given)


def test_the_search_for_c_is_that_of_coop() -> None:
    for seed in range(20):
        accuracy: dict[float, float] = {}
        draw = np.random.default_rng(seed)

        def score(exponent: float, accuracy: dict = accuracy, draw: np.random.Generator = draw) -> float:
            return accuracy.setdefault(round(exponent, 9), draw.integers(4) / 4)

        found = best_exponent(score)
        peak = EXPONENTS[int(np.argmax([score(exponent) for exponent in EXPONENTS]))]
        left, right = peak - 1, peak + 1
        for _ in range(HALVINGS):
            if score(left) < score(right):
                final, left = right, (left + right) / 2
            else:
                final, right = left, (left + right) / 2
        assert found == pytest.approx(final)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_one_class_teaches_nothing(protocol: str) -> None:
    alike = Labelled(constant(6), torch.zeros(6, dtype=torch.long))
    with pytest.raises(UnmeasurableError, match="at least 2 classes to learn from, not of 1"):
        measured(alike, None, cloud(3, noise=0.1, dim=4), protocol)
