"""Models of the Hugging Face hub: the files that are needed of a repository, in the cache of huggingface_hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from httpx2 import HTTPError
from huggingface_hub import hf_hub_download, is_offline_mode
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from vlalign.errors import VlalignError
from vlalign.hub import Repository, endpoint
from vlalign.models.folders import CONFIG, read_config
from vlalign.models.weights import weights_among
from vlalign.records import stamp

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

# Of tokenizers and configs of transformers.
TEXT_FILES = (".json", ".txt", ".model")


def fetch(repository: Repository) -> Path:
    """The folder that has the config and the weights of a repository and, where its text tower is one of transformers,
    that one's files; the folder's name is the commit.

    With HF_HUB_OFFLINE what was fetched before suffices.
    Raises VlalignError when the repository cannot be read, lacks these files, or they arrive damaged.
    """
    try:
        folder = _download(repository, CONFIG, repository.revision).parent
        listed = _listed(repository, folder)
        weights = weights_among(listed, place=repository.at)
        if weights is None:
            raise VlalignError(f"{repository.at} has no weights, but {', '.join(sorted(listed))}; choose another")
        text = read_config(folder)["model_cfg"]["text_cfg"]
        names = [weights]
        if text.get("hf_model_name") or text.get("hf_tokenizer_name"):
            names += sorted(name for name in listed if Path(name).suffix in TEXT_FILES)
        for name in names:
            _check(repository, _download(repository, name, folder.name), listed[name])
    except EntryNotFoundError as error:
        raise _missing(repository, error) from error
    except (HTTPError, OSError, ValueError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise repository.unlisted(error) from error
    return folder


def _download(repository: Repository, name: str, revision: str) -> Path:
    path = hf_hub_download(
        repository.name, name, revision=revision, endpoint=endpoint(), library_name="vlalign", dry_run=False
    )
    return Path(path)


def _listed(repository: Repository, folder: Path) -> "Mapping[str, RepoFile | None]":
    """The files of the commit at its top by name."""
    if is_offline_mode():
        return {path.name: None for path in folder.iterdir()}
    return {name: file for name, file in repository.files(folder.name).items() if "/" not in name}


def _check(repository: Repository, path: Path, listed: "RepoFile | None") -> None:
    """huggingface_hub itself compares sizes alone."""
    if listed is not None and listed.lfs and stamp(path)["sha256"] != listed.lfs.sha256:
        raise VlalignError(
            f"{repository.at}: {path.name} is not what the hub lists: it was damaged on its way or since; delete "
            f"{path.resolve()} and run again"
        )


def _missing(repository: Repository, error: Exception) -> VlalignError:
    """A file that is not there: in the repository, or on this machine where the hub cannot be asked."""
    if not isinstance(error, LocalEntryNotFoundError):
        return VlalignError(
            f"{repository.at} has no {CONFIG}, so it is no model of open_clip, and others are not read here; choose a "
            "repository that has one"
        )
    if is_offline_mode():
        return VlalignError(
            f"{repository.at} was not fetched before, and HF_HUB_OFFLINE is set; fetch it once where there is a "
            "network, or give its files as a folder"
        )
    return repository.unlisted(error.__cause__ if isinstance(error.__cause__, Exception) else error)
