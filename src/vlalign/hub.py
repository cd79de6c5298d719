"""Repositories of the Hugging Face hub: where they are, what they hold, and what to do where the hub refuses them."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from vlalign.errors import VlalignError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

TIMEOUT = 30.0
RETRIES = 5
# Hubs that could not be reached in this process: of many repositories, only the first waits for one to come back.
_silent: set[str] = set()


@dataclass(frozen=True)
class Repository:
    """A repository at one of its branches, tags or commits. key: where params name it, for messages."""

    name: str
    revision: str
    kind: Literal["dataset", "model"]
    key: str

    @property
    def at(self) -> str:
        """How messages begin."""
        return f"{self.key}: {self.kind} repository {self.name} at {self.revision}"

    @property
    def page(self) -> str:
        """Where a person reads about it."""
        return f"{endpoint()}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"

    def commit(self) -> str:
        """The commit that the revision means today; raises what huggingface_hub and its HTTP client raise."""
        from httpx2 import TransportError
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, http_backoff

        # As HfApi.repo_info, which does not try again.
        hub = endpoint()
        url = f"{hub}/api/{self.kind}s/{self.name}/revision/{quote(self.revision, safe='')}"
        headers, retries = build_hf_headers(library_name="vlalign"), 0 if hub in _silent else RETRIES
        try:
            response = http_backoff(
                "GET", url, params={"expand": "sha"}, headers=headers, timeout=TIMEOUT, max_retries=retries
            )
        except TransportError:
            _silent.add(hub)
            raise
        _silent.discard(hub)
        hf_raise_for_status(response)
        return str(response.json()["sha"])

    def files(self, commit: str) -> dict[str, "RepoFile"]:
        """All files of a commit by path; raises as `commit` does."""
        from huggingface_hub import HfApi
        from huggingface_hub.hf_api import RepoFile

        api = HfApi(endpoint=endpoint(), library_name="vlalign")
        tree = api.list_repo_tree(self.name, recursive=True, revision=commit, repo_type=self.kind)
        return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}

    def forbidden(self, reason: str) -> str:
        """Of a repository that may not be read, or is not there: the hub does not say which."""
        return (
            f"{self.at}: the hub does not let you read it ({reason}). If the name is right, it is private or asks "
            f"for a licence to be accepted: do so at {self.page}, then run `hf auth login` or set HF_TOKEN"
        )

    def unlisted(self, error: Exception) -> VlalignError:
        """What stands behind an error of `commit` or `files`, and what to do."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        status = getattr(getattr(error, "response", None), "status_code", None)
        if isinstance(error, RevisionNotFoundError):
            return VlalignError(f"{self.at}: there is no such branch, tag or commit; correct {self.key}.revision")
        if isinstance(error, RepositoryNotFoundError) or status in (401, 403, 404):
            return VlalignError(self.forbidden(f"its list of files answers {status}"))
        reason = str(error).partition("\n")[0]
        return VlalignError(
            f"{self.at}: the hub at {endpoint()} does not list its files ({reason}); check the name, the network "
            "and HF_ENDPOINT, and run again"
        )


def endpoint() -> str:
    """The hub's address."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
