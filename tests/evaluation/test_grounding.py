from dataclasses import fields, replace
from itertools import combinations

import numpy as np
import pytest
import torch
from evaluation_cases import by_place, phrase_case, random_case

from vlalign.evaluation import referents
from vlalign.evaluation.benchmarks.grounding import grounding_rows, kind_rows
from vlalign.evaluation.ranking import percent
from vlalign.evaluation.referents import (
    PhraseScores,
    best_exponent,
    best_threshold,
    pointable,
    positive_share,
    top_k_chance,
)


def set_scores(case: PhraseScores, *, threshold: float, exponent: float = 0.75) -> dict[str, float]:
    found = referents.set_scores(case, threshold=threshold, exponent=exponent)
    return {name: percent(scores) for name, scores in found.items()}


def box_scores(case: PhraseScores) -> tuple[float, float]:
    hits, guessed = referents.box_scores(case)
    return percent(hits), guessed


def pointing_scores(case: PhraseScores) -> tuple[float, float]:
    hits, guessed = referents.pointing_scores(case)
    return percent(hits), guessed


def naive_set_scores(case: PhraseScores, threshold: float, exponent: float = 0.75) -> dict[str, float]:
    names = ("top_k", "chance", "recall_at_k", "f1", "exact", "prefix_f1", "prefix_exact")
    found: dict[str, list[float]] = {name: [] for name in names}
    for row in range(len(case.regions_NR)):
        score = case.regions_NR[row].numpy()
        objects = [r for r in range(len(score)) if case.objects_NR[row, r]]
        right = {r for r in objects if case.referents_NR[row, r]}
        order = sorted(objects, key=lambda r: (-score[r], r in right))  # wrong objects win ties
        chosen = {r for r in objects if score[r] > threshold}
        draws = list(combinations(objects, len(right)))
        found["top_k"].append(set(order[: len(right)]) == right)
        found["chance"].append(np.mean([set(draw) == right for draw in draws]))
        found["recall_at_k"].append(len(right & set(order[: len(right)])) / len(right))
        found["f1"].append(2 * len(chosen & right) / (len(chosen) + len(right)))
        found["exact"].append(chosen == right)
        subsets = [set(draw) for size in range(1, len(objects) + 1) for draw in combinations(objects, size)]
        sums = {tuple(subset): sum(score[r].item() for r in subset) / len(subset) ** exponent for subset in subsets}
        # Of equal ones the smallest, with as many wrong objects as can be.
        best = max(subsets, key=lambda one: (round(sums[tuple(one)], 6), -len(one), -len(one & right)))
        found["prefix_f1"].append(2 * len(best & right) / (len(best) + len(right)))
        found["prefix_exact"].append(best == right)
    return {name: 100 * float(np.mean(values)) for name, values in found.items()}


def chance(case: PhraseScores) -> float:
    return percent(top_k_chance(case.referents_NR, case.objects_NR))


def naive_pointing(case: PhraseScores) -> tuple[float, float]:
    hits, chances = [], []
    for score, covered in zip(case.patches_NV.numpy(), case.coverage_NV.numpy() > 0.5, strict=True):
        if covered.any():
            winners = np.flatnonzero(score == score.max())
            hits.append(all(covered[v] for v in winners))
            chances.append(covered.mean())
    return 100 * float(np.mean(hits)), 100 * float(np.mean(chances))


@pytest.mark.parametrize("seed", range(3))
def test_sets_agree_with_loops_under_ties(seed: int) -> None:
    case = random_case(120, 6, seed=seed)
    scores = set_scores(case, threshold=0.25) | {"chance": chance(case)}
    assert scores == pytest.approx(naive_set_scores(case, 0.25), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_pointing_agrees_with_loops_under_ties(seed: int) -> None:
    case = random_case(120, 3, seed=seed)
    assert pointing_scores(case.select(pointable(case))) == pytest.approx(naive_pointing(case), rel=1e-5)


def test_boxes_agree_with_loops() -> None:
    case = random_case(200, 5, seed=4)
    case = case.select(case.referents_NR.sum(1) == 1)
    hits, chances = [], []
    for row in range(len(case.regions_NR)):
        right = int(case.referents_NR[row].int().argmax())
        rivals = [case.regions_NR[row, r] for r in range(5) if case.objects_NR[row, r] and r != right]
        rivals += [case.boxes_NB[row, b] for b in range(3) if case.box_mask_NB[row, b]]
        hits.append(all(case.regions_NR[row, right] > rival for rival in rivals))
        chances.append(1 / (len(rivals) + 1))
    assert box_scores(case) == pytest.approx((100 * np.mean(hits), 100 * np.mean(chances)))


def test_chance_is_what_random_scores_reach() -> None:
    case = random_case(60, 6, seed=7)
    g = torch.Generator().manual_seed(0)
    draws = [
        replace(case, regions_NR=torch.rand(60, 6, generator=g), patches_NV=torch.rand(60, 9, generator=g))
        for _ in range(200)
    ]
    reached = np.mean([set_scores(draw, threshold=0.5)["top_k"] for draw in draws])
    assert reached == pytest.approx(chance(case), abs=2)
    pointed = np.mean([pointing_scores(draw.select(pointable(draw)))[0] for draw in draws])
    assert pointed == pytest.approx(pointing_scores(case.select(pointable(case)))[1], abs=2)


def test_chance_of_a_set_that_leaves_no_choice() -> None:
    assert top_k_chance(torch.ones(1, 3).bool(), torch.ones(1, 3).bool()).tolist() == [1]


def test_constant_model_finds_nothing() -> None:
    case = phrase_case([[0.5, 0.5, 0.5]], [[1, 0, 0]], patches=[[0.1, 0.1]], coverage=[[1.0, 0.0]], boxes=[[0.5]])
    scores = set_scores(case, threshold=0.5)
    assert [scores[name] for name in ("top_k", "recall_at_k", "f1", "exact")] == [0, 0, 0, 0]
    assert box_scores(case)[0] == 0
    assert pointing_scores(case)[0] == 0


def test_perfect_model() -> None:
    case = phrase_case(
        [[0.9, 0.8, 0.1, 9.0], [0.1, 0.9, 9.0, 9.0]],
        [[1, 1, 0, 0], [0, 1, 0, 0]],
        objects=[3, 2],
        patches=[[0.9, 0.1], [0.1, 0.9]],
        coverage=[[0.7, 0.2], [0.0, 1.0]],
    )
    scores = set_scores(case, threshold=best_threshold(case))
    names = ("top_k", "recall_at_k", "f1", "exact", "prefix_f1", "prefix_exact")
    assert [scores[name] for name in names] == [100] * 6
    assert chance(case) == pytest.approx(100 * (1 / 3 + 1 / 2) / 2)
    assert pointing_scores(case)[0] == 100


def test_threshold_maximises_f1() -> None:
    case = random_case(80, 6, seed=9)
    case = replace(
        case, regions_NR=case.regions_NR + torch.rand(80, 6, generator=torch.Generator().manual_seed(1)) * 0.1
    )
    reached = set_scores(case, threshold=best_threshold(case, steps=2000))["f1"]
    every = case.regions_NR[case.objects_NR].tolist()
    assert reached == pytest.approx(max(set_scores(case, threshold=value)["f1"] for value in every), abs=0.5)


def test_exponent_maximises_f1_and_ties_go_to_the_wrong_objects() -> None:
    case = random_case(80, 6, seed=9)
    reached = set_scores(case, threshold=0, exponent=best_exponent(case))["prefix_f1"]
    assert reached == max(set_scores(case, threshold=0, exponent=value / 20)["prefix_f1"] for value in range(21))
    same = phrase_case([[0.5, 0.5, 0.5]] * 2, [[1, 0, 0], [0, 0, 1]])
    assert [set_scores(same, threshold=0, exponent=p)["prefix_exact"] for p in (0.0, 0.75, 1.0)] == [0, 0, 0]


def test_pointing_leaves_out_phrases_that_cover_no_patch() -> None:
    case = phrase_case([[1.0, 0.0]] * 2, [[1, 0]] * 2, patches=[[1.0, 0.0]] * 2, coverage=[[0.9, 0.0], [0.5, 0.4]])
    assert pointable(case).tolist() == [True, False]
    assert [
        row.n for row in kind_rows(case, ["one"] * 2, threshold=0.5, exponent=0.75) if row.metric == "pointing_accuracy"
    ] == [1]
    hidden = kind_rows(case.select(torch.tensor([False, True])), ["one"], threshold=0.5, exponent=0.75)
    assert "pointing_accuracy" not in {row.metric for row in hidden}


def test_kinds_and_strata_are_read_from_the_data() -> None:
    case = phrase_case([[0.9, 0.1], [0.1, 0.9], [0.6, 0.9]], [[1, 0], [1, 0], [1, 1]], patches=[[1.0, 0.0]] * 3)
    rows = grounding_rows(case, ["plain", "plain", "pair"], ["easy", None, "easy"], threshold=0.5, exponent=0.75)
    scores = by_place(rows)
    assert [row.group for row in rows if row.metric == "top_k" and row.stratum == "all"] == [
        "pair", "plain", "multiple", "all",
    ]  # fmt: skip
    assert {row.stratum for row in rows} == {"all", "easy"}
    assert scores["threshold", "all", "all"] == 0.5
    assert scores["top_k", "plain", "all"] == 50
    assert scores["f1", "multiple", "all"] == scores["f1", "pair", "all"]
    assert {row.n for row in rows if row.group == "all" and row.metric == "exact"} == {3, 2}
    assert scores["top_k", "plain", "easy"] == 100
    alone = kind_rows(case.select(torch.tensor([True, False, False])), ["plain"], threshold=0.5, exponent=0.75)
    assert "multiple" not in {row.group for row in alone}


def test_boxes_appear_for_single_referents_only() -> None:
    case = phrase_case([[0.9, 0.1], [0.9, 0.8]], [[1, 0], [1, 1]], boxes=[[0.2], [0.2]])
    [row] = [
        row for row in kind_rows(case, ["one", "two"], threshold=0.5, exponent=0.75) if row.metric == "top_1_with_boxes"
    ]
    assert (row.n, row.value, row.chance) == (1, 100, pytest.approx(100 / 3))


def test_positive_share_ignores_absent_objects() -> None:
    assert positive_share(phrase_case([[0.5, -0.5, 9.0]], [[1, 0, 0]], objects=[2])) == 50


def test_selection_keeps_rows_together() -> None:
    case = random_case(10, 4)
    part = case.select(torch.arange(10) == 3)
    assert all(torch.equal(getattr(part, f.name), getattr(case, f.name)[3:4]) for f in fields(case))
