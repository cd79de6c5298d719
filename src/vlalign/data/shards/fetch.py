"""Bring the shards of a source from elsewhere to this disk, and go on where a run ended.

huggingface_hub's `http_get` downloads into the folder `.incoming`; a file gets its name when its bytes are right, and
`shards.json` appears when all of them are there.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import logging
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from filelock import FileLock, Timeout
from httpx2 import Client, RequestError, Response, TransportError, UnsupportedProtocol
from huggingface_hub import set_client_factory
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import parse_ratelimit_headers
from huggingface_hub.utils._http import default_client_factory
from huggingface_hub.utils.tqdm import silent_tqdm
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from vlalign.console import console
from vlalign.errors import VlalignError
from vlalign.files import check_writable
from vlalign.params.sources import FetchedSource
from vlalign.records import read_record, stamp, stamps, write_record
from vlalign.redact import Redaction, address, redacted

logger = logging.getLogger(__name__)
# The library's messages name addresses.
for module in ("file_download", "utils._http"):
    logging.getLogger(f"huggingface_hub.{module}").addFilter(Redaction())

# HELD tells what was fetched where Snakemake has removed RECORD, the output of its rule.
RECORD, HELD, INCOMING = "shards.json", ".fetched.json", ".incoming"
LISTING_SECONDS = 600.0
# How often a file is asked for in vain, and the pause after the first time in seconds, which doubles.
ATTEMPTS, FIRST_PAUSE = 6, 1.0
# What a server may ask to wait; the hub counts requests over five minutes.
LONGEST_ASKED = 900


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere, and what it must hold.

    path: where it lies there; its last part is the file's name here. digest: SHA-256 in hexadecimal, or,
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
    full, when another process fetches into the folder, and when HF_HUB_OFFLINE is set and something is missing.
    """
    directory = Path(directory)
    check_writable(directory)
    directory.mkdir(parents=True, exist_ok=True)
    asked = {"source": source.shown(), "extras": list(extras)}
    with _locked(directory), _disk_errors(directory):
        if source.is_offline():
            write_record(directory / RECORD, _held(directory, asked, source.at(key)))
            return
        files = _listed(source, extras, key)
        every = (*files.shards, *files.extras)
        _check_names(every, source.at(key))
        with ThreadPool(source.connections) as pool:
            right = pool.map(lambda file: file.is_at(directory / file.name), every, 1)
        if missing := [file for file, there in zip(every, right, strict=True) if not there]:
            _make_room(directory, missing)
            _bring(source, missing, len(every), directory, key)
        shutil.rmtree(directory / INCOMING, ignore_errors=True)
        found = source.shown() | ({"commit": files.commit} if files.commit else {})
        shards = [{"name": file.name, **_stamp(directory / file.name, file)} for file in files.shards]
        named = [file.name for file in files.extras]
        record = {"shards": shards, "source": found, "extras": named}
        write_record(directory / HELD, {"asked": asked, "record": record, "extras": stamps(directory, named)})
        write_record(directory / RECORD, record)


def _held(directory: Path, asked: Mapping[str, Any], at: str) -> dict[str, Any]:
    """What an earlier run wrote of the same request, if all of it is here: offline nothing else can be known."""
    path = directory / HELD
    known = read_record(path) if path.exists() else {}
    if known.get("asked") != asked:
        raise _offline(directory, at, "nothing of it was fetched there")
    expected = {shard["name"]: shard["sha256"] for shard in known["record"]["shards"]}
    expected |= {name: extra["sha256"] for name, extra in known["extras"].items()}
    if missing := [name for name, one in expected.items() if not RemoteFile(name, "", one).is_at(directory / name)]:
        raise _offline(directory, at, f"{len(missing)} files are missing, first {missing[0]}")
    return dict(known["record"])


def _offline(directory: Path, at: str, reason: str) -> VlalignError:
    return VlalignError(
        f"{at}: HF_HUB_OFFLINE is set and {directory} does not hold all of it ({reason}); unset it, or copy the folder "
        f"with its {HELD} from a machine that has it"
    )


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


def _bring(source: FetchedSource, missing: list[RemoteFile], count: int, directory: Path, key: str) -> None:
    """Download until every one of the missing files, of so many, is right and has its name."""
    set_client_factory(_patient_client)
    ended = threading.Event()
    with _progress(missing, count) as (advance, tell), ThreadPool(source.connections) as pool:
        try:
            for _ in pool.imap_unordered(Transfer(source, directory, key, advance, ended), missing):
                tell()
        except Exception:
            # Whoever catches this may look into the folder: nothing may be written there any more.
            ended.set()
            pool.close()
            pool.join()
            raise
        finally:
            # The threads are daemons: Ctrl-C does not wait for a silent server.
            ended.set()


class UnwantedError(Exception):
    """What arrives is not wanted: another file has failed, or it is more than this file has."""


class Part:
    """A file that is being written: no further than its size, and not after the transfers have ended."""

    def __init__(
        self, stream: BinaryIO, size: int | None, *, advance: Callable[[int], None], ended: threading.Event
    ) -> None:
        self.stream, self.size, self.advance, self.ended = stream, size, advance, ended
        self.tell, self.seek = stream.tell, stream.seek

    def write(self, content: bytes) -> int:
        """Raises UnwantedError."""
        if self.ended.is_set() or (self.size is not None and self.tell() + len(content) > self.size):
            raise UnwantedError
        self.advance(len(content))
        return self.stream.write(content)

    def truncate(self) -> int:
        """What is behind the present place goes: a server has sent the file from its start."""
        self.advance(self.tell() - os.fstat(self.stream.fileno()).st_size)
        return self.stream.truncate()


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Brings one file after the other; what an earlier attempt or run has brought is continued.

    advance: told the bytes that arrive. ended: set when nothing more is to be written.
    """

    source: FetchedSource
    directory: Path
    key: str
    advance: Callable[[int], None]
    ended: threading.Event

    def __call__(self, file: RemoteFile) -> None:
        """Raises VlalignError when a file is refused, or stays away or wrong; attempts count while nothing arrives."""
        # What has arrived of another version is of no use.
        part, attempts, most = self.directory / INCOMING / file.digest / file.name, 0, 0
        part.parent.mkdir(parents=True, exist_ok=True)
        while not self.ended.is_set():
            reason = self._attempt(file, part)
            if not reason and file.is_at(part):
                os.replace(part, self.directory / file.name)
                return
            if not reason:
                self.advance(-part.stat().st_size)
                part.unlink()
            here = part.stat().st_size if part.exists() else 0
            attempts, most = (1, here) if here > most else (attempts + 1, most)
            reason = reason or f"brought wrong bytes, their hash is not {file.digest}"
            if attempts == ATTEMPTS:
                raise VlalignError(
                    f"{self.source.at(self.key)}: {file.shown} {reason}, {ATTEMPTS} times; what has arrived is kept: "
                    "check the network, the address and the hash, and run again"
                )
            pause = FIRST_PAUSE * 2 ** (attempts - 1)
            logger.warning("%s %s; another attempt in %.0f s", file.shown, reason, pause)
            self.ended.wait(pause)

    def _attempt(self, file: RemoteFile, part: Path) -> str:
        """Download; an empty text, or what went wrong that may go well another time."""
        try:
            with open(part, "ab") as stream:
                self._receive(file, Part(stream, file.size, advance=self.advance, ended=self.ended))
        except UnwantedError:
            return ""
        except (RequestError, OSError) as error:
            return self._passing(error)
        return ""

    def _receive(self, file: RemoteFile, part: Part) -> None:
        if file.url.startswith("file:"):
            part.seek(0)
            part.truncate()
            path = Path(url2pathname(urlsplit(file.url).path))
            if not path.is_file():
                raise VlalignError(f"{file.shown} does not exist on this machine; correct the address")
            with open(path, "rb") as stream:
                shutil.copyfileobj(stream, part)
            return
        headers = {"Accept-Encoding": "identity", **self.source.login(file.url)}
        try:
            http_get(file.url, cast(BinaryIO, part), resume_size=part.tell(), headers=headers, tqdm_class=silent_tqdm)
        except HfHubHTTPError as error:
            if error.response.status_code != 416:  # nothing is behind what is here
                raise

    def _passing(self, error: RequestError | OSError) -> str:
        """What went wrong, if it may go well another time; raises what a person must mend."""
        response = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
        if response is not None:
            status = response.status_code
            if status not in (408, 425, 429) and status < 500:
                refusal = self.source.refusal(address(str(response.url)), status, key=self.key)
                raise VlalignError(refusal) from error
            return f"answers {status}"
        lasting = isinstance(error, UnsupportedProtocol) or not isinstance(error, TransportError)
        if isinstance(error, RequestError) and lasting:
            raise VlalignError(
                f"{self.source.at(self.key)} cannot be fetched ({error}); correct the address"
            ) from error
        if isinstance(error, OSError) and error.errno is not None:
            raise error
        return f"broke off ({redacted(str(error))})"


def _patient_client() -> Client:
    """The library's own, which would wait for as long as any server asks."""
    client = default_client_factory()
    client.event_hooks = {**client.event_hooks, "response": [_refuse_long_pause]}
    return client


def _refuse_long_pause(response: Response) -> None:
    limit = parse_ratelimit_headers(response.headers)
    asked = response.headers.get("Retry-After", "")
    if limit is not None and limit.remaining == 0:
        pause = limit.reset_in_seconds
    else:
        pause = int(asked) if asked.isdecimal() else 0
    if response.status_code in (408, 429, 503) and pause > LONGEST_ASKED:
        raise VlalignError(
            f"{address(str(response.url))} answers {response.status_code} and asks to wait for {pause} s; run again "
            "after that"
        )


@contextlib.contextmanager
def _progress(missing: Sequence[RemoteFile], count: int) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """A bar on the terminal, nothing elsewhere; yields what advances it by some bytes, and by a file."""
    text = TextColumn("fetching: {task.fields[done]} of {task.fields[files]} files")
    columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    sizes = [file.size for file in missing]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    here = count - len(missing)
    done = itertools.count(here + 1)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, done=here, files=count)
        yield partial(progress.advance, task), lambda: progress.update(task, done=next(done))
