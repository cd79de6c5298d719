import csv
import re
import statistics
from pathlib import Path

import pytest
from fake_results import load_tree, write_precision, write_tree

from vlalign.evaluation.benchmark import MetricRow, known_benchmarks
from vlalign.params import RunParams, load, merged
from vlalign.reporting.claims import (
    HOLDS,
    NO_VERDICT,
    NOT_MEASURED,
    NOT_RUN,
    OPPOSITE,
    Claim,
    arms_by_kind,
    claims_table,
    known_claims,
    look_into,
    metric_of,
)
from vlalign.reporting.published import published_tables
from vlalign.reporting.results import Results, Run
from vlalign.reporting.stats import NOISE
from vlalign.reporting.tables import write_tables

PROJECT = Path(__file__).parents[2]
POWERSET, CS = {"powerset": {"weight": 2.0}}, {"cs": {"weight": 0.1}}
ARMS = {"clip": {}, "powerclip": POWERSET, "cs": CS}
BETTER_AT_CAPTIONS = Claim(
    claim="x", arm="powerclip", reference="clip", metric={"benchmark": "retrieval", "name": "image_to_text_r1"}
)
NARROWER = Claim(claim="x", arm="cs", reference="clip", metric={"benchmark": "modality", "name": "mean_distance"})


def results_of(values, *, arms=ARMS, folder, train=None):
    """values: {(arm, benchmark, metric): value of every seed}; the arms' objectives, and what else of some arms."""
    seeds = max(map(len, values.values()), default=1)
    runs = []
    for arm, objective in arms.items():
        given = {"model": {"tower": "tiny"}, "train": (train or {}).get(arm, {}), "objective": objective}
        params = RunParams.model_validate(given).relevant()
        runs += [Run(folder, arm, arm, seed, None, params, {}) for seed in range(seeds)]
    rows = [
        MetricRow(metric=metric, value=float(value), benchmark=benchmark, run=arm, seed=seed)
        for (arm, benchmark, metric), numbers in values.items()
        for seed, value in enumerate(numbers)
    ]
    return Results(rows, tuple(runs), "clip", "linear")


def recall(folder, ours, theirs, **more):
    place = ("retrieval", "image_to_text_r1")
    return results_of({("powerclip", *place): ours, ("clip", *place): theirs}, folder=folder, **more)


def verdict(claim, results):
    return look_into(claim, results, arms=arms_by_kind(results)).verdict


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        ([52, 53, 51.5], HOLDS),
        ([40, 41.5, 40.5], OPPOSITE),
        ([47, 40, 46], NOISE),
        ([90], NO_VERDICT),
        ([], NOT_MEASURED),
    ],
)
def test_the_verdict_is_that_of_the_paired_interval(tmp_path, ours, expected):
    assert verdict(BETTER_AT_CAPTIONS, recall(tmp_path, ours, [44, 45, 43])) == expected


def test_pairing_decides_and_not_the_spread_between_seeds(tmp_path):
    assert verdict(BETTER_AT_CAPTIONS, recall(tmp_path, [21, 41.1, 61], [20, 40, 60])) == HOLDS


def test_a_metric_whose_lower_values_are_better_turns_the_verdict(tmp_path):
    def gap(ours):
        values = {("cs", "modality", "mean_distance"): ours, ("clip", "modality", "mean_distance"): [0.6, 0.61, 0.6]}
        return results_of(values, folder=tmp_path)

    assert verdict(NARROWER, gap([0.2, 0.21, 0.19])) == HOLDS
    assert verdict(NARROWER, gap([0.8, 0.81, 0.79])) == OPPOSITE


def test_an_arm_that_was_not_run_is_told_by_what_it_is(tmp_path):
    place = ("retrieval", "image_to_text_r1")
    results = results_of({("clip", *place): [44, 45]}, arms={"clip": {}}, folder=tmp_path)
    found = look_into(BETTER_AT_CAPTIONS, results, arms=arms_by_kind(results))
    assert found.verdict == NOT_RUN
    assert found.remark == "no arm with InfoNCE and the powerset of regions"


def test_arms_are_found_by_their_objective_and_not_by_their_name(tmp_path):
    literal = {"loss": "triplet", "negatives": "hardest", "per_region": False, "phrases": {"normalise": False}}
    arms = {
        "plain": {},
        "linear": POWERSET,
        "powerclip": merged(POWERSET, {"powerset": {"aggregator": "mean"}}),
        "mine": merged(POWERSET, CS),
        "published": merged(POWERSET, {"powerset": literal}),
        "tokens": {"cs": {"token_weight": 0.1}},
        "of-words": merged(POWERSET, {"powerset": {"phrases": {"unit": "words"}}}),
        "half": merged(POWERSET, {"powerset": {"direction": "t2r"}}),
    }
    found = arms_by_kind(results_of({}, arms=arms, folder=tmp_path))
    assert {kind: names for kind, names in found.items() if not kind.startswith(("frozen-", "clip-"))} == {
        "clip": ["plain"],
        "powerclip": ["linear", "published"],
        "powerclip-nla": [],
        "powerclip-literal": ["published"],
        "linear": ["powerclip"],
        "single-max": [],
        "words": ["of-words"],
        "without-r2t": ["half"],
        "without-t2r": [],
        "cs": ["tokens"],
        "powerclip-cs": ["mine"],
    }
    assert not any(names for kind, names in found.items() if kind.startswith(("frozen-", "clip-")))


def test_of_arms_of_one_kind_that_with_its_name_is_taken(tmp_path):
    arms = {"clip": {}, "first": POWERSET, "powerclip": POWERSET}
    assert arms_by_kind(results_of({}, arms=arms, folder=tmp_path))["powerclip"] == ["powerclip", "first"]


def test_arms_that_were_trained_differently_are_not_compared(tmp_path):
    results = recall(tmp_path, [52, 53, 51], [44, 45, 43], train={"powerclip": {"steps": 9000}})
    found = look_into(BETTER_AT_CAPTIONS, results, arms=arms_by_kind(results))
    assert (found.verdict, found.remark) == (NOT_RUN, "the arms differ in more than the objective")


def test_every_claim_names_kinds_metrics_and_published_numbers_that_there_are():
    published = {table.name.removeprefix("published-"): table for table in published_tables()}
    claims = [claim for source in known_claims().sources for claim in source.claims]
    assert len({claim.claim for claim in claims}) == len(claims)
    for claim in claims:
        if claim.metric is not None:
            assert {claim.arm, claim.reference} <= set(known_claims().kinds)
            assert claim.metric.benchmark in known_benchmarks()
            assert metric_of(claim).direction in ("higher", "lower")
        if claim.published is not None:
            rows = {row.name: row.cells for row in published[claim.published.table].rows}
            column = published[claim.published.table].header.index(claim.published.column) - 1
            shown = [rows[name][column].text for name in (claim.published.arm, claim.published.reference)]
            assert list(map(float, shown)) == list(claim.published.pair())


@pytest.mark.parametrize("overlay", [[], ["config/studies/adaptation.yaml"]], ids=["default", "adaptation"])
def test_the_kinds_of_the_shipped_arms_are_their_names(tmp_path, overlay):
    arms = load(PROJECT / "params.yaml", *(PROJECT / path for path in overlay)).all_runs.values()
    runs = tuple(Run(tmp_path, one.name, one.arm, 0, None, one.params.relevant(), {}) for one in arms if not one.grid)
    found = arms_by_kind(Results([], runs, "clip", "linear"))
    # No paper claims anything of the other divergences.
    others = {"frozen-mmd", "frozen-kl", "frozen-wasserstein"}
    assert {name: names[0] for name, names in found.items() if names} == {
        run.name: run.name for run in runs if run.name not in others
    }


def test_the_table_shows_published_beside_measured_and_has_no_row_where_no_claim_was_run(tmp_path):
    ours, theirs = [52, 53, 51.5], [44, 45, 43]
    shown = claims_table(recall(tmp_path, ours, theirs), None)
    row = next(row for row in shown.rows if row.name == "Better retrieval of captions than CLIP")
    published, measured, found = row.cells
    assert published.text == "42.7 → 47.0"
    mean = statistics.fmean(ours) - statistics.fmean(theirs)
    assert measured.text.startswith(f"+{mean:.1f} points [")
    assert measured.note == "Image → text R@1: powerclip − clip, 3 seeds"
    assert (found.text, found.tone) == (HOLDS, "better")
    assert claims_table(results_of({}, arms={"mine": {"contrastive": 0}}, folder=tmp_path), None).rows == ()


def test_the_error_of_the_published_aggregator_is_the_row_of_the_file(tmp_path):
    results = recall(tmp_path, [50, 51], [44, 45])
    write_precision(tmp_path / "precision.csv")
    with (tmp_path / "precision.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    wanted = {"features": "trained", "aggregator": "nla", "direction": "r2t", "tau": "0.001", "zeta": "0.75"}
    # The published 10 regions were not measured: of 2, 4, 8 and 12, 8 comes first among the nearest.
    wanted["regions"] = "8"
    [row] = [row for row in rows if wanted.items() <= row.items()]
    shown = claims_table(results, tmp_path / "precision.csv")
    cells = {row.name: row.cells for row in shown.rows}["The published NLA approximates the exact R2T"]
    assert cells[1].text == f"{100 * float(row['error_relative']):.2f} % error"
    assert cells[1].note == "of the exact score: trained features, R = 8, τ = 0.001, ζ = 0.75"
    records = shown.records
    [found] = [one for one in records if (one["benchmark"], one["group"]) == ("precision", "r2t")]
    assert found["mean"] == pytest.approx(100 * float(row["error_relative"]))
    assert found["verdict"] == NO_VERDICT
    assert claims_table(results, None).records[records.index(found)]["verdict"] == NOT_MEASURED


def test_an_error_that_rounds_to_zero_is_not_shown_as_none(tmp_path):
    path = write_precision(tmp_path / "precision.csv")
    exact = "trained,nla,t2r,0.001,,8,,"
    before = path.read_text()
    path.write_text(re.sub(f"{exact}.*", f"{exact}1e-6,1e-6,1e-6", before))
    assert path.read_text() != before
    rows = claims_table(recall(tmp_path, [50, 51], [44, 45]), path).rows
    cells = {row.name: row.cells for row in rows}["The published NLA approximates the exact T2R"]
    assert cells[1].text == "below 0.01 % error"


def test_the_csv_has_a_row_for_every_claim(tmp_path):
    results = load_tree(tmp_path, write_tree(tmp_path, arms=("clip", "powerclip", "linear", "cs"), taus=()))
    write_tables(results, tmp_path / "tables", precision=write_precision(tmp_path / "precision.csv"))
    with (tmp_path / "tables" / "claims.csv").open(newline="") as stream:
        rows = {row["claim"]: row for row in csv.DictReader(stream)}
    claims = [claim for source in known_claims().sources for claim in source.claims]
    assert list(rows) == [claim.claim for claim in claims]
    gap = rows["The divergence narrows the modality gap"]
    assert (gap["verdict"], gap["better"], gap["n"]) == (HOLDS, "lower", "3")
    assert float(gap["high"]) < 0
    collapse = rows["Without collapse: images spread more evenly"]
    assert collapse["verdict"] == OPPOSITE, "the made-up divergence collapses"
    assert rows["The divergence narrows PowerCLIP's modality gap"]["verdict"] == NOT_RUN


@pytest.mark.parametrize(
    ("model", "train", "objective", "kinds"),
    [
        ({}, {}, {}, {"frozen-nce"}),
        ({}, {}, CS, {"frozen-cs"}),
        ({}, {}, {"cs": {"weight": 1.0, "token_weight": 1.0}}, {"frozen-tokens"}),
        ({}, {}, {"cs": {"weight": 1.0, "captions": "all"}}, {"frozen-captions"}),
        ({}, {"pairs": 10}, {}, {"frozen-few"}),
        ({}, {"pairs": 10}, {"cs": {"weight": 1.0, "unpaired": {"images": 2}}}, {"frozen-few-unpaired"}),
        ({}, {"pairs": 10}, CS, {"frozen-few-cs"}),
        ({"start": "clip"}, {}, {}, {"clip-nce"}),
        ({"start": "clip"}, {}, CS, {"clip-cs"}),
        ({"start": "clip", "adapters": {"kind": "centred"}}, {}, {}, {"clip-centred"}),
        ({"start": "clip", "adapters": {"kind": "centred"}}, {}, CS, set()),
    ],
)
def test_adapted_arms_are_of_kinds_of_their_own(model, train, objective, kinds):
    run = {"model": {"tower": "none", "adapters": {}, **model}, "train": train, "objective": objective}
    params = RunParams.model_validate(run)
    assert {name for name, kind in known_claims().kinds.items() if kind.fits(params)} == kinds
