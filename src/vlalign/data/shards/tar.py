"""WebDataset shards, as img2dataset writes them and CLIP_benchmark reads them: tar files whose members share a key."""

import io
import itertools
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from vlalign.data.samples import Sample
from vlalign.errors import VlalignError
from vlalign.files import atomic_write

Item = TypeVar("Item")
# As WebDataset cuts names: the key may hold folders, the suffix starts at the first dot of the file's own name.
NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)")
BLOCK = tarfile.BLOCKSIZE


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items; the last may be shorter."""
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> None:
    """Write members as (name, content), without times and owners: equal members give equal bytes."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def write_shard(path: Path, samples: Iterable[Sample]) -> None:
    """Write one shard."""
    members = ((f"{one.key}.{suffix}", content) for one in samples for suffix, content in one.members().items())
    with atomic_write(path) as temporary:
        write_tar(temporary, members)


@dataclass
class Group:
    """The consecutive members of one key: where each one's content lies, and the bytes that all of them take."""

    key: str
    start: int
    end: int
    files: dict[str, tuple[int, int]] = field(default_factory=dict)


class _Member(tarfile.TarInfo):
    """A header whose size is one: with a negative size Python's tarfile goes back, and round for ever."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        """See tarfile.TarInfo."""
        member = super().frombuf(buf, encoding, errors)
        _check_size(member)
        return member


def _check_size(member: tarfile.TarInfo) -> None:
    if member.size < 0:
        raise tarfile.ReadError(f"{member.name!a} says that it has {member.size} bytes")


def groups(path: Path) -> Iterator[Group]:
    """The samples of a tar file in their order, by their members' names alone: nothing is decoded or extracted.

    Suffixes are in lower case. A member that is no plain file, or has no suffix, is a group without files; folders are
    passed over.
    Raises VlalignError when the file is missing, is no tar file, is compressed, or ends before its end.
    """
    try:
        with tarfile.open(path, "r:", tarinfo=_Member) as tar:
            yield from _groups(tar)
            _check_end(path, tar.offset)
    except FileNotFoundError:
        raise VlalignError(f"{path} does not exist; it is named in the manifest or list of shards beside it") from None
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise VlalignError(
            f"{path} is not a readable tar file ({error}); shards are tar files without compression: make it again, or "
            "delete it and run the workflow again if that has downloaded or packed it"
        ) from None


def _groups(tar: tarfile.TarFile) -> Iterator[Group]:
    group: Group | None = None
    for member in tar:
        # Extended headers bring sizes of their own.
        _check_size(member)
        if member.isdir():
            continue
        plain = member.isfile() and not member.issparse()
        name = NAME.fullmatch(member.name) if plain else None
        key, end = name[1] if name else member.name, member.offset_data + -(-member.size // BLOCK) * BLOCK
        if group is None or group.key != key:
            if group is not None:
                yield group
            group = Group(key, member.offset, end)
        group.end = end
        if name:
            group.files.setdefault(name[2].lower(), (member.offset_data, member.size))
    if group is not None:
        yield group


def _check_end(path: Path, offset: int) -> None:
    """Python's tarfile takes a damaged header in the middle, and a file that was cut between members, for the end."""
    with open(path, "rb") as stream:
        stream.seek(offset)
        mark = stream.read(BLOCK)
        if len(mark) < BLOCK:
            raise tarfile.ReadError(f"it is cut off after {offset} bytes")
        while mark:
            if mark.strip(b"\0"):
                raise tarfile.ReadError(f"there is something else than a sample behind byte {offset}")
            mark = stream.read(1 << 20)
