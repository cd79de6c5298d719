"""Bring the shards of a source from elsewhere to this disk, and go on where a run ended.

huggingface_hub downloads into the folder `.incoming`; a file gets its name when its bytes are right, and `shards.json`
appears when all of them are there.
"""

import contextlib
import dataclasses
import hashlib
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

from filelock import FileLock, Timeout
from httpx2 import RequestError, TransportError, UnsupportedProtocol

from vlalign.errors import VlalignError
from vlalign.files import check_writable
from vlalign.params.sources import FetchedSource
from vlalign.records import stamp, write_record
from vlalign.redact import Redaction, address, redacted

logger = logging.getLogger(__name__)
# The library's messages name addresses.
for module in ("file_download", "utils._http"):
    logging.getLogger(f"huggingface_hub.{module}").addFilter(Redaction())

RECORD, INCOMING = "shards.json", ".incoming"
LISTING_SECONDS = 600.0
# How often a file is asked for, and the pause after the first time in seconds, which doubles.
ATTEMPTS, FIRST_PAUSE = 6, 1.0


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere, and what it must hold.

    path: where it is put below `.incoming`; its last part is the file's name here. digest: SHA-256 in hexadecimal, or,
    of a file that the hub keeps in git, git's SHA-1 of the blob. size: in bytes; None where it is not known.
    """

    path: str
    url: str
    digest: str
    size: int | None = None

    @property
    def name(self) -> str:
        """Its name here."""
        return self.path.rpartition("/")[2]

    @property
    def shown(self) -> str:
        """The address as it may stand in a message."""
        return address(self.url)

    def is_at(self, path: Path) -> bool:
        """Whether a file here is there and right; raises OSError when it cannot be read."""
        if not path.is_file() or self.size not in (None, path.stat().st_size):
            return False
        start = hashlib.sha256() if len(self.digest) == 64 else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
        with open(path, "rb") as stream:
            return hashlib.file_digest(stream, lambda: start).hexdigest() == self.digest


@dataclasses.dataclass(frozen=True)
class RemoteFiles:
    """Shards in order, and further files. commit: of the hub's repository; None elsewhere."""

    shards: tuple[RemoteFile, ...]
    extras: tuple[RemoteFile, ...] = ()
    commit: str | None = None


def fetch(source: FetchedSource, directory: str | Path, *, extras: Sequence[str] = (), key: str = "source") -> None:
    """Bring every shard of `source` into `directory` under its base name, then write `shards.json` beside them.

    The JSON holds the shards in order with bytes and SHA-256, what was asked for with the hub's commit, and the names
    of the `extras`: further files of the hub's repository, by their path in it, which are fetched where they exist.
    Files that are there and right are kept. key: the source's params key, for messages.

    Raises VlalignError when the source lacks what is asked for, does not give it or gives wrong bytes, when the disk is
    full, and when another process fetches into the folder.
    """
    directory = Path(directory)
    check_writable(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with _locked(directory), _disk_errors(directory):
        files = _listed(source, extras, key)
        _check_names((*files.shards, *files.extras), source.at(key))
        with ThreadPool(source.connections) as pool:
            right = pool.map(lambda file: file.is_at(directory / file.name), (*files.shards, *files.extras), 1)
        missing = [file for file, there in zip((*files.shards, *files.extras), right, strict=True) if not there]
        if missing:
            _make_room(directory, missing)
            _bring(source, missing, directory, key)
        shutil.rmtree(directory / INCOMING, ignore_errors=True)
        asked = source.shown() | ({"commit": files.commit} if files.commit else {})
        shards = [{"name": file.name, **_stamp(directory / file.name, file)} for file in files.shards]
        named = [file.name for file in files.extras]
        write_record(directory / RECORD, {"shards": shards, "source": asked, "extras": named})


def _stamp(path: Path, file: RemoteFile) -> dict[str, int | str]:
    """Size and SHA-256 of a file that is right."""
    return {"bytes": path.stat().st_size, "sha256": file.digest} if len(file.digest) == 64 else stamp(path)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Two processes must not write one file."""
    try:
        with FileLock(directory / ".lock", timeout=0):
            yield
    except Timeout:
        raise VlalignError(f"another process is fetching into {directory}; wait until it has ended") from None


@contextlib.contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise VlalignError(
            f"{directory} cannot be read or written ({error}); make room or give another folder, and run again: what "
            "has arrived is kept"
        ) from error


def _listed(source: FetchedSource, extras: Sequence[str], key: str) -> RemoteFiles:
    with ThreadPool(1) as pool:
        try:
            # The hub's library sets no limit of time for lists.
            return pool.apply_async(source.remote_files, (extras,), {"key": key}).get(LISTING_SECONDS)
        except multiprocessing.TimeoutError:
            raise VlalignError(
                f"{source.at(key)}: its files could not be listed within {LISTING_SECONDS:g} s; check the network and "
                "run again"
            ) from None


def _check_names(files: Iterable[RemoteFile], at: str) -> None:
    first: dict[str, RemoteFile] = {}
    for file in files:
        hidden = any(not part or part.startswith(".") or "\0" in part for part in file.path.split("/"))
        if hidden or file.name in (RECORD, "manifest.json"):
            raise VlalignError(f"{at}: {file.shown} cannot be stored as {file.name!r}; leave it out")
        if first.setdefault(file.name, file) is not file:
            raise VlalignError(
                f"{at}: {first[file.name].shown} and {file.shown} would both be stored as {file.name}; give each "
                "folder a source of its own"
            )


def _make_room(directory: Path, missing: Sequence[RemoteFile]) -> None:
    """Remove what is to be replaced; raises VlalignError when the disk has no room for what is missing."""
    for name in (RECORD, *(file.name for file in missing)):
        (directory / name).unlink(missing_ok=True)
    here = sum(path.stat().st_size for path in (directory / INCOMING).rglob("*") if path.is_file())
    needed = sum(file.size or 0 for file in missing) - here
    if needed > (free := shutil.disk_usage(directory).free):
        raise VlalignError(
            f"{directory} needs {needed / 1e9:.1f} GB more for {len(missing)} files and its disk has {free / 1e9:.1f} "
            "GB free; make room or give another folder"
        )


def _bring(source: FetchedSource, missing: list[RemoteFile], directory: Path, key: str) -> None:
    """Download until every file is right and has its name."""
    for attempt in range(ATTEMPTS):
        reason = _attempt(source, missing, directory / INCOMING, key)
        missing = [file for file in missing if not _settled(file, directory, whole=not reason)]
        if not missing:
            return
        pause = FIRST_PAUSE * 2**attempt
        logger.warning("%s %s; another attempt in %.0f s", missing[0].shown, reason or "brought wrong bytes", pause)
        time.sleep(pause)
    wrong = f"brought wrong bytes, their hash is not {missing[0].digest}"
    raise VlalignError(
        f"{source.at(key)}: {missing[0].shown} {reason or wrong}, {ATTEMPTS} times; what has arrived is kept: check "
        "the network, the address and the hash, and run again"
    )


def _attempt(source: FetchedSource, missing: Sequence[RemoteFile], incoming: Path, key: str) -> str:
    """Download; an empty text, or what went wrong that may go well another time."""
    try:
        source.download(missing, incoming)
    except (RequestError, OSError) as error:
        response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        if response is not None:
            status = response.status_code
            if status not in (408, 425, 429) and status < 500:
                raise VlalignError(source.refusal(str(address(str(response.url))), status, key=key)) from error
            return f"answers {status}"
        lasting = isinstance(error, UnsupportedProtocol) or not isinstance(error, TransportError)
        if isinstance(error, RequestError) and lasting:
            raise VlalignError(f"{source.at(key)} cannot be fetched ({error}); correct the address") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise
        return f"broke off ({redacted(str(error))})"
    return ""


def _settled(file: RemoteFile, directory: Path, *, whole: bool) -> bool:
    """Give a file its name if it is right; remove it if it is wrong although it is whole."""
    path = directory / INCOMING / file.path
    if right := file.is_at(path):
        os.replace(path, directory / file.name)
    elif whole:
        path.unlink(missing_ok=True)
    return right
