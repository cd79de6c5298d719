import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from evaluation_cases import by_place, constant, unit
from evaluation_data import TOWER, squares

from vlalign import models
from vlalign.data.samples import decode_image
from vlalign.data.shards.manifest import write_split
from vlalign.evaluation.benchmarks.retrieval import Retrieval, retrieval_rows
from vlalign.evaluation.ranking import percent
from vlalign.evaluation.recall import RANKS, recall_chance, recall_hits, retrieval_ranks
from vlalign.evaluation.workbench import Workbench


def recall(*gallery: torch.Tensor) -> dict[tuple[str, int], float]:
    return {which: percent(hits) for which, hits in recall_hits(*gallery).items()}


def naive_recall(images: np.ndarray, captions: np.ndarray, owner: np.ndarray) -> dict[tuple[str, int], float]:
    scores = images @ captions.T
    found: dict[tuple[str, int], list[bool]] = {}
    for k in RANKS:
        for i in range(len(images)):
            own = [c for c in range(len(captions)) if owner[c] == i]
            if own:
                wrong = [scores[i, c] for c in range(len(captions)) if owner[c] != i]
                rank = sum(score >= max(scores[i, c] for c in own) - 1e-6 for score in wrong)
                found.setdefault(("image_to_text", k), []).append(rank < k)
        for c in range(len(captions)):
            rank = sum(scores[i, c] >= scores[owner[c], c] - 1e-6 for i in range(len(images)) if i != owner[c])
            found.setdefault(("text_to_image", k), []).append(rank < k)
    return {name: 100 * float(np.mean(hits)) for name, hits in found.items()}


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loops_on_uneven_captions(seed: int) -> None:
    owner = torch.randint(0, 40, (90,), generator=torch.Generator().manual_seed(seed))
    images = unit(40, 5, seed=seed)
    captions = torch.nn.functional.normalize(images[owner] + 0.8 * unit(90, 5, seed=seed + 10), dim=1)
    captions[3] = captions[7]
    scores = recall(images, captions, owner)
    assert scores == pytest.approx(naive_recall(images.numpy(), captions.numpy(), owner.numpy()))


def test_chunks_do_not_change_ranks() -> None:
    owner = torch.arange(50).repeat_interleave(2)
    images, captions = unit(50, 6), unit(100, 6, seed=1)
    for whole, split in zip(
        retrieval_ranks(images, captions, owner), retrieval_ranks(images, captions, owner, chunk=7), strict=True
    ):
        assert torch.equal(whole, split)


def test_perfect_model() -> None:
    images = torch.eye(30)
    scores = recall(images, images.repeat_interleave(3, 0), torch.arange(30).repeat_interleave(3))
    assert scores == {(way, k): 100 for way in ("image_to_text", "text_to_image") for k in RANKS}


def test_constant_model_gets_nothing() -> None:
    scores = recall(constant(30), constant(60), torch.arange(30).repeat_interleave(2))
    assert scores == {(way, k): 0 for way in ("image_to_text", "text_to_image") for k in RANKS}


def test_nan_model_gets_nothing() -> None:
    nan = torch.full((30, 4), torch.nan)
    assert recall(nan, nan, torch.arange(30))["image_to_text", 10] == 0
    assert recall(nan, nan, torch.arange(30))["text_to_image", 10] == 0


def test_any_of_the_images_captions_counts() -> None:
    images = torch.eye(2)
    captions = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8]])
    scores = recall(images, captions, torch.tensor([0, 0, 1]))
    assert scores["image_to_text", 1] == 50  # image 1 prefers caption 0
    assert scores["text_to_image", 1] == pytest.approx(200 / 3)


def test_single_image_is_always_found() -> None:
    assert recall(unit(1, 4), unit(1, 4, seed=1), torch.tensor([0]))["image_to_text", 1] == 100


def test_image_without_captions_is_gallery_but_no_query() -> None:
    images = torch.eye(3)
    scores = recall(images, torch.eye(3)[[2, 1]], torch.tensor([0, 1]))
    assert scores["image_to_text", 1] == 50
    assert scores["text_to_image", 1] == 50


def test_strata_have_their_own_gallery() -> None:
    images = torch.eye(4)
    captions = images[[2, 1, 0, 3]]  # images 0 and 2, of different strata, are mistaken for one another
    rows = retrieval_rows(images, captions, torch.arange(4), ["a", "a", "b", None])
    scores = by_place(rows)
    assert list(dict.fromkeys(row.stratum for row in rows)) == ["all", "a", "b"]
    assert scores["image_to_text_r1", "all", "all"] == 50
    assert scores["image_to_text_r1", "all", "b"] == 100
    assert scores["images", "all", "a"] == 2
    chances = {row.stratum: row.chance for row in rows if row.metric == "text_to_image_r1"}
    assert chances == {"all": 25, "a": 50, "b": 100}


def test_stratum_without_captions_has_counts_only() -> None:
    rows = retrieval_rows(torch.eye(3), torch.eye(3)[:2], torch.arange(2), ["a", "a", "b"])
    assert {row.metric: row.value for row in rows if row.stratum == "b"} == {"images": 1, "captions": 0}


def test_chance_is_what_random_orders_reach() -> None:
    owner = torch.tensor([0, 0, 0, 1, 2, 2, 3, 3, 3, 3, 4, 5])
    draws = [recall(unit(7, 40, seed=seed), unit(12, 40, seed=1000 + seed), owner) for seed in range(600)]
    for which, chance in recall_chance(7, owner).items():
        assert np.mean([draw[which] for draw in draws]) == pytest.approx(chance, abs=2.5)
    assert recall_chance(7, owner)["text_to_image", 10] == 100


@pytest.mark.parametrize("pooling", ["average", "default"])
def test_what_open_clip_retrieves_stands_beside_it_where_that_is_something_else(tmp_path: Path, pooling: str) -> None:
    """Measured in the same pass over the split, and equal to what open_clip itself makes of the run's folder."""
    write_split(tmp_path / "test", squares(12), source={})
    torch.manual_seed(3)
    model = models.create(TOWER, pooling=pooling).eval()
    models.save(model, tmp_path / "run")
    bench = Workbench(model, tmp_path, batch_size=5)
    rows = Retrieval(Retrieval.Params()).rows(bench, "test")
    found = {row.metric: row for row in rows if row.metric.endswith("_in_open_clip")}
    if pooling == "default":
        assert not found
        return
    theirs, _, transform = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'run'}")
    captions, features = [one for sample in squares(12) for one in sample.captions], bench.split("test")
    with torch.no_grad():
        pictures = torch.stack([transform(decode_image(sample.image)) for sample in squares(12)])
        images_ID = theirs.eval().encode_image(pictures, normalize=True)
        captions_CD = theirs.encode_text(
            open_clip.get_tokenizer("ViT-B-32", context_length=16)(captions), normalize=True
        )
    hits = recall_hits(images_ID, captions_CD, features.caption_image_C)
    for way, total in (("image_to_text", 12), ("text_to_image", 24)):
        row = found[f"{way}_r1_in_open_clip"]
        assert (row.value, row.n) == (100 * hits[way, 1].double().mean().item(), total)
    others = [row for row in rows if row.metric not in found]
    plain = retrieval_rows(features.images_ID, features.captions_CD, features.caption_image_C, features.strata)
    assert [(row.metric, row.stratum, row.value) for row in others] == [(r.metric, r.stratum, r.value) for r in plain]
    # Of a store, or of a split that was encoded before, nothing is known.
    again = Workbench(model, tmp_path, batch_size=5, _splits={"test": features})
    assert again.in_open_clip("test") is None


@pytest.mark.slow
def test_recall_of_five_thousand_images_needs_little_memory() -> None:
    """COCO's size: the whole matrix of similarities would take 477 MiB, and comparing it several times that."""
    script = Path(__file__).parents[2] / "benchmarks" / "evaluation.py"
    found = subprocess.run([sys.executable, script, "--one", "ours"], check=True, capture_output=True, text=True)
    assert json.loads(found.stdout)["MiB"] < 150
