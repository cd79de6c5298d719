"""WebDataset shards with a manifest, as img2dataset writes them and CLIP_benchmark reads them.

A split is a folder of tar files, each sample a run of members that share a key, and a `manifest.json` that names every
shard with its size, SHA-256 and sample count. Rules of the workflow depend on the manifest, never on the folder.
"""

import hashlib
import io
import itertools
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from vlalign.errors import VlalignError
from vlalign.files import atomic_write, read_json, write_json

Item = TypeVar("Item")
IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp")


@dataclass(frozen=True)
class Sample:
    """One image with its captions, or with its class label, as the members of one key in a shard.

    `instances` is an 8-bit PNG label map of the image's size (0 background, k = object k); `meta` holds the stratum and
    the phrases whose referents are known.
    """

    key: str
    image: bytes
    captions: tuple[str, ...] = ()
    label: int | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    instances: bytes | None = None

    @property
    def stratum(self) -> str | None:
        """The group of samples that this one is reported with, if the dataset names one."""
        return self.meta.get("stratum")

    def members(self) -> dict[str, bytes]:
        """File suffix -> content, in the order in which they are written."""
        files = {"png": self.image}
        if self.captions:
            files["txt"] = "\n".join(self.captions).encode()
        if self.label is not None:
            files["cls"] = str(self.label).encode()
        if self.meta:
            files["json"] = json.dumps(self.meta, sort_keys=True).encode()
        if self.instances is not None:
            files["instances.png"] = self.instances
        return files


def write_split(
    directory: str | Path,
    samples: Iterable[Sample],
    *,
    source: dict[str, Any],
    shard_size: int = 2000,
    shard_name: str = "{:06d}.tar",
) -> None:
    """Write `samples` as shards of at most `shard_size`, then the manifest; equal samples give equal bytes."""
    directory = Path(directory)
    shards = []
    for index, batch in enumerate(batched(samples, shard_size)):
        path = directory / shard_name.format(index)
        with atomic_write(path) as temporary:
            _write_tar(temporary, batch)
        shards.append({"name": path.name, "samples": len(batch), **fingerprint(path)})
    write_json(
        directory / "manifest.json",
        {"shards": shards, "samples": sum(shard["samples"] for shard in shards), "source": source},
    )


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items; the last may be shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _write_tar(path: Path, samples: list[Sample]) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for sample in samples:
            for suffix, content in sample.members().items():
                info = tarfile.TarInfo(f"{sample.key}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def fingerprint(path: str | Path) -> dict[str, Any]:
    """Size in bytes and SHA-256 of one file."""
    with open(path, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": Path(path).stat().st_size, "sha256": digest}


def read_manifest(directory: str | Path) -> dict[str, Any]:
    """The manifest of a split; raises VlalignError when it is missing or broken."""
    return read_json(Path(directory) / "manifest.json")


def read_split(directory: str | Path) -> Iterator[Sample]:
    """Yield the samples of a split in the manifest's order.

    Raises VlalignError when a shard is missing, was changed in size since the manifest was written, or cannot be read.
    """
    directory = Path(directory)
    for shard in read_manifest(directory)["shards"]:
        yield from read_shard(directory / shard["name"], expected_bytes=shard["bytes"])


def read_shard(path: Path, *, expected_bytes: int | None = None) -> Iterator[Sample]:
    """Yield the samples of one tar file."""
    if not path.is_file():
        raise VlalignError(f"{path} is named in the manifest beside it but missing; delete the manifest and run again")
    if expected_bytes is not None and path.stat().st_size != expected_bytes:
        raise VlalignError(
            f"{path} has {path.stat().st_size} bytes, its manifest says {expected_bytes}; "
            "delete the manifest and run the workflow again"
        )
    try:
        with tarfile.open(path) as tar:
            members = ((member.name.partition("."), tar.extractfile(member)) for member in tar if member.isfile())
            for key, group in itertools.groupby(members, key=lambda entry: entry[0][0]):
                yield _sample(key, {name[2]: stream.read() for name, stream in group if stream})
    except tarfile.TarError as error:
        raise VlalignError(
            f"{path} is not a readable tar file ({error}); delete it and run the workflow again"
        ) from None


def _sample(key: str, files: dict[str, bytes]) -> Sample:
    image = next((files[suffix] for suffix in IMAGE_SUFFIXES if suffix in files), b"")
    return Sample(
        key=key,
        image=image,
        captions=tuple(files["txt"].decode().split("\n")) if "txt" in files else (),
        label=int(files["cls"]) if "cls" in files else None,
        meta=json.loads(files["json"]) if "json" in files else {},
        instances=files.get("instances.png"),
    )


def encode_png(array: np.ndarray) -> bytes:
    """PNG bytes of a uint8 array, H W 3 (colour) or H W (grey or label map)."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def decode_image(data: bytes) -> Image.Image:
    """The picture in RGB; raises VlalignError when the bytes are no image."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
        # Converting copies; loading decodes, so that damage is found here.
        return image.convert("RGB") if image.mode != "RGB" else _loaded(image)
    except (UnidentifiedImageError, OSError) as error:
        raise VlalignError(f"an image cannot be decoded ({error})") from None


def _loaded(image: Image.Image) -> Image.Image:
    image.load()
    return image


def decode_instances(data: bytes) -> np.ndarray:
    """Label map H W of dtype uint8: 0 is background, k is object k."""
    return np.asarray(Image.open(io.BytesIO(data)))
