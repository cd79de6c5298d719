"""Two models item by item, against counts and sums that are written out here."""

import csv
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from fake_results import write_tree
from typer.testing import CliRunner

from vlalign import cli
from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import MetricRow
from vlalign.evaluation.metrics import Items, Measurement, write_metrics
from vlalign.records import read_record, stamps, write_record
from vlalign.reporting.compare import compare, compare_table

TOLD = {"split": "test", "data": {"data/birds/zeroshot/test": "d1"}, "benchmarks": {"zeroshot": {}}}
TOLD |= {"protocol": "normalised prompts", "precision": "fp32", "weights": "w"}


def write(model, card, scores, *, task="zeroshot", blocks=None, place="benchmarks/{task}/{card}", **told):
    """What a model got on one card: scores of items by metric, or group and metric."""
    rows, items = [], {}
    for key, values in scores.items():
        group, _, metric = key.rpartition("/")
        value = 100 * float(np.mean(values))
        row = MetricRow(metric=metric, group=group or "all", value=value, n=len(values), benchmark=task)
        rows.append(row)
        items[row.place] = Items(np.asarray(values), blocks)
    about = {**TOLD, "benchmarks": {task: {}}, "card": card, "card_digest": f"of {card}", **told}
    write_metrics(model / place.format(task=task, card=card), {task: Measurement(rows=rows)}, items, measured=about)


def answers(share, *, seed, count=200):
    return np.random.default_rng(seed).random(count) < share


def mcnemar(ours, theirs):
    """Twice the smaller tail of a fair coin that is thrown for every item of which one model alone is right."""
    pairs = list(zip(ours.tolist(), theirs.tolist(), strict=True))
    better, worse = pairs.count((True, False)), pairs.count((False, True))
    count = better + worse
    tail = sum(math.comb(count, k) for k in range(min(better, worse) + 1)) / 2**count
    return min(1.0, 2 * tail)


def holm(values):
    """The largest of what any p-value that is not larger was multiplied by the number of those that were left."""
    ordered = sorted(values)
    scaled = {
        p: max(min(1.0, (len(ordered) - rank) * one) for rank, one in enumerate(ordered) if one <= p) for p in ordered
    }
    return [scaled[p] for p in values]


def redrawn(differences, blocks=None, draws=4000):
    """Means of copied items, drawn within each block, in percent."""
    draw, groups = np.random.default_rng(5), [np.arange(len(differences))]
    if blocks is not None:
        groups = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    return np.array(
        [100 * np.mean([differences[draw.choice(group, len(group))].mean() for group in groups]) for _ in range(draws)]
    )


SHARES = {"birds": (0.6, 0.5), "cars": (0.8, 0.4), "fish": (0.5, 0.5)}


@pytest.fixture
def models(tmp_path):
    """Two models on three cards."""
    for number, (card, shares) in enumerate(SHARES.items()):
        for place, (name, share) in enumerate(zip(("ours", "theirs"), shares, strict=True)):
            write(tmp_path / name, card, {"accuracy": answers(share, seed=10 * number + place)})
    return tmp_path / "ours", tmp_path / "theirs"


def scores_of(card):
    number = list(SHARES).index(card)
    return [answers(share, seed=10 * number + place) for place, share in enumerate(SHARES[card])]


def test_answers_are_compared_item_by_item(models):
    found = {one.card: one for one in compare(*models)}
    assert list(found) == sorted(SHARES)
    for card, one in found.items():
        ours, theirs = scores_of(card)
        assert (one.ours, one.theirs) == (pytest.approx(100 * ours.mean()), pytest.approx(100 * theirs.mean()))
        assert one.found.difference == pytest.approx(100 * (ours.mean() - theirs.mean()))
        assert (one.found.n, one.found.test) == (200, "McNemar")
        assert one.found.p == pytest.approx(mcnemar(ours, theirs))
        means = redrawn(ours.astype(float) - theirs)
        assert (one.found.low, one.found.high) == pytest.approx(tuple(np.quantile(means, (0.025, 0.975))), abs=1.3)
    assert [one.adjusted for one in found.values()] == pytest.approx(holm([one.found.p for one in found.values()]))
    assert found["cars"].verdict == "above"
    assert found["fish"].verdict == "not distinguishable from noise"
    mirrored = {one.card: one for one in compare(*models[::-1])}
    assert mirrored["cars"].verdict == "below"
    assert mirrored["cars"].found.difference == -found["cars"].found.difference


def test_the_correction_is_for_everything_that_is_compared(tmp_path):
    """What alone would be a finding is none among twenty."""
    ours, theirs = answers(0.6, seed=1), answers(0.5, seed=2)
    assert 0.01 < mcnemar(ours, theirs) < 0.05
    for name, scores in (("ours", ours), ("theirs", theirs)):
        write(tmp_path / name, "card-0", {"accuracy": scores})
    [alone] = compare(tmp_path / "ours", tmp_path / "theirs")
    assert (alone.adjusted, alone.verdict) == (alone.found.p, "above")
    for number, (name, place) in itertools.product(range(1, 20), (("ours", 2), ("theirs", 3))):
        write(tmp_path / name, f"card-{number}", {"accuracy": answers(0.5, seed=10 * number + place)})
    found = compare(tmp_path / "ours", tmp_path / "theirs")
    assert len(found) == 20
    [same] = [one for one in found if one.card == "card-0"]
    assert (same.found.p, same.verdict) == (alone.found.p, "not distinguishable from noise")


def test_scores_between_and_means_of_blocks_are_resampled(tmp_path):
    draw = np.random.default_rng(0)
    shares = {name: draw.random(120) for name in ("ours", "theirs")}
    blocks = np.repeat([4, 7, 9], (60, 40, 20))
    for name, values in shares.items():
        write(tmp_path / name, "birds", {"linear_probe_16_shots/accuracy": values}, task="few-shot")
        write(tmp_path / name, "cars", {"macro": values > 0.5}, task="composition", blocks=blocks)
    found = {one.card: one for one in compare(tmp_path / "ours", tmp_path / "theirs")}
    differences = shares["ours"] - shares["theirs"]
    assert found["birds"].found.difference == pytest.approx(100 * differences.mean())
    means = redrawn(differences)
    assert (found["birds"].found.low, found["birds"].found.high) == pytest.approx(
        tuple(np.quantile(means, (0.025, 0.975))), abs=1.3
    )
    assert found["birds"].found.p == pytest.approx(2 * min((means <= 0).mean(), (means >= 0).mean()), abs=0.04)
    steps = (shares["ours"] > 0.5).astype(float) - (shares["theirs"] > 0.5)
    expected = 100 * np.mean([steps[blocks == block].mean() for block in (4, 7, 9)])
    assert found["cars"].found.difference == pytest.approx(expected)
    assert (found["cars"].found.low, found["cars"].found.high) == pytest.approx(
        tuple(np.quantile(redrawn(steps, blocks), (0.025, 0.975))), abs=1.5
    )
    assert {one.found.test for one in found.values()} == {"paired bootstrap"}


@pytest.mark.parametrize(
    ("told", "key"),
    [
        ({"split": "validation"}, "split"),
        ({"data": {"data/birds/zeroshot/test": "d2"}}, "data"),
        ({"benchmarks": {"zeroshot": {"seed": 1}}}, "benchmarks"),
        ({"card_digest": "of other templates"}, "card_digest"),
        ({"protocol": "ties count as right"}, "protocol"),
        ({"precision": "bf16"}, "precision"),
    ],
)
def test_what_was_not_measured_alike_is_not_compared(models, told, key):
    write(models[1], "birds", {"accuracy": scores_of("birds")[1]}, **told)
    with pytest.raises(
        VlalignError, match=rf"ours/.*birds and .*theirs/.*birds were not .* \(`{key}` of evaluation\.json"
    ):
        compare(*models)


def test_the_same_data_may_lie_elsewhere(models):
    write(models[1], "birds", {"accuracy": scores_of("birds")[1]}, data={"/elsewhere/birds": "d1"})
    assert len(compare(*models)) == 3


def test_a_folder_with_numbers_of_two_models_is_not_compared(models):
    """As when another model of the same name was measured into it on some of the cards."""
    write(models[1], "cars", {"accuracy": scores_of("cars")[1]}, weights="of another model")
    message = r"theirs/.*birds and .*theirs/.*cars were measured with different weights.*; delete the older"
    with pytest.raises(VlalignError, match=message):
        compare(*models)


@pytest.mark.parametrize("change", ["length", "blocks"])
def test_items_that_do_not_belong_together_are_left_out(tmp_path, caplog, change):
    scores, blocks = answers(0.5, seed=0), np.repeat([0, 1], 100)
    write(tmp_path / "ours", "birds", {"macro": scores}, task="composition", blocks=blocks)
    other = {"length": (scores[:-1], blocks[:-1]), "blocks": (scores, blocks[::-1])}[change]
    write(tmp_path / "theirs", "birds", {"macro": other[0]}, task="composition", blocks=other[1])
    with pytest.raises(VlalignError, match="where no metric is a mean over the same items"):
        compare(tmp_path / "ours", tmp_path / "theirs")
    assert "macro of" in caplog.text


def test_items_that_were_changed_are_refused(models):
    path = models[0] / "benchmarks/zeroshot/birds/items.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x02")
    with pytest.raises(VlalignError, match=r"items\.safetensors is not the file that .* describes"):
        compare(*models)


def test_items_that_another_program_wrote_are_refused(models):
    place = models[0] / "benchmarks/zeroshot/birds"
    (place / "items.safetensors").write_bytes(b"\x80\x04.")
    told = read_record(place / "evaluation.json")
    write_record(place / "evaluation.json", {**told, "files": stamps(place, told["files"])})
    with pytest.raises(VlalignError, match=r"birds/items\.safetensors cannot be read \(.*\); delete .*birds and run"):
        compare(*models)


def test_only_what_both_have_is_compared(models, tmp_path):
    write(models[0], "more", {"accuracy": answers(0.5, seed=1)})
    assert {one.card for one in compare(*models)} == set(SHARES)
    write(tmp_path / "alone", "others", {"accuracy": answers(0.5, seed=2)})
    with pytest.raises(VlalignError, match=r"ours and .*alone share no benchmark: .*evaluate both on the same suites"):
        compare(models[0], tmp_path / "alone")
    with pytest.raises(VlalignError, match=r"nobody does not exist, and so has no evaluation\.json .*evaluate it"):
        compare(models[0], tmp_path / "nobody")
    with pytest.raises(VlalignError, match=rf"{tmp_path} has no evaluation\.json below `metrics` or `benchmarks`"):
        compare(models[0], tmp_path)
    for name in ("one", "other"):
        write(tmp_path / name, "views", {}, task="modality")
    with pytest.raises(VlalignError, match=r"benchmarks/modality/views, where no metric is a mean over the same"):
        compare(tmp_path / "one", tmp_path / "other")


def test_where_params_leave_no_headline_every_group_is_compared(tmp_path):
    """Such as few shots without the sixteen that lead."""
    for place, name in enumerate(("ours", "theirs")):
        scores = {f"linear_probe_{k}_shots/accuracy": answers(0.5, seed=10 * place + k) for k in (1, 2)}
        write(tmp_path / name, "birds", scores, task="few-shot")
    found = compare(tmp_path / "ours", tmp_path / "theirs")
    assert [(one.metric.label, one.metric.group) for one in found] == [
        ("linear probe 1 shots", "linear_probe_1_shots"),
        ("linear probe 2 shots", "linear_probe_2_shots"),
    ]
    assert len({row.name for row in compare_table(found, ours="a", theirs="b").rows}) == 2


def test_runs_and_models_are_compared_alike(tmp_path):
    """On the dataset of the params and on cards: a run's seed has the same folders as a model."""
    run = write_tree(tmp_path, arms=("clip",), seeds=(0,), taus=())[0]
    model = tmp_path / "results/models/foreign"
    ours, theirs = answers(0.7, seed=1), answers(0.5, seed=2)
    for folder, scores in ((run, ours), (model, theirs)):
        write(folder, "", {"accuracy": scores}, place="metrics")
        write(folder, "birds", {"accuracy": scores})
    found = compare(run, model)
    assert [one.card for one in found] == ["birds", ""]
    assert [one.found.p for one in found] == pytest.approx([mcnemar(ours, theirs)] * 2)
    assert [row.name for row in compare_table(found, ours="a", theirs="b").rows] == [
        "birds: Zero-shot accuracy",
        "Zero-shot accuracy",
    ]


@pytest.mark.parametrize("suffix", [".csv", ".md", ".tex", ".json", ""])
def test_what_is_printed_and_written(models, tmp_path, suffix):
    output = ["--output", str(tmp_path / f"table{suffix}")] if suffix else []
    result = CliRunner().invoke(cli.app, ["compare", *map(str, models), *output])
    assert result.exit_code == 0, result.output
    found = {one.card: one for one in compare(*models)}
    cars = found["cars"].found
    assert "ours against theirs" in result.output
    assert "after Holm's correction over all 3 rows" in " ".join(result.output.split())
    shown = f"+{cars.difference:.1f} [{cars.low:.1f}, {cars.high:.1f}]"
    [line] = [line for line in result.output.splitlines() if "cars: Zero-shot accuracy" in line]
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    one = found["cars"]
    assert cells[1:] == [f"{one.ours:.1f}", f"{one.theirs:.1f}", shown, f"{one.adjusted:.3g} McNemar", "200"]
    if suffix == ".csv":
        with open(tmp_path / "table.csv", newline="") as stream:
            rows = {row["card"]: row for row in csv.DictReader(stream)}
        for card, row in rows.items():
            expected = {key: str(value) for key, value in found[card].record().items()}
            assert row == expected
            assert float(row["p_holm"]) == found[card].adjusted
    elif suffix:
        text = Path(tmp_path, f"table{suffix}").read_text()
        assert (shown in text) == (suffix != ".json")
        assert ("p_holm" in text) == (suffix == ".json")
