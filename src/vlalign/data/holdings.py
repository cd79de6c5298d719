"""What a folder of fetched files holds, and what of a listing it still lacks.

`.expected.json` lists what the folder is to hold: a file that is named there is right whenever it is there, so a run
that was killed need not hash it again. `shards.json` appears when all of it is there.
"""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from vlalign.data.remote import Listing, RemoteFile, digest
from vlalign.errors import VlalignError
from vlalign.records import read_record, stamp, write_record
from vlalign.redact import address

FETCHED = "shards.json"
EXPECTED = ".expected.json"


class Holdings:
    """One folder. asked: plain values that say what is to be there, as the params put it."""

    def __init__(self, directory: Path, asked: Mapping[str, Any]) -> None:
        self.directory = directory
        self.asked = asked

    def recorded(self) -> Listing | None:
        """What an earlier run found that the same request means; None if there was none."""
        record = self._record()
        return _listing(record) if record is not None and record["asked"] == self.asked else None

    def missing(self, pool: ThreadPool, listing: Listing) -> list[RemoteFile]:
        """Files of the listing that are not here, or not right. Those that no earlier run vouches for are hashed.

        Raises VlalignError when one cannot be read.
        """
        record = self._record()
        vouched = {file.name: file for file in _listing(record).files} if record is not None else {}
        try:
            right = pool.map(partial(self._is_right, vouched), listing.files, chunksize=1)
        except OSError as error:
            raise VlalignError(f"{self.directory} cannot be read ({error}); mend it or give another folder") from error
        return [file for file, is_right in zip(listing.files, right, strict=True) if not is_right]

    def prepare(self, listing: Listing, missing: Sequence[RemoteFile]) -> None:
        """Remove what the new listing contradicts, and only then write it; partial files of other versions go as well.

        Raises VlalignError when the disk has no room for what is missing.
        """
        (self.directory / FETCHED).unlink(missing_ok=True)
        parts = {self.directory / file.part for file in missing}
        stale = {self.directory / file.name for file in missing} | set(self.directory.glob(".*.part")).difference(parts)
        for path in stale:
            path.unlink(missing_ok=True)
        needed = sum(file.size or 0 for file in missing) - sum(path.stat().st_size for path in parts if path.exists())
        if needed > (free := shutil.disk_usage(self.directory).free):
            raise VlalignError(
                f"{self.directory} needs {needed / 1e9:.1f} GB more for {len(missing)} files and its disk has "
                f"{free / 1e9:.1f} GB free; make room or give another folder"
            )
        self._expect(listing)

    def finish(self, listing: Listing) -> None:
        """Write `shards.json`, now that all is here."""
        sized = Listing(
            tuple(map(self._sized, listing.shards)), tuple(map(self._sized, listing.extras)), listing.commit
        )
        self._expect(sized)
        source = self.asked["source"] | ({"commit": sized.commit} if sized.commit else {})
        shards = [{"name": file.name, "bytes": file.size, "sha256": self._sha256(file)} for file in sized.shards]
        extras = [file.name for file in sized.extras]
        write_record(self.directory / FETCHED, {"shards": shards, "source": source, "extras": extras})

    def _record(self) -> dict[str, Any] | None:
        path = self.directory / EXPECTED
        return read_record(path) if path.exists() else None

    def _expect(self, listing: Listing) -> None:
        content = {"asked": self.asked, **dataclasses.asdict(listing)}
        for file in (*content["shards"], *content["extras"]):
            file["url"] = address(file["url"])
        write_record(self.directory / EXPECTED, content)

    def _is_right(self, vouched: Mapping[str, RemoteFile], file: RemoteFile) -> bool:
        path, known = self.directory / file.name, vouched.get(file.name)
        if not path.is_file():
            return False
        same = known is not None and known.digest == file.digest
        size = known.size if known is not None and same and file.size is None else file.size
        if size is not None and path.stat().st_size != size:
            return False
        return same or digest(path, like=file.digest) == file.digest

    def _sized(self, file: RemoteFile) -> RemoteFile:
        return dataclasses.replace(file, size=(self.directory / file.name).stat().st_size)

    def _sha256(self, file: RemoteFile) -> str:
        return file.digest if len(file.digest) == 64 else stamp(self.directory / file.name)["sha256"]


def _listing(record: Mapping[str, Any]) -> Listing:
    shards, extras = (tuple(RemoteFile(**file) for file in record[part]) for part in ("shards", "extras"))
    return Listing(shards, extras, record["commit"])
