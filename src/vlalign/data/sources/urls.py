"""Shards at plain addresses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator

from vlalign.params.base import Strict
from vlalign.params.sources import FetchedSource
from vlalign.redact import address

if TYPE_CHECKING:
    from vlalign.data.shards.fetch import RemoteFiles

# How variables of the environment are called that hold addresses with secrets, so that no message shows them.
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

    def at(self, key: str) -> str:
        """See FetchedSource."""
        return f"{key}.files"

    def remote_files(self, extras: Sequence[str], *, key: str) -> "RemoteFiles":
        """See FetchedSource. There are no extras: nobody can say what lies beside a file."""
        from vlalign.data.shards.fetch import RemoteFile, RemoteFiles

        names = (unquote(urlsplit(file.url).path).rpartition("/")[2] for file in self.files)
        files = (RemoteFile(name, file.url, file.sha256) for name, file in zip(names, self.files, strict=True))
        return RemoteFiles(tuple(files))

    def login(self, url: str) -> dict[str, str]:
        """See FetchedSource; it comes from the address, or from the user's .netrc."""
        from requests import Request, Session

        login = Session().prepare_request(Request("GET", url)).headers.get("Authorization")
        return {"Authorization": str(login)} if login else {}
