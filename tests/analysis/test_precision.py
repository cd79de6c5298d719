import csv
from pathlib import Path

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from annotated_scenes import write_annotated
from torch import Tensor
from training_runs import TOWER, run_of
from typer.testing import CliRunner

from vlalign.analysis.precision import COLUMNS, measure, precision_rows, synthetic
from vlalign.cli import app
from vlalign.models import create
from vlalign.objectives import centre, powerset_loss
from vlalign.params import AdapterParams, PrecisionParams
from vlalign.reporting.figure import Measured
from vlalign.reporting.figures.precision import Precision
from vlalign.reporting.results import Results
from vlalign.training.data.inputs import Inputs
from vlalign.training.pretrain import Places, pretrain
from vlalign.training.terms.powerset import PowersetParams

PARAMS = PrecisionParams(regions=(10,), pairs=48, taus=(0.1, 0.001))


def trained_similarity(pairs: int = 48) -> tuple[Tensor, Tensor, Tensor]:
    """x = s − b of regions and phrases under two linear towers that the powerset loss has trained: an image shows 10 of
    20 concepts, each phrase names one to three of them.
    """
    random = torch.Generator().manual_seed(0)
    concepts = torch.randn(20, 24, generator=random)
    shown = torch.stack([torch.randperm(20, generator=random)[:10] for _ in range(pairs)])
    regions = concepts[shown] + 0.5 * torch.randn(pairs, 10, 24, generator=random)
    named = torch.rand(pairs, 12, 10, generator=random) < torch.tensor([0.1, 0.2, 0.3]).repeat(4)[:, None]
    phrases = named.float() @ concepts[shown] + 0.5 * torch.randn(pairs, 12, 24, generator=random)
    towers = [torch.randn(24, 16, generator=random).requires_grad_() for _ in range(2)]
    optimizer = torch.optim.Adam(towers, lr=0.02)

    def aligned() -> list[Tensor]:
        return [centre(F.normalize(x @ w, dim=-1)) for x, w in zip((regions, phrases), towers, strict=True)]

    for _ in range(60):
        optimizer.zero_grad()
        powerset_loss(*aligned(), loss="cross-entropy", scale=10.0, per_region=True, cost=0.3).backward()
        optimizer.step()
    phi, p = (x.detach() for x in aligned())
    return p @ phi.mT - 0.3, torch.ones(pairs, 10, dtype=torch.bool), torch.ones(pairs, 12, dtype=torch.bool)


FEATURES = {
    "random": synthetic(PARAMS, clusters=None),
    "clustered": synthetic(PARAMS, clusters=4),
    "trained": trained_similarity(),
}


@pytest.mark.parametrize("features", FEATURES)
def test_errors_keep_their_bounds_and_calibration_meets_the_mean(features: str) -> None:
    rows = list(measure(*FEATURES[features], PARAMS))
    bounded = [row for row in rows if row["bound_relative"] != ""]
    assert {(row["aggregator"], row["direction"]) for row in bounded} == {("nla", "r2t"), ("nla", "t2r")}
    assert all(row["error_relative"] <= row["bound_relative"] + 1e-9 for row in bounded)
    calibrated = [row for row in rows if row["aggregator"] == "calibrated"]
    assert len(calibrated) == len(PARAMS.taus)
    assert all(abs(row["bias_relative"]) < 0.02 for row in calibrated)
    published = next(row for row in rows if row["zeta"] == 0.75 and row["tau"] == 0.001)
    assert published["bias_relative"] > 0.1, "which the published zeta does not"


def test_regions_and_phrases_that_are_not_real_count_for_nothing() -> None:
    similarity, region_mask, phrase_mask = FEATURES["random"]
    padded = torch.nn.functional.pad(similarity, (0, 2, 0, 3), value=-5.0)
    masks = torch.nn.functional.pad(region_mask, (0, 2)), torch.nn.functional.pad(phrase_mask, (0, 3))
    for row, wanted in zip(measure(padded, *masks, PARAMS), measure(*FEATURES["random"], PARAMS), strict=True):
        if row["aggregator"] not in ("sampled", "calibrated"):  # whose subsets are others
            assert row["error_relative"] == pytest.approx(wanted["error_relative"])


def test_more_samples_err_less() -> None:
    rows = [row for row in measure(*FEATURES["random"], PARAMS) if row["aggregator"] == "sampled"]
    assert [row["samples"] for row in rows] == sorted(PARAMS.samples)
    assert rows[-1]["error_relative"] < rows[0]["error_relative"] / 2, "64 against 8"


def test_the_command_prints_a_table_or_writes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_annotated(tmp_path, images=16)
    (tmp_path / "split").rename(tmp_path / "validation")
    annotations = [tmp_path / "annotations" / kind / "validation" for kind in ("phrases", "regions")]
    for folder in annotations:
        folder.parent.mkdir(parents=True)
        (tmp_path / folder.parent.name).rename(folder)
    inputs = Inputs(tmp_path / "validation", *annotations)
    tower = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 96, "patch_size": 16, "width": 32, "layers": 1, "head_width": 16},
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    params = {
        "model": {"tower": tower},
        "train": {"steps": 2, "batch_size": 8},
        "objective": {"powerset": {"weight": 1.0, "cost": "batch", "centre": True}},
    }
    config = {"run": "test", "arm": "test", "ablation": None, "params": params}
    pretrain(run_of(config), seed=0, inputs=inputs, places=Places(tmp_path / "run", tmp_path / "checkpoints"))
    command = [
        *("precision", str(tmp_path / "run"), "report.precision.regions=[2, 10]", "report.precision.pairs=8"),
        *("--data", str(tmp_path), "--annotations", str(tmp_path / "annotations")),
    ]
    monkeypatch.setenv("COLUMNS", "160")
    printed = CliRunner().invoke(app, command)
    assert printed.exit_code == 0, printed.output
    assert "calibrated" in printed.output
    assert "trained" in printed.output
    written = CliRunner().invoke(app, [*command, "--output", str(tmp_path / "precision.csv")])
    assert written.exit_code == 0, written.output
    with (tmp_path / "precision.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(COLUMNS)
    assert {(row["features"], row["regions"]) for row in rows} == {
        (features, count) for features in FEATURES for count in ("2", "10")
    }


def test_adapters_of_pooled_features_give_no_trained_ones(tmp_path):
    encoder = create(TOWER, pooling="average").eval()
    encoder.adapt(AdapterParams(dimension=8, hidden=8))
    params = PrecisionParams(regions=(2,), pairs=4)
    rows = precision_rows(encoder, PowersetParams(), tmp_path / "split", tmp_path / "annotations", params)
    assert {row["features"] for row in rows} == {"random", "clustered"}, "and no data are looked for"


def test_where_every_exact_score_is_zero_there_is_no_relative_error(tmp_path):
    similarities = -torch.ones(3, 2, 2), torch.ones(3, 2, dtype=torch.bool), torch.ones(3, 2, dtype=torch.bool)
    rows = list(measure(*similarities, PrecisionParams(regions=(2,), pairs=3)))
    t2r = [row for row in rows if row["direction"] == "t2r"]
    assert t2r
    assert {row["error_relative"] for row in t2r} == {""}
    assert all(row["error_relative"] != "" for row in rows if row["direction"] == "r2t")
    table = pd.DataFrame([{"features": "trained", "regions": 2, **row} for row in rows])
    table.to_csv(tmp_path / "precision.csv", index=False)
    measured = Measured(Results({}, (), "clip", "linear"), tmp_path / "precision.csv")
    for name in Precision().names():
        Precision().draw(name, measured, tmp_path / f"{name}.svg")
        assert (tmp_path / f"{name}.svg").stat().st_size > 0
