"""Which files of a dataset repository of the Hugging Face hub are wanted, at one commit, and what they must hold."""

import difflib
import fnmatch
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from braceexpand import braceexpand
from tenacity import retry, retry_if_exception, stop_after_attempt, wait_exception, wait_exponential

from vlalign.data.remote import Listing, RemoteFile
from vlalign.data.sources.hub import HubSource
from vlalign.data.transfer import ATTEMPTS, FIRST_PAUSE, LONGEST_PAUSE, TIMEOUT, asked_pause
from vlalign.errors import VlalignError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

NAMED = 3


class HubRepository:
    """One dataset repository, reached as HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE say.

    key: the params key that the source stands under, for messages.
    """

    def __init__(self, source: HubSource, *, key: str) -> None:
        from huggingface_hub import HfApi, constants
        from huggingface_hub.utils import build_hf_headers

        endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        self.source, self.key = source, key
        self.api = HfApi(endpoint=endpoint, library_name="vlalign")
        self.headers: dict[str, str] = build_hf_headers(library_name="vlalign")

    @property
    def offline(self) -> bool:
        """Whether HF_HUB_OFFLINE forbids to ask the hub."""
        from huggingface_hub import is_offline_mode

        return is_offline_mode()

    def listing(self, extras: Sequence[str]) -> Listing:
        """Shards in the order of the patterns, and those of `extras` that the repository has, all at one commit.

        Raises VlalignError when the hub cannot be reached or does not let the user read the repository, when it lacks
        the revision or a shard, and when a pattern matches nothing.
        """
        from httpx2 import HTTPError

        try:
            commit = self._commit()
            tree = self._tree(commit)
        except (HTTPError, OSError, ValueError, KeyError, TypeError) as error:
            self._refuse(error)
        shards = tuple(self._file(tree[path], commit) for path in self._chosen(tree))
        return Listing(shards, tuple(self._file(tree[path], commit) for path in extras if path in tree), commit)

    def explain(self, file: RemoteFile, status: int) -> str:
        """What to tell the user when the hub answers with this status in place of a file."""
        if status in (401, 403):
            return self._forbidden(f"{file.shown} answers {status}")
        return (
            f"{self.at}: the hub answers {status} for {file.name}, which it lists ({file.shown}); "
            f"give another {self.key}.revision or run again later"
        )

    @property
    def at(self) -> str:
        """The params key and what stands there, for messages."""
        return f"{self.key}: dataset repository {self.source.repository} at {self.source.revision}"

    def _forbidden(self, reason: str) -> str:
        return (
            f"{self.at}: the hub does not let you read it ({reason}). If the name is right, it is private or asks for "
            f"a licence to be accepted: do so at {self.api.endpoint}/datasets/{self.source.repository}, then run "
            "`hf auth login` or set HF_TOKEN"
        )

    def _commit(self) -> str:
        ask = retry(
            retry=retry_if_exception(_may_pass),
            wait=wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE) + wait_exception(_asked_pause),
            stop=stop_after_attempt(ATTEMPTS),
            reraise=True,
        )(self.api.dataset_info)
        info = ask(self.source.repository, revision=self.source.revision, expand=["sha"], timeout=max(TIMEOUT))
        if not info.sha:
            raise ValueError("it has no commit")
        return info.sha

    def _tree(self, commit: str) -> "dict[str, RepoFile]":
        """Path -> entry. The list that comes with `dataset_info` is cut in large repositories; this one has pages."""
        from huggingface_hub.hf_api import RepoFile

        entries = self.api.list_repo_tree(self.source.repository, recursive=True, revision=commit, repo_type="dataset")
        return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}

    def _chosen(self, paths: Mapping[str, Any]) -> list[str]:
        chosen: dict[str, None] = {}
        missing = []
        for name in self._names():
            found = [name] if name in paths else sorted(fnmatch.filter(paths, name))
            chosen |= dict.fromkeys(found)
            if not found:
                missing.append(name)
        if missing:
            near = difflib.get_close_matches(missing[0], paths, n=NAMED, cutoff=0)
            raise VlalignError(
                f"{self.at} has no file for {len(missing)} of the names in {self.key}.shards, first "
                f"{', '.join(missing[:NAMED])}; the nearest that it has: {', '.join(near) or 'none, it is empty'}"
            )
        return list(chosen)

    def _names(self) -> Iterable[str]:
        for pattern in self.source.shards:
            try:
                yield from braceexpand(pattern)
            except ValueError:
                raise VlalignError(f"{self.key}.shards: the braces of {pattern} do not pair up") from None

    def _file(self, entry: "RepoFile", commit: str) -> RemoteFile:
        from huggingface_hub import hf_hub_url

        url = hf_hub_url(
            self.source.repository, entry.path, repo_type="dataset", revision=commit, endpoint=self.api.endpoint
        )
        name = entry.path.rpartition("/")[2]
        return RemoteFile(name, url, entry.lfs.sha256 if entry.lfs else entry.blob_id, entry.size)

    def _refuse(self, error: Exception) -> NoReturn:
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        status, reason = _status(error), str(error).partition("\n")[0]
        if isinstance(error, RevisionNotFoundError):
            message = f"{self.at}: there is no such branch, tag or commit; correct {self.key}.revision"
        elif isinstance(error, RepositoryNotFoundError) or status in (401, 403, 404):
            message = self._forbidden(f"its list of files answers {status}")
        else:
            message = (
                f"{self.at}: the hub at {self.api.endpoint} does not list its files ({reason}); check the name, the "
                "network and HF_ENDPOINT, and run again"
            )
        raise VlalignError(message) from error


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _asked_pause(error: BaseException) -> float:
    response = getattr(error, "response", None)
    return asked_pause(response.status_code, response.headers) if response is not None else 0.0


def _may_pass(error: BaseException) -> bool:
    """Whether another attempt may do better."""
    from httpx2 import TransportError

    status = _status(error)
    return isinstance(error, TransportError) or status in (408, 429) or (status is not None and status >= 500)
