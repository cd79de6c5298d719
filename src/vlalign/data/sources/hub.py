"""Shards of the Hugging Face hub."""

import fnmatch
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vlalign.data.packing.image_lists import expand_braces
from vlalign.errors import VlalignError
from vlalign.hub import Repository, endpoint
from vlalign.params.base import REPOSITORY
from vlalign.params.sources import FetchedSource, Names

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

    from vlalign.data.shards.fetch import RemoteFile, RemoteFiles

NAMED = 3


class HubSource(FetchedSource):
    """WebDataset shards in a dataset repository of the Hugging Face hub."""

    source: Literal["hub"]
    repository: str = Field(pattern=REPOSITORY, description="Owner and name, such as pixparse/cc12m-wds")
    shards: Names = Field(description="Names with braces and wildcards, such as cc12m-train-{0000..2175}.tar")
    revision: str = Field(default="main", description="Branch, tag or commit; a commit pins the data")

    def at(self, key: str) -> str:
        """See FetchedSource."""
        return self._repository(key).at

    def remote_files(self, extras: Sequence[str], *, key: str) -> "RemoteFiles":
        """See FetchedSource; all at one commit."""
        from httpx2 import HTTPError

        from vlalign.data.shards.fetch import RemoteFiles

        repository = self._repository(key)
        try:
            commit = repository.commit()
            found = {path: self._file(entry, commit) for path, entry in repository.files(commit).items()}
        except (HTTPError, OSError, ValueError, KeyError, TypeError) as error:
            raise repository.unlisted(error) from error
        shards = tuple(found[path] for path in self._chosen(found, key))
        return RemoteFiles(shards, tuple(found[path] for path in extras if path in found), commit)

    def is_offline(self) -> bool:
        """See FetchedSource; HF_HUB_OFFLINE says so."""
        from huggingface_hub import is_offline_mode

        return is_offline_mode()

    def login(self, url: str) -> dict[str, str]:
        """See FetchedSource."""
        from huggingface_hub.utils import build_hf_headers

        return build_hf_headers(library_name="vlalign")

    def refusal(self, url: str, status: int, *, key: str) -> str:
        """See FetchedSource."""
        if status in (401, 403):
            return self._repository(key).forbidden(f"{url} answers {status}")
        return (
            f"{self.at(key)}: the hub answers {status} for {url}, which it lists; give another {key}.revision or run "
            "again later"
        )

    def _repository(self, key: str) -> Repository:
        return Repository(self.repository, self.revision, "dataset", key)

    def _file(self, entry: "RepoFile", commit: str) -> "RemoteFile":
        from huggingface_hub import hf_hub_url

        from vlalign.data.shards.fetch import RemoteFile

        url = hf_hub_url(self.repository, entry.path, repo_type="dataset", revision=commit, endpoint=endpoint())
        return RemoteFile(entry.path, url, entry.lfs.sha256 if entry.lfs else entry.blob_id, entry.size)

    def _chosen(self, paths: Iterable[str], key: str) -> list[str]:
        paths = sorted(paths)
        names = [name for pattern in self.shards for name in expand_braces(pattern, key=f"{key}.shards")]
        found = {name: [name] if name in paths else fnmatch.filter(paths, name) for name in names}
        if missing := [name for name in found if not found[name]]:
            near = get_close_matches(missing[0], paths, n=NAMED, cutoff=0)
            raise VlalignError(
                f"{self.at(key)} has no file for {len(missing)} of the names in {key}.shards, first "
                f"{', '.join(missing[:NAMED])}; the nearest that it has: {', '.join(near) or 'none, it is empty'}"
            )
        return list(dict.fromkeys(path for name in found for path in found[name]))
