import random
from collections import Counter, defaultdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation_cases import by_place, constant, unit
from pydantic import ValidationError
from scipy.stats import binom
from torch import Tensor

from vlalign.evaluation.benchmark import MetricRow, UnmeasurableError
from vlalign.evaluation.benchmarks.few_shot import FewShotParams, few_shot_rows
from vlalign.evaluation.benchmarks.zeroshot import zeroshot_rows
from vlalign.evaluation.few_shots import ALPHAS, BETAS, TipAdapter, draw, episode, tip_adapter
from vlalign.evaluation.probes import Labelled

CLASSES = 4
FEW = FewShotParams(shots=(1, 4), seeds=(1, 2))
GROUPS = [f"{learner}_{shots}_shots" for learner in ("linear_probe", "tip_adapter") for shots in FEW.shots]
CHOSEN = ("inverse_regularisation", "alpha", "beta")


def centres(dim: int = 8) -> Tensor:
    return unit(CLASSES, dim)


def prompts() -> Tensor:
    """Class vectors that say little, and lie close to each other as trained ones do."""
    return F.normalize(centres() + unit(CLASSES, 8, seed=9) + 20 * constant(CLASSES, 8), dim=1)


def cloud(per_class: int, *, noise: float, dim: int = 8, seed: int = 0) -> Labelled:
    """Unit vectors around the class vectors, the classes in turn."""
    labels = torch.arange(CLASSES).repeat(per_class)
    images = centres(dim)[labels] + noise * unit(len(labels), dim, seed=seed + 1)
    return Labelled(F.normalize(images, dim=1), labels)


def relabelled(data: Labelled, *, seed: int = 0) -> Labelled:
    order = torch.randperm(len(data.labels_N), generator=torch.Generator().manual_seed(seed))
    return Labelled(data.images_ND, data.labels_N[order])


def accuracies(rows: list[MetricRow]) -> dict[str, float]:
    return {row.group: row.value for row in rows if row.metric == "accuracy"}


def test_images_are_drawn_as_coop_draws_them() -> None:
    labels = [3, 0, 0, 3, 1, 0, 3, 0, 1, 3, 0, 2]
    random.seed(7)
    of_class = defaultdict(list)
    for row, label in enumerate(labels):
        of_class[label].append(row)
    expected = []
    for label in (3, 0, 1, 2):
        several = of_class[label]
        expected += random.sample(several, 3) if len(several) >= 3 else several
    assert draw(labels, 3, random.Random(7)) == expected
    assert Counter(labels[row] for row in expected) == {3: 3, 0: 3, 1: 2, 2: 1}, "of a class that has fewer, all"


@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
def test_shots_are_what_was_asked(shots: int) -> None:
    training, validation = cloud(20, noise=1.0), cloud(6, noise=1.0, seed=1)
    for held_out in (validation, None):
        learned, chosen_on = episode(training, held_out, shots, seed=1)
        assert learned.labels_N.bincount().tolist() == [shots] * CLASSES
        assert chosen_on.labels_N.bincount().tolist() == [min(shots, 4)] * CLASSES
        rows = [tuple(image.tolist()) for part in (learned, chosen_on) for image in part.images_ND]
        assert len(set(rows)) == len(rows), "no image is drawn twice"
        known = {tuple(image.tolist()) for image in (held_out or training).images_ND}
        assert set(rows[-len(chosen_on.labels_N) :]) <= known


def test_draws_depend_on_labels_shots_and_seed_alone() -> None:
    training, validation = cloud(20, noise=1.0), cloud(6, noise=1.0, seed=1)
    found = []
    for state in (1, 2):
        random.seed(state)
        torch.manual_seed(state)
        found.append(episode(training, validation, 4, seed=5))
    assert all(torch.equal(one, other) for one, other in zip(found[0][0], found[1][0], strict=True))
    assert not torch.equal(found[0][0].images_ND, episode(training, validation, 4, seed=6)[0].images_ND)


def test_where_no_image_is_left_to_choose_on_it_is_said() -> None:
    with pytest.raises(UnmeasurableError, match=r"with 8 images .* none is left .* validation split .* fewer shots"):
        episode(cloud(8, noise=1.0), None, 8, seed=1)
    assert len(episode(cloud(9, noise=1.0), None, 8, seed=1)[1].labels_N) == CLASSES


def test_a_class_with_fewer_images_gives_all_of_them() -> None:
    training = cloud(20, noise=0.1).rows([row for row in range(80) if row % 4 or row < 8])
    rows = by_place(few_shot_rows(training, cloud(6, noise=0.1), cloud(5, noise=0.1, seed=2), centres(), FEW))
    counts = {group: rows["training_images", group, "all"] for group in ("1_shots", "4_shots")}
    assert counts == {"1_shots": 4, "4_shots": 3 * 4 + 2}
    assert rows["validation_images", "4_shots", "all"] == 16


@pytest.mark.parametrize("with_validation", [True, False])
def test_separable_classes_are_told_apart(with_validation: bool) -> None:
    validation = cloud(6, noise=0.1, seed=1) if with_validation else None
    rows = few_shot_rows(cloud(8, noise=0.1), validation, cloud(10, noise=0.1, seed=2), centres(), FEW)
    assert accuracies(rows) == dict.fromkeys(["zero_shot", *GROUPS], 100)
    assert list(accuracies(rows)) == ["zero_shot", *GROUPS], "in the order of the table"


@pytest.mark.parametrize("noise", [0.1, 100.0], ids=["shuffled labels", "features of nothing"])
def test_what_says_nothing_of_the_class_gives_chance(noise: float) -> None:
    parts = [relabelled(cloud(n, noise=noise, dim=32, seed=n), seed=n) for n in (30, 20, 100)]
    rows = few_shot_rows(*parts, centres(32), FewShotParams(shots=(16,), seeds=(1, 2)))
    low, high = binom.interval(0.999, 400, 1 / CLASSES)
    each = {row.group: row.value for row in rows if row.metric in ("accuracy", "seed_accuracy")}
    assert len(each) == 1 + 2 * (1 + 2)
    assert all(low <= 4 * value <= high for value in each.values()), each
    assert {row.chance for row in rows if row.metric == "accuracy"} == {25}


def test_hyperparameters_are_chosen_without_the_measured_split() -> None:
    training, validation, tested = (cloud(n, noise=1.0, seed=n) for n in (20, 16, 30))

    def measured(validation: Labelled, tested: Labelled) -> tuple[dict, dict]:
        rows = few_shot_rows(training, validation, tested, prompts(), FewShotParams(shots=(4,), seeds=(1, 2)))
        return {row.place[1:]: row.value for row in rows if row.metric in CHOSEN}, accuracies(rows)

    found = [measured(validation, other) for other in (tested, relabelled(tested), cloud(20, noise=0.1))]
    assert len(found[0][0]) == 2 * len(CHOSEN)
    assert found[0][0] == found[1][0] == found[2][0]
    assert found[0][1] != found[1][1] != found[2][1]
    others, _ = measured(relabelled(validation), tested)
    changed = {place[0] for place, value in found[0][0].items() if others[place] != value}
    assert changed == set(CHOSEN), "the validation split decides"


def test_the_accuracy_is_the_mean_over_seeds_and_repeats() -> None:
    parts = [cloud(n, noise=1.5, seed=n) for n in (20, 8, 30)]
    rows = few_shot_rows(*parts, centres(), FEW)
    found = by_place(rows)
    for group in GROUPS:
        each = [found["seed_accuracy", f"{group}_seed_{seed}", "all"] for seed in FEW.seeds]
        assert found["accuracy", group, "all"] == pytest.approx(np.mean(each))
    assert any(len({found["seed_accuracy", f"{group}_seed_{seed}", "all"] for seed in (1, 2)}) > 1 for group in GROUPS)
    assert by_place(few_shot_rows(*parts, centres(), FEW)) == found
    alone = by_place(few_shot_rows(*parts, centres(), FewShotParams(shots=(4,), seeds=(2,), learners=("tip-adapter",))))
    place = ("seed_accuracy", "tip_adapter_4_shots_seed_2", "all")
    assert alone[place] == found[place], "other shots, seeds and learners change nothing"


def test_every_image_has_the_share_of_draws_that_got_it_right() -> None:
    parts = [cloud(n, noise=1.5, seed=n) for n in (20, 8, 30)]
    once, twice = (few_shot_rows(*parts, centres(), FewShotParams(shots=(4,), seeds=seeds)) for seeds in ((1,), (1, 2)))
    other = few_shot_rows(*parts, centres(), FewShotParams(shots=(4,), seeds=(2,)))
    for rows in zip(*([row for row in part if row.metric == "accuracy"] for part in (once, other, twice)), strict=True):
        one, another, both = (row.items.astype(float) for row in rows)
        np.testing.assert_array_equal(both, (one + another) / 2)
        assert 100 * both.mean() == pytest.approx(rows[2].value)


def test_zero_shots_are_those_of_zero_shot_classification() -> None:
    tested = cloud(20, noise=1.5)
    rows = few_shot_rows(cloud(20, noise=1.5), None, tested, centres(), FEW)
    assert accuracies(rows)["zero_shot"] == zeroshot_rows(*tested, centres(), list("abcd"))[0].value


def test_the_adapter_agrees_with_loops() -> None:
    shots, tested = cloud(3, noise=1.0), cloud(5, noise=1.0, seed=1)
    adapter = TipAdapter(centres(), shots, alpha=0.7, beta=2.5)
    expected = np.zeros((len(tested.labels_N), CLASSES))
    for i, image in enumerate(tested.images_ND.numpy()):
        for k in range(CLASSES):
            expected[i, k] = 100 * image @ centres()[k].numpy()
        for key, label in zip(shots.images_ND.numpy(), shots.labels_N.tolist(), strict=True):
            expected[i, label] += 0.7 * np.exp(-2.5 * (1 - image @ key))
    np.testing.assert_allclose(adapter.logits(tested.images_ND).numpy(), expected, rtol=1e-4)
    torch.testing.assert_close(adapter.logits(tested.images_ND, chunk=3), adapter.logits(tested.images_ND))
    assert adapter.hits(tested).tolist() == (expected.argmax(1) == tested.labels_N.numpy()).tolist()


def test_the_adapter_has_the_first_of_the_best_hyperparameters() -> None:
    shots, validation = cloud(4, noise=1.0), cloud(10, noise=1.0, seed=1)
    found = tip_adapter(prompts(), shots, validation)
    right = {
        (beta, alpha): int(TipAdapter(prompts(), shots, alpha, beta).hits(validation).sum())
        for beta in BETAS
        for alpha in ALPHAS
    }
    assert (found.beta, found.alpha) == max(right, key=lambda place: right[place])
    assert len(set(right.values())) > 3
    assert (min(ALPHAS), max(ALPHAS), min(BETAS), max(BETAS)) == pytest.approx((0.1, 10, 0.1, 12))


def test_the_adapter_of_a_constant_model_is_never_right() -> None:
    alike = Labelled(constant(8, 8), torch.arange(4).repeat(2))
    rows = few_shot_rows(alike, None, alike, constant(4, 8), FewShotParams(shots=(1,), learners=("tip-adapter",)))
    assert accuracies(rows) == {"zero_shot": 0, "tip_adapter_1_shots": 0}


def test_one_class_teaches_nothing() -> None:
    alike = Labelled(unit(6, 8), torch.zeros(6, dtype=torch.long))
    with pytest.raises(UnmeasurableError, match="at least 2 classes to learn from, not of 1"):
        few_shot_rows(alike, None, cloud(3, noise=0.1), centres(), FEW)


def test_nothing_is_asked_for_twice() -> None:
    with pytest.raises(ValidationError, match="shots: name each once"):
        FewShotParams(shots=(1, 1))
