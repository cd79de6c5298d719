"""Bring the shards of a source on the hub or at plain addresses to this disk, verified, and go on where a run ended."""

import contextlib
import itertools
import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path, PurePosixPath
from typing import Protocol
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from vlalign.console import console
from vlalign.data.holdings import EXPECTED, FETCHED, Holdings
from vlalign.data.remote import Listing, RemoteFile
from vlalign.data.sources.urls import UrlSource
from vlalign.data.transfer import Transfers
from vlalign.errors import VlalignError
from vlalign.files import check_writable
from vlalign.params.sources import FetchedSource

RESERVED = (FETCHED, "manifest.json")
LISTING_SECONDS = 600.0


def fetch(source: FetchedSource, directory: str | Path, *, extras: Sequence[str] = (), key: str = "source") -> None:
    """Bring every shard of `source` into `directory` under its base name, then write `shards.json` beside them.

    The JSON holds the shards in order with bytes and SHA-256, what was asked for with the hub's commit, and the names
    of the `extras`: further files of the hub's repository, by their path in it, which are fetched where they exist.
    Files that are there and right are kept, partial ones are continued. key: the source's params key, for messages.

    Raises VlalignError when the source lacks what is asked for, does not give it or gives wrong bytes, when the disk is
    full, when another process fetches into the folder, and when HF_HUB_OFFLINE is set and something is missing.
    """
    directory = Path(directory)
    check_writable(directory)
    directory.mkdir(parents=True, exist_ok=True)
    origin = source.origin(key=key)
    asked = {"source": source.shown(), "extras": list(extras)}
    holdings = Holdings(directory, asked)
    with _locked(directory), _threads(source.connections) as (pool, ended):
        listing = holdings.recorded() if origin.offline else _listed(pool, origin, extras)
        if listing is None:
            raise _offline(directory, origin, "nothing of it was fetched there")
        _check_names(listing, origin)
        missing = holdings.missing(pool, listing)
        if missing and origin.offline:
            raise _offline(directory, origin, f"{len(missing)} files are missing, first {missing[0].name}")
        if missing:
            holdings.prepare(listing, missing)
            with _progress(listing.files, missing) as (advance, count):
                transfers = Transfers(
                    directory, headers=origin.headers, explain=origin.explain, advance=advance, ended=ended
                )
                _bring(pool, transfers, missing, count)
        holdings.finish(listing)


def _bring(pool: ThreadPool, transfers: Transfers, missing: Sequence[RemoteFile], count: Callable[[], None]) -> None:
    try:
        for _ in pool.imap_unordered(transfers.bring, missing):
            count()
    except Exception:
        # Whoever catches this may look into the folder: nothing may be written there any more.
        transfers.ended.set()
        pool.close()
        pool.join()
        raise


class Origin(Protocol):
    """Where files lie that are to be fetched."""

    headers: dict[str, str]

    @property
    def at(self) -> str:
        """The params key and what stands there, for messages."""

    @property
    def offline(self) -> bool:
        """Whether nothing may be fetched."""

    def listing(self, extras: Sequence[str]) -> Listing:
        """The files in order, and those of the extras that there are."""

    def explain(self, file: RemoteFile, status: int) -> str:
        """What to tell the user when a server answers with this status in place of a file."""


class UrlFiles:
    """Files at plain addresses; the counterpart of HubRepository."""

    offline = False

    def __init__(self, source: UrlSource, *, key: str) -> None:
        self.source = source
        self.at = f"{key}.files"
        self.headers: dict[str, str] = {}

    def listing(self, extras: Sequence[str]) -> Listing:
        """The files in order. There are no extras: nobody can say what lies beside a file."""
        return Listing(tuple(RemoteFile(_base_name(file.url), file.url, file.sha256) for file in self.source.files))

    def explain(self, file: RemoteFile, status: int) -> str:
        """What to tell the user when a server answers with this status in place of a file."""
        return f"{self.at}: {file.shown} answers {status}; correct the address, or give one that needs no login"


def _base_name(url: str) -> str:
    return PurePosixPath(unquote(urlsplit(url).path)).name


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Two processes must not write one partial file."""
    try:
        with FileLock(directory / ".lock", timeout=0):
            yield
    except Timeout:
        raise VlalignError(f"another process is fetching into {directory}; wait until it has ended") from None


@contextlib.contextmanager
def _threads(count: int) -> Iterator[tuple[ThreadPool, threading.Event]]:
    """A pool, and the event that ends its work. Its threads are daemons: Ctrl-C does not wait for a silent server."""
    ended = threading.Event()
    with ThreadPool(count) as pool:
        try:
            yield pool, ended
        finally:
            ended.set()


def _listed(pool: ThreadPool, origin: Origin, extras: Sequence[str]) -> Listing:
    try:
        # The hub's library sets no limit of time for lists.
        return pool.apply_async(origin.listing, (extras,)).get(LISTING_SECONDS)
    except multiprocessing.TimeoutError:
        raise VlalignError(
            f"{origin.at}: its files could not be listed within {LISTING_SECONDS:g} s; check the network and run again"
        ) from None


def _offline(directory: Path, origin: Origin, reason: str) -> VlalignError:
    return VlalignError(
        f"{origin.at}: HF_HUB_OFFLINE is set and {directory} does not hold all of it ({reason}); unset it, or copy the "
        f"folder with its {EXPECTED} from a machine that has it"
    )


def _check_names(listing: Listing, origin: Origin) -> None:
    files: dict[str, RemoteFile] = {}
    for file in listing.files:
        if not file.name or file.name.startswith(".") or "\0" in file.name or file.name in RESERVED:
            raise VlalignError(f"{origin.at}: {file.shown} cannot be stored as {file.name!r}; leave it out")
        if file.name in files:
            raise VlalignError(
                f"{origin.at}: {files[file.name].shown} and {file.shown} would both be stored as {file.name}; "
                "give each folder a source of its own"
            )
        files[file.name] = file


@contextlib.contextmanager
def _progress(
    files: Sequence[RemoteFile], missing: Sequence[RemoteFile]
) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """A bar on the terminal, nothing elsewhere; yields what advances it by some bytes, and by a file."""
    text = TextColumn("fetching: {task.fields[done]} of {task.fields[files]} files")
    columns = (text, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    there = len(files) - len(missing)
    bytes_there = sum(file.size or 0 for file in files) - sum(file.size or 0 for file in missing)
    total = None if any(file.size is None for file in files) else sum(file.size or 0 for file in files)
    done = itertools.count(there + 1)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total, completed=bytes_there, done=there, files=len(files))
        yield partial(progress.advance, task), lambda: progress.update(task, done=next(done))
