"""Features that are kept on disk, and encoding where threads decode or memory is short."""

import logging
from pathlib import Path

import pytest
import torch
from evaluation_data import encoder, squares

from vlalign.data.shards.manifest import write_split
from vlalign.evaluation.features import encode_images, encode_split, encode_texts
from vlalign.evaluation.store import FeatureStore
from vlalign.models import DualEncoder

MODEL = {"weights": "a", "pooling": "average"}


@pytest.fixture
def split(tmp_path: Path) -> Path:
    write_split(tmp_path / "test", squares(12), source={})
    return tmp_path / "test"


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pictures and captions every call of the towers was given."""
    seen: list[int] = []
    for name in ("encode_image", "encode_text"):
        original = getattr(DualEncoder, name)

        def count(self: DualEncoder, batch: torch.Tensor, original=original):
            seen.append(len(batch))
            return original(self, batch)

        monkeypatch.setattr(DualEncoder, name, count)
    return seen


def test_what_was_encoded_once_is_not_encoded_again(split: Path, tmp_path: Path, encoded: list[int]) -> None:
    store = FeatureStore(tmp_path / "features", MODEL)
    plain, first = encode_split(encoder(), split), encode_split(encoder(), split, store=store)
    before = len(encoded)
    again = encode_split(encoder(), split, store=FeatureStore(tmp_path / "features", dict(MODEL)))
    assert len(encoded) == before
    for found in (first, again):
        assert torch.equal(found.images_ID, plain.images_ID)
        assert torch.equal(found.captions_CD, plain.captions_CD)
        assert found.samples == plain.samples


@pytest.mark.parametrize("changed", ["model", "data", "texts"])
def test_nothing_stale_is_taken(split: Path, tmp_path: Path, encoded: list[int], changed: str) -> None:
    store = FeatureStore(tmp_path / "features", MODEL)
    encode_split(encoder(), split, store=store)
    encode_texts(encoder(), ["a square"], store=store)
    before = len(encoded)
    if changed == "model":
        encode_split(encoder(seed=1), split, store=FeatureStore(store.folder, {**MODEL, "weights": "b"}))
    elif changed == "data":
        write_split(split, squares(11), source={})
        encode_split(encoder(), split, store=store)
    else:
        encode_texts(encoder(), ["a circle"], store=store)
    assert len(encoded) > before


def test_a_damaged_file_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = FeatureStore(tmp_path, MODEL)
    expected = store.features({"texts": "x"}, lambda: torch.eye(3))
    [path] = tmp_path.glob("*.safetensors")
    for place in (10, len(path.read_bytes()) - 1):
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)
        with caplog.at_level(logging.WARNING):
            assert torch.equal(store.features({"texts": "x"}, lambda: torch.eye(3)), expected)
        assert f"{path} is made again" in caplog.text
        caplog.clear()
    assert store.features({"texts": "none"}, lambda: torch.empty(0, 0)).shape == (0, 0)


@pytest.mark.parametrize("workers", [1, 3])
def test_threads_change_nothing(split: Path, workers: int) -> None:
    one, other = (encode_split(encoder(), split, batch_size=5, workers=count) for count in (0, workers))
    assert torch.equal(one.images_ID, other.images_ID)
    assert one.samples == other.samples


def test_a_batch_that_is_too_large_is_halved(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    samples, model = list(squares(11)), encoder()
    expected = encode_images(model, samples, keep_patches=True)
    original = DualEncoder.encode_image

    def small(self: DualEncoder, images: torch.Tensor):
        if len(images) > 3:
            raise torch.OutOfMemoryError("no room")
        return original(self, images)

    monkeypatch.setattr(DualEncoder, "encode_image", small)
    found = encode_images(model, samples, keep_patches=True, batch_size=8)
    torch.testing.assert_close(found[1], expected[1])
    torch.testing.assert_close(found[2], expected[2])
    assert "they are halved" in caplog.text


def test_memory_that_holds_not_one_picture_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(self: DualEncoder, images: torch.Tensor):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(DualEncoder, "encode_image", none)
    with pytest.raises(torch.OutOfMemoryError):
        encode_images(encoder(), squares(2))
