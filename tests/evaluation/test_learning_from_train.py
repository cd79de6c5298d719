"""Tasks that learn from the training split, from shards to metric files."""

import logging
from pathlib import Path

import pytest
import torch
from evaluation_data import encoder, vouch, write_zeroshot

from vlalign import models
from vlalign.errors import VlalignError
from vlalign.evaluation.metrics import Measurement
from vlalign.evaluation.run import evaluate, subject
from vlalign.files import write_text
from vlalign.params import EvaluationParams

TASKS = ("linear-probe", "few-shot")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    models.save(encoder(), directory)
    return directory


def data(folder: Path, *splits: str) -> Path:
    write_zeroshot(folder / "data" / "zeroshot", count=24, splits=splits)
    return folder / "data"


def measured(run_dir: Path, data: Path, *names: str, **more: object) -> dict[str, Measurement]:
    settings = EvaluationParams(benchmarks=names or None, params={"few_shot": {"shots": [1, 2], "seeds": [1]}}, **more)
    return evaluate(run_dir, data=data, output_dir=data.parent / "metrics", settings=settings)


@pytest.mark.parametrize("splits", [("train", "validation", "test"), ("train", "test")])
def test_squares_are_told_apart_and_each_split_is_encoded_once(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, splits: tuple[str, ...]
) -> None:
    seen = []
    encode = models.DualEncoder.encode_image

    def count(self: models.DualEncoder, images: torch.Tensor) -> models.ImageFeatures:
        seen.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(models.DualEncoder, "encode_image", count)
    found = measured(run_dir, data(tmp_path, *splits), "zeroshot", *TASKS)
    assert sum(seen) == 24 * len(splits)
    accuracy = {
        (name, row.group): (row.value, row.n, row.chance)
        for name in TASKS
        for row in found[name].rows
        if row.metric == "accuracy" and row.group != "zero_shot"
    }
    groups = [f"{learner}_{shots}_shots" for learner in ("linear_probe", "tip_adapter") for shots in (1, 2)]
    probes = [place for place in accuracy if not place[1].startswith("tip")]
    assert list(accuracy) == [("linear-probe", "all"), *(("few-shot", group) for group in groups)]
    assert {accuracy[place] for place in probes} == {(100, 24, 25)}
    zero_shot = next(row for row in found["few-shot"].rows if row.group == "zero_shot")
    assert zero_shot.value == next(row.value for row in found["zeroshot"].rows if row.metric == "accuracy")
    counts = {row.metric: row.value for row in found["linear-probe"].rows}
    assert counts["training_images"] == 24 * (len(splits) - 1)


def test_without_a_training_split_they_are_left_out(
    run_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = data(tmp_path, "validation", "test")
    assert not set(TASKS) & set(measured(run_dir, folder))
    for name in TASKS:
        assert f"{name} is left out: there is no zeroshot/train/manifest.json" in caplog.text
        with pytest.raises(VlalignError, match=f"benchmark {name}: there is no zeroshot/train"):
            measured(run_dir, folder, name)


def test_they_do_not_measure_the_split_on_which_they_choose(
    run_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = measured(run_dir, data(tmp_path, "train", "validation", "test"), split="validation")
    assert not set(TASKS) & set(found)
    assert "few-shot is left out: it learns from validation" in caplog.text


@pytest.mark.parametrize("split", ["train", "validation"])
def test_labels_that_mean_other_classes_teach_nothing(run_dir: Path, tmp_path: Path, split: str) -> None:
    folder = data(tmp_path, "train", "validation", "test")
    write_text(folder / "zeroshot" / split / "classnames.txt", "red\nblue\ngreen\nyellow\n")
    vouch(folder / "zeroshot")
    for name, found in measured(run_dir, folder, *TASKS).items():
        assert f"but 'blue' in {folder}/zeroshot/{split}/classnames.txt" in found.not_measured, name


def test_scores_are_those_of_the_splits_that_are_read(run_dir: Path, tmp_path: Path) -> None:
    """A validation split that is optional is part of what was measured where it is there."""
    settings = EvaluationParams(benchmarks=TASKS)
    for splits in (("train", "test"), ("train", "validation", "test")):
        folder = data(tmp_path, *splits)
        about = subject(run_dir, data=folder, annotations=None, settings=settings)
        assert sorted(about["data"]) == [f"{folder}/zeroshot/{split}" for split in sorted(splits)]
