import logging
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from evaluation_data import encoder, parsed, squares, vouch, write_composition, write_zeroshot
from typer.testing import CliRunner, Result

from vlalign import models
from vlalign.annotate.phrases.annotation import ParsedCaption
from vlalign.cli import app
from vlalign.data.samples import Sample
from vlalign.data.shards.manifest import write_split
from vlalign.errors import VlalignError
from vlalign.evaluation import workbench
from vlalign.evaluation.benchmark import AbsentError, known_benchmarks
from vlalign.evaluation.bootstrap import mean
from vlalign.evaluation.metrics import ITEMS, read_items, read_metrics
from vlalign.evaluation.run import evaluate
from vlalign.evaluation.workbench import Workbench
from vlalign.files import read_json, write_json, write_text
from vlalign.params import EvaluationParams
from vlalign.records import check_record, write_record

BENCHMARKS = ["retrieval", "zeroshot", "composition", "grounding", "modality", "transfer"]


def asked(*names: str, **settings: object) -> EvaluationParams:
    return EvaluationParams(benchmarks=names or None, **settings)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    models.save(encoder(), directory)
    return directory


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split in ("validation", "test"):
        write_split(tmp_path / "data" / split, squares(12), source={})
        write_composition(tmp_path / "data" / "composition" / split)
    write_zeroshot(tmp_path / "data" / "zeroshot")
    return tmp_path / "data"


@pytest.fixture
def annotations(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Phrases straight from the captions, since the parser is another part's business."""

    def read(directory: Path) -> dict[str, list[ParsedCaption]]:
        return {sample.key: parsed(sample) for sample in squares(12)}

    monkeypatch.setattr(workbench, "read_phrases", read)
    directory = data.parent / "annotations"
    for split in ("validation", "test"):
        write_record(directory / "phrases" / split / "manifest.json", {})
    return directory


def test_every_benchmark_writes_what_it_returns(run_dir: Path, data: Path, annotations: Path, tmp_path: Path) -> None:
    scores = evaluate(
        run_dir, data=data, annotations=annotations, output_dir=tmp_path / "out", settings=asked(batch_size=5)
    )
    assert list(scores) == BENCHMARKS
    assert {path.stem for path in (tmp_path / "out").glob("*.json")} == {*BENCHMARKS, "evaluation"}
    assert len(list((tmp_path / "out").iterdir())) == len(BENCHMARKS) + 2
    files = {ITEMS, *(f"{name}.json" for name in BENCHMARKS)}
    assert set(check_record(tmp_path / "out" / "evaluation.json")["files"]) == files
    for name, found in scores.items():
        assert read_json(tmp_path / "out" / f"{name}.json") == found.content()
        assert {row.metric for row in found.rows} <= {metric.name for metric in known_benchmarks()[name].metrics}
        assert {(row.benchmark, row.run, row.seed) for row in found.rows} == {(name, "", None)}
    strata = {name: {row.stratum for row in found.rows} for name, found in scores.items()}
    assert strata["retrieval"] == strata["grounding"] == {"all", "even", "odd"}
    assert {row.group for row in scores["composition"].rows} == {"swap", "replace", "all"}
    assert {row.group for row in scores["grounding"].rows} == {"one", "conjunction", "multiple", "all"}
    rows = {row.metric: row for row in scores["grounding"].rows if (row.group, row.stratum) == ("all", "all")}
    for prefix in ("", "raw_"):
        assert rows[f"{prefix}top_1_with_boxes"].chance == pytest.approx(100 / (2 + workbench.BOXES))
        assert rows[f"{prefix}pointing_accuracy"].n == 36
    directions = {row.metric: row.direction for row in scores["modality"].rows}
    assert (directions["mean_distance"], directions["uniformity_text"]) == ("lower", None)
    assert [row.value for row in scores["transfer"].rows if row.metric == "classifier_on_images"] == [100]


def test_what_every_item_scored_is_kept(run_dir: Path, data: Path, annotations: Path, tmp_path: Path) -> None:
    found = evaluate(run_dir, data=data, annotations=annotations, output_dir=tmp_path / "out")
    rows = {row.place: row for one in found.values() for row in one.rows if row.low is not None}
    items = read_items(tmp_path / "out")
    assert items.keys() == rows.keys()
    assert {"retrieval", "zeroshot", "composition", "grounding", "transfer"} == {place[0] for place in rows}
    for place, row in rows.items():
        assert 100 * mean(*items[place]) == pytest.approx(row.value, abs=1e-4)
        assert row.low - 1e-6 <= row.value <= row.high + 1e-6
    items_path = tmp_path / "out" / ITEMS
    content = bytearray(items_path.read_bytes())
    content[-1] ^= 1
    items_path.write_bytes(content)
    with pytest.raises(VlalignError, match="was changed or damaged"):
        read_items(tmp_path / "out")


def test_results_repeat_bit_by_bit(run_dir: Path, data: Path, annotations: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        evaluate(run_dir, data=data, annotations=annotations, output_dir=tmp_path / name)
    for name in (*BENCHMARKS, "evaluation"):
        first, second = (tmp_path / folder / f"{name}.json" for folder in ("first", "second"))
        assert first.read_bytes() == second.read_bytes()


def test_each_split_is_encoded_once(
    run_dir: Path, data: Path, annotations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    encode = models.DualEncoder.encode_image

    def count(self: models.DualEncoder, images: torch.Tensor) -> models.ImageFeatures:
        seen.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(models.DualEncoder, "encode_image", count)
    evaluate(run_dir, data=data, annotations=annotations, output_dir=tmp_path / "out")
    assert sum(seen) == 4 * 12 + 3


def test_absent_data_are_left_out_with_a_reason(
    run_dir: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        scores = evaluate(run_dir, data=data, output_dir=tmp_path / "out", settings=asked(split="validation"))
    assert set(scores) == {"retrieval", "zeroshot", "composition", "modality"}
    assert "grounding is left out: there is no phrases/validation/manifest.json" in caplog.text
    assert "transfer is left out: it learns from validation" in caplog.text


@pytest.mark.parametrize("name", ["composition", "zeroshot", "grounding", "transfer"])
def test_absent_data_asked_for_are_an_error(run_dir: Path, tmp_path: Path, name: str) -> None:
    for split in ("validation", "test"):
        write_split(tmp_path / "bare" / split, squares(4), source={})
    with pytest.raises(VlalignError, match=f"benchmark {name}"):
        evaluate(run_dir, data=tmp_path / "bare", output_dir=tmp_path / "out", settings=asked(name))
    assert not (tmp_path / "out").exists()


def test_phrases_without_instances_ground_nothing(run_dir: Path, data: Path, annotations: Path, tmp_path: Path) -> None:
    flat = [Sample(s.key, s.image, s.captions, meta=s.meta) for s in squares(12)]
    write_split(data / "test", flat, source={})
    scores = evaluate(run_dir, data=data, annotations=annotations, output_dir=tmp_path, settings=asked("grounding"))
    assert "test has no phrase with known and visible referents" in scores["grounding"].not_measured


@pytest.mark.parametrize(
    ("count", "alike", "expected"),
    [
        (1, False, {"retrieval", "modality", "transfer"}),
        (2, False, {"modality"}),
        (3, False, {"modality"}),
        (4, False, set()),
        (8, True, {"modality", "transfer"}),
    ],
)
def test_a_split_that_is_too_small_or_too_alike_leaves_a_benchmark_out(
    run_dir: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int, alike: bool, expected: set
) -> None:
    samples = [replace(s, captions=("a square",)) if alike else s for s in squares(count)]
    write_split(data / "test", samples, source={})
    names = ("retrieval", "zeroshot", "composition", "modality", "transfer")
    scores = evaluate(run_dir, data=data, output_dir=tmp_path / "metrics", settings=asked(*names))
    written = {path.stem for path in (tmp_path / "metrics").iterdir()}
    assert written == {*names, "items", "evaluation"}, "the workflow waits for each"
    unmeasured = {name: found.not_measured for name, found in scores.items() if found.not_measured}
    assert set(unmeasured) == expected
    for name, reason in unmeasured.items():
        assert f"{name} is not measured: {reason}" in caplog.text
        assert f"not {1 if alike else count}" in reason
    assert read_metrics(tmp_path) == scores
    assert {name for name, found in scores.items() if not found.rows} == expected


def test_one_class_leaves_classification_out(run_dir: Path, data: Path, tmp_path: Path) -> None:
    samples = [Sample(f"z{i}", s.image, label=0) for i, s in enumerate(squares(4))]
    for split in ("validation", "test"):
        write_split(data / "zeroshot" / split, samples, source={}, shard_name="{}.tar")
    vouch(data / "zeroshot")
    several = evaluate(run_dir, data=data, output_dir=tmp_path / "several")
    assert "images of at least 2 classes to learn from, not of 1" in several["transfer"].not_measured
    assert [row.value for row in several["zeroshot"].rows if row.metric == "classes"] == [4]
    write_text(data / "zeroshot" / "classnames.txt", "red\n")
    vouch(data / "zeroshot")
    alone = evaluate(run_dir, data=data, output_dir=tmp_path / "alone")
    assert "at least 2 classes, not 1" in alone["zeroshot"].not_measured


def test_splits_whose_labels_mean_other_classes_move_no_classifier(run_dir: Path, data: Path, tmp_path: Path) -> None:
    write_text(data / "zeroshot" / "validation" / "classnames.txt", "red\nblue\ngreen\nyellow\n")
    write_text(data / "zeroshot" / "validation" / "zeroshot_classification_templates.txt", "{c}\n")
    vouch(data / "zeroshot")
    reason = evaluate(run_dir, data=data, output_dir=tmp_path / "out")["transfer"].not_measured
    assert re.search(r"class 1 is 'green' in .*classnames\.txt, but 'blue' in .*validation/classnames\.txt", reason)


@pytest.mark.parametrize("split", ["test", "validation"])
def test_labels_beyond_the_names_are_an_error_before_anything_is_measured(
    run_dir: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    image = next(squares(1)).image
    samples = [Sample("z0", image, label=0), Sample("z1", image, label=2 * 10**9)]
    write_split(data / "zeroshot" / split, samples, source={}, shard_name="{}.tar")
    vouch(data / "zeroshot")
    monkeypatch.delattr(models.DualEncoder, "encode_image")
    with pytest.raises(VlalignError, match=rf"zeroshot/{split} has the class 2000000000, but .*classnames\.txt has 4"):
        evaluate(run_dir, data=data, output_dir=tmp_path / "out", settings=asked("retrieval", "zeroshot", "transfer"))


def test_damaged_class_lists_are_an_error_before_anything_is_measured(
    run_dir: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(data / "zeroshot" / "classnames.txt", "red\n\ngreen\nblue\nyellow\n")
    vouch(data / "zeroshot")
    monkeypatch.delattr(models.DualEncoder, "encode_image")
    with pytest.raises(VlalignError, match="line 2 is blank"):
        evaluate(run_dir, data=data, output_dir=tmp_path / "out")


def test_progress_names_every_benchmark_and_its_headline(
    run_dir: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        scores = evaluate(run_dir, data=data, output_dir=tmp_path / "out", settings=asked("zeroshot", "modality"))
    accuracy = f"{scores['zeroshot'].rows[0].value:.1f}"
    assert f"zeroshot: Zero-shot accuracy {accuracy} (chance 25.0)" in caplog.messages
    assert caplog.messages[0] == "zeroshot: measuring on test"
    assert any(message.startswith("modality: Modality gap ") for message in caplog.messages)


def test_lost_shard_is_an_error(data: Path) -> None:
    write_text(data / "zeroshot" / "test" / "nshards.txt", "2\n")
    vouch(data / "zeroshot")
    with pytest.raises(VlalignError, match="promises 2 shards, but 1"):
        Workbench(encoder(), data).labelled("test")


def test_split_without_captions_or_labels_is_absent(data: Path) -> None:
    write_split(data / "test", [Sample("a", next(squares(1)).image)], source={})
    with pytest.raises(AbsentError, match="no captions"):
        Workbench(encoder(), data).split("test")
    write_split(data / "zeroshot" / "test", squares(2), source={}, shard_name="{}.tar")
    with pytest.raises(AbsentError, match="without a class"):
        Workbench(encoder(), data).labelled("test")


def test_boxes_depend_on_the_keys_of_images_alone(data: Path) -> None:
    one, other = Workbench(encoder(seed=0), data), Workbench(encoder(seed=1), data)
    coverage, mask = one.boxes("test")
    assert coverage.shape == (12, workbench.BOXES, 16)
    assert mask.all()
    assert torch.equal(coverage, other.boxes("test")[0])
    assert len({row.sum().item() for row in coverage}) == 12, "each image has its own"


def test_measurements_of_another_model_do_not_stay(run_dir: Path, data: Path, tmp_path: Path) -> None:
    evaluate(run_dir, data=data, output_dir=tmp_path / "out", settings=asked("retrieval", "zeroshot"))
    evaluate(run_dir, data=data, output_dir=tmp_path / "out", settings=asked("retrieval"))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"retrieval.json", ITEMS, "evaluation.json"}
    assert list(check_record(tmp_path / "out" / "evaluation.json")["files"]) == [ITEMS, "retrieval.json"]


def command(run: Path, data: Path, output: Path) -> Result:
    folders = {"run": run, "data": data, "annotations": data.parent / "none", "output": output}
    options = [text for name, folder in folders.items() for text in (f"--{name}", str(folder))]
    return CliRunner().invoke(app, ["evaluate", *options])


def test_a_model_that_is_no_run_is_measured_and_keeps_its_readme(run_dir: Path, data: Path, tmp_path: Path) -> None:
    stock = shutil.copytree(run_dir, tmp_path / "stock")
    config = read_json(stock / "open_clip_config.json")
    write_json(stock / "open_clip_config.json", {key: config[key] for key in ("model_cfg", "preprocess_cfg")})
    write_text(stock / "README.md", "theirs")
    for output in (stock / "metrics", tmp_path / "elsewhere"):
        result = command(stock, data, output)
        assert result.exit_code == 0, result.output
        assert (output / "zeroshot.json").is_file()
    assert (stock / "README.md").read_text() == "theirs"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is no record: it holds list"),
        ("{", "is not valid JSON"),
        ('{"run": 3}', r"has no key `\$sha256`"),
        ('{"run": "a", "$sha256": "0"}', "was changed or damaged after it was written"),
        ({}, "is not the record of a run"),
        ({"run": 3}, "is not the record of a run"),
    ],
)
def test_a_damaged_record_is_named_before_anything_is_measured(
    run_dir: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | dict, message: str
) -> None:
    run = shutil.copytree(run_dir, tmp_path / "run")
    write_text(run / "run.json", content) if isinstance(content, str) else write_record(run / "run.json", content)
    monkeypatch.delattr(models.DualEncoder, "encode_image")
    result = command(run, data, run / "metrics")
    assert isinstance(result.exception, VlalignError)
    assert re.search(rf"run\.json {message}.*(delete it|delete the run)", str(result.exception))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name what is measured"),
        (["--run", "run", "--model", "own"], "name what is measured"),
        (["--model", "own"], "--model own: `models` of the params has none of this name"),
        (["--run", "run", "--card", "food101", "--task", "zeroshot"], "--card food101: no suite of the params has it"),
        (["--run", "run", "--digest", "0" * 64], "no longer those that the workflow was started with"),
    ],
)
def test_a_job_that_the_params_do_not_know_is_refused(options: list[str], message: str) -> None:
    params = Path(__file__).parents[2] / "params.yaml"
    result = CliRunner().invoke(app, ["measure", "--params", str(params), *options])
    assert isinstance(result.exception, VlalignError)
    assert message in str(result.exception)
