import logging
from pathlib import Path

import pytest
import torch
from evaluation_data import encoder, parsed, squares, write_composition, write_zeroshot

from vlalign import models
from vlalign.annotate.phrases import ParsedCaption
from vlalign.data.manifest import write_split
from vlalign.data.samples import Sample
from vlalign.errors import VlalignError
from vlalign.evaluation import workbench
from vlalign.evaluation.ranking import AbsentError
from vlalign.evaluation.run import BENCHMARKS, evaluate
from vlalign.evaluation.workbench import Workbench
from vlalign.files import read_json, write_text
from vlalign.records import write_record


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
    scores = evaluate(run_dir, data=data, annotations=annotations, output_dir=tmp_path / "out", batch_size=5)
    assert set(scores) == set(BENCHMARKS)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"{name}.json" for name in BENCHMARKS}
    for name, values in scores.items():
        assert read_json(tmp_path / "out" / f"{name}.json") == values
    assert set(scores["retrieval"]) == {"all", "even", "odd"}
    assert set(scores["composition"]) == {"swap", "replace", "micro", "macro", "group"}
    assert set(scores["grounding"]) == {"raw", "centred", "positive_share", "left_out"}
    kinds = {"one", "conjunction", "multiple", "all", "one_with_boxes", "pointing"}
    assert set(scores["grounding"]["centred"]) == kinds | {"threshold", "even", "odd"}
    assert set(scores["grounding"]["raw"]["odd"]) == kinds
    assert scores["grounding"]["raw"]["one_with_boxes"]["chance"] == pytest.approx(100 / (2 + workbench.BOXES))
    assert scores["grounding"]["raw"]["pointing"]["phrases"] == 36
    assert scores["modality"]["probe_chance"] == 50
    assert scores["transfer"]["classifier_on_images"] == 100


def test_results_repeat_bit_by_bit(run_dir: Path, data: Path, annotations: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        evaluate(run_dir, data=data, annotations=annotations, output_dir=tmp_path / name)
    for name in BENCHMARKS:
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
        scores = evaluate(run_dir, data=data, split="validation", output_dir=tmp_path / "out")
    assert set(scores) == {"retrieval", "zeroshot", "composition", "modality"}
    assert "grounding is left out: validation has no phrase annotation" in caplog.text
    assert "transfer is left out" in caplog.text


@pytest.mark.parametrize("name", ["composition", "zeroshot", "grounding", "transfer"])
def test_absent_data_asked_for_are_an_error(run_dir: Path, tmp_path: Path, name: str) -> None:
    for split in ("validation", "test"):
        write_split(tmp_path / "bare" / split, squares(4), source={})
    with pytest.raises(VlalignError, match=f"benchmark {name}"):
        evaluate(run_dir, data=tmp_path / "bare", output_dir=tmp_path / "out", benchmarks=(name,))
    assert not (tmp_path / "out").exists()


def test_unknown_benchmark_is_an_error(run_dir: Path, data: Path) -> None:
    with pytest.raises(VlalignError, match="unknown benchmark 'retreival'; choose among retrieval"):
        evaluate(run_dir, data=data, benchmarks=("retreival",))


def test_phrases_without_instances_ground_nothing(run_dir: Path, data: Path, annotations: Path, tmp_path: Path) -> None:
    flat = [Sample(s.key, s.image, s.captions, meta=s.meta) for s in squares(12)]
    write_split(data / "test", flat, source={})
    with pytest.raises(VlalignError, match="no phrase with known and visible referents"):
        evaluate(run_dir, data=data, annotations=annotations, output_dir=tmp_path, benchmarks=("grounding",))


def test_lost_shard_is_an_error(data: Path) -> None:
    write_text(data / "zeroshot" / "test" / "nshards.txt", "2\n")
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
    evaluate(run_dir, data=data, output_dir=tmp_path / "out", benchmarks=("retrieval", "zeroshot"))
    evaluate(run_dir, data=data, output_dir=tmp_path / "out", benchmarks=("retrieval",))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["retrieval.json"]
