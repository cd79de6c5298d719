"""Shards at plain addresses."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from pydantic import Field, field_validator

from vlalign.errors import VlalignError
from vlalign.params.base import Strict
from vlalign.params.sources import FetchedSource
from vlalign.redact import address

if TYPE_CHECKING:
    from vlalign.data.fetch import RemoteFile, RemoteFiles

# How variables of the environment are called that carry addresses with secrets past all records.
ADDRESS = "VLALIGN_ADDRESS_"


class UrlFile(Strict):
    """One file and what it must hold."""

    url: str = Field(pattern=r"^(https?|file)://")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @field_validator("url")
    @classmethod
    def _can_be_read(cls, url: str) -> str:
        try:
            urlsplit(url)
        except ValueError:
            raise ValueError("this is no address") from None
        return url


class UrlSource(FetchedSource):
    """WebDataset shards at plain addresses."""

    source: Literal["urls"]
    files: tuple[UrlFile, ...] = Field(min_length=1)

    def shown(self) -> dict[str, Any]:
        """See Source; addresses come without their logins and signatures."""
        files = [{"url": address(file.url), "sha256": file.sha256} for file in self.files]
        return {"source": self.source, "files": files}

    def secrets(self) -> dict[str, str]:
        """See Source; for the addresses that hold any."""
        return {f"{ADDRESS}{file.sha256}": file.url for file in self.files if address(file.url) != file.url}

    def with_secrets(self) -> Self:
        """See Source."""
        files = [UrlFile(url=os.environ.get(f"{ADDRESS}{f.sha256}", f.url), sha256=f.sha256) for f in self.files]
        return self.model_copy(update={"files": tuple(files)})

    def at(self, key: str) -> str:
        """See FetchedSource."""
        return f"{key}.files"

    def remote_files(self, extras: Sequence[str], *, key: str) -> "RemoteFiles":
        """See FetchedSource. There are no extras: nobody can say what lies beside a file."""
        from vlalign.data.fetch import RemoteFile, RemoteFiles

        def remote(file: UrlFile) -> RemoteFile:
            # The hash keeps what has arrived of another version apart.
            name = unquote(urlsplit(file.url).path).rpartition("/")[2]
            return RemoteFile(f"{file.sha256}/{name}", file.url, file.sha256)

        return RemoteFiles(tuple(map(remote, self.files)))

    def download(self, files: "Sequence[RemoteFile]", folder: Path) -> None:
        """See FetchedSource."""
        from multiprocessing.pool import ThreadPool

        from vlalign.console import progress

        with progress("fetching", total=len(files)) as advance, ThreadPool(self.connections) as pool:
            for _ in pool.imap(lambda file: _continue(file.url, folder / file.path), files):
                advance(1)


def _continue(url: str, path: Path) -> None:
    """Download what a file lacks; a login comes from the address, or from the user's .netrc."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils.tqdm import silent_tqdm
    from requests import Request, Session

    path.parent.mkdir(parents=True, exist_ok=True)
    if urlsplit(url).scheme == "file":
        source = Path(url2pathname(urlsplit(url).path))
        if not source.is_file():
            raise VlalignError(f"{address(url)} does not exist on this machine; correct the address")
        shutil.copyfile(source, path)
        return
    headers = {"Accept-Encoding": "identity"}
    if login := Session().prepare_request(Request("GET", url)).headers.get("Authorization"):
        headers["Authorization"] = str(login)
    with open(path, "ab") as stream:
        try:
            http_get(url, stream, resume_size=stream.tell(), headers=headers, tqdm_class=silent_tqdm)
        except HfHubHTTPError as error:
            if error.response.status_code != 416:  # nothing is behind what is here
                raise
