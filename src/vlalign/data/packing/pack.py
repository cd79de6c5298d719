"""Pack a user's own files into WebDataset shards."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.progress import Progress

from vlalign.console import console
from vlalign.data.packing.entries import Entry, entries, nothing_left
from vlalign.data.shards.tar import batched, write_tar
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError
from vlalign.files import atomic_write, check_writable, remove_temporary, write_text
from vlalign.params.data import CLASS_FILES
from vlalign.params.sources import PackedSource
from vlalign.records import read_record, stamp, write_record

# Raised whenever equal entries would give other bytes, so that shards of an older version are made again.
VERSION = 1
# Digest of the inputs -> shard, a line for each that is finished.
LOG = "packing.jsonl"


def pack(source: PackedSource, directory: str | Path) -> None:
    """Write the images of `source` as `000000.tar`, ... and at the end `shards.json` with the shards and the skips.

    Keys are running numbers over all shards. A sample is the image file's own bytes, its captions as .txt or its label
    as .cls, and a .json with its path in the source. Equal files give equal bytes. After a kill, shards that are
    whole and whose files and captions have not changed are kept; tars of earlier packings are removed.
    Further files of the source, such as the names of its classes, are written too, and named in `shards.json`.
    Raises VlalignError when the source is not as it should be, has no image, or the disk cannot be written to.
    """
    directory = Path(directory)
    check_writable(directory)
    _forget_earlier(directory)
    remove_temporary(directory)
    skips, noted = Skips(), Skips()
    try:
        files = source.files()
        for name, text in files.items():
            write_text(directory / name, text)
        shards = _write_shards(source, directory, skips, noted)
        kept = {directory / shard["name"] for shard in shards}
        for stale in set(directory.glob(f"{'[0-9]' * 6}.tar")) - kept:
            stale.unlink()
        told = {"skipped": skips.as_dict(), "noted": noted.as_dict(), **({"files": sorted(files)} if files else {})}
        write_record(directory / "shards.json", {"shards": shards, **told, "source": source.shown()})
        (directory / LOG).unlink(missing_ok=True)
    except OSError as error:
        raise VlalignError(
            f"{directory} cannot be written ({error}); make room or change its permissions and run again: "
            "finished shards are kept"
        ) from None


def _forget_earlier(directory: Path) -> None:
    """Remove what another packing wrote beside its shards: it must not vouch for those that are being made."""
    named = {"shards.json", *CLASS_FILES}
    for record in ("shards.json", "manifest.json"):
        with contextlib.suppress(VlalignError):  # it is not there, or of no use
            named |= {name for name in read_record(directory / record).get("files", ()) if Path(name).name == name}
    for name in named:
        (directory / name).unlink(missing_ok=True)


def _write_shards(source: PackedSource, directory: Path, skips: Skips, noted: Skips) -> list[dict[str, Any]]:
    """Write, or keep, every shard: its name, bytes and SHA-256."""
    done = _read_log(directory)
    shards: list[dict[str, Any]] = []
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        found = entries(source, skips, noted=noted, progress=progress)
        for index, batch in enumerate(batched(found, source.shard_size)):
            first, path = index * source.shard_size, directory / f"{len(shards):06d}.tar"
            inputs = _digest(path.name, first, batch)
            if inputs in done and path.is_file() and done[inputs] == {"name": path.name, **stamp(path)}:
                shards.append(done[inputs])
            elif shard := _write_shard(path, batch, first=first, inputs=inputs, skips=skips):
                shards.append(shard)
    if not shards:
        raise nothing_left(source, skips)
    return shards


def _write_shard(path: Path, batch: list[Entry], *, first: int, inputs: str, skips: Skips) -> dict[str, Any] | None:
    """Write one shard and log it; None if all its files have gone since they were listed."""
    lost = Skips()
    with atomic_write(path) as temporary:
        write_tar(temporary, _members(batch, first, lost))
    skips.merge(lost.as_dict())
    if lost.total == len(batch):
        path.unlink()
        return None
    shard = {"name": path.name, **stamp(path)}
    # A shard that lacks files is made again, as they may be there then.
    if not lost.total:
        with open(path.with_name(LOG), "a", encoding="utf-8") as log:
            # A line that a kill has torn has no end: the break before this one gives it one.
            log.write(f"\n{json.dumps({inputs: shard})}\n")
    return shard


def _members(batch: list[Entry], first: int, lost: Skips) -> Iterator[tuple[str, bytes]]:
    for number, entry in enumerate(batch, first):
        try:
            image = entry.read()
        except FileNotFoundError:
            lost.add("missing file", entry.name)
            continue
        except OSError:
            lost.add("unreadable file", entry.name)
            continue
        yield f"{number:09d}{Path(entry.name).suffix.lower()}", image
        if entry.captions:
            yield f"{number:09d}.txt", "\n".join(entry.captions).encode()
        if entry.label is not None:
            yield f"{number:09d}.cls", str(entry.label).encode()
        yield f"{number:09d}.json", json.dumps({"path": entry.name}).encode()


def _digest(name: str, first: int, batch: list[Entry]) -> str:
    """Of all that a shard is made from; files count by size and time of change."""
    rows = [(entry.name, str(entry.path), entry.changed, entry.captions, entry.label) for entry in batch]
    return hashlib.sha256(json.dumps((VERSION, name, first, rows)).encode()).hexdigest()


def _read_log(directory: Path) -> dict[str, dict[str, Any]]:
    """Digest of the inputs -> shard, for the shards that a killed packing had finished."""
    path, done = directory / LOG, {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(ValueError):  # torn by a kill
            done.update(json.loads(line))
    return done
