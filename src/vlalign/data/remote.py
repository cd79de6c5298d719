"""Files that are elsewhere: what they are called here, and what they must hold."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from vlalign.redact import address


@dataclass(frozen=True)
class RemoteFile:
    """A file elsewhere, its name here, and what it must hold.

    digest: SHA-256 in hexadecimal, or, of a file that the hub keeps in git, git's SHA-1 of the blob. size: in bytes;
    None where it is not known.
    """

    name: str
    url: str
    digest: str
    size: int | None = None

    @property
    def shown(self) -> str:
        """The address as it may stand in a message."""
        return address(self.url)

    @property
    def part(self) -> str:
        """Name of the partial file: it carries the hash, so that no other version is put behind its bytes."""
        return f".{self.name}.{self.digest[:16]}.part"


@dataclass(frozen=True)
class Listing:
    """What is to be fetched, in order. commit: of the hub's repository; None elsewhere."""

    shards: tuple[RemoteFile, ...]
    extras: tuple[RemoteFile, ...] = ()
    commit: str | None = None

    @property
    def files(self) -> tuple[RemoteFile, ...]:
        """All of it."""
        return self.shards + self.extras


def digest(path: Path, *, like: str) -> str:
    """Hash of a file, of the kind of `like`, as `RemoteFile.digest` has it."""
    start = hashlib.sha256() if len(like) == 64 else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, lambda: start).hexdigest()
