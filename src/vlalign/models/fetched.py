"""Models and decoders of the Hugging Face hub: the files that are needed of a repository, in the hub's own cache."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from httpx2 import HTTPError
from huggingface_hub import hf_hub_download, is_offline_mode
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

from vlalign.errors import VlalignError
from vlalign.files import read_object
from vlalign.hub import Repository, endpoint
from vlalign.models.folders import CONFIG, read_config
from vlalign.models.weights import weights_among
from vlalign.records import stamp

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoFile

# Of tokenizers and configs of transformers.
TEXT_FILES = (".json", ".txt", ".model")
# What a pipeline of diffusers consists of.
INDEX = "model_index.json"


def fetch(repository: Repository) -> Path:
    """The folder that has the config and the weights of a repository and, where its text tower is one of transformers,
    that one's files; the folder's name is the commit.

    With HF_HUB_OFFLINE what was fetched before suffices.
    Raises VlalignError when the repository cannot be read, lacks these files, or they arrive damaged.
    """
    with _explained(repository, CONFIG, "model of open_clip"):
        folder = _download(repository, CONFIG, repository.revision).parent
        listed = {name: file for name, file in _listed(repository, folder).items() if "/" not in name}
        weights = weights_among(listed, place=repository.at)
        if weights is None:
            raise VlalignError(f"{repository.at} has no weights, but {', '.join(sorted(listed))}; choose another")
        text = read_config(folder)["model_cfg"]["text_cfg"]
        names = [weights]
        if text.get("hf_model_name") or text.get("hf_tokenizer_name"):
            names += sorted(name for name in listed if Path(name).suffix in TEXT_FILES)
        _download_all(repository, folder, names, listed)
    return folder


def fetch_pipeline(repository: Repository) -> Path:
    """The folder that has a pipeline of diffusers: configs, tokenizers and safetensors of its parts, without variants
    such as fp16; the folder's name is the commit.

    With HF_HUB_OFFLINE what was fetched before suffices.
    Raises VlalignError when the repository cannot be read, holds no pipeline, or files arrive damaged.
    """
    with _explained(repository, INDEX, "pipeline of diffusers"):
        index = _download(repository, INDEX, repository.revision)
        listed = _listed(repository, index.parent)
        parts = read_object(index, remedy="choose another repository")
        names = [name for name in listed if name.partition("/")[0] in parts and _is_read(Path(name))]
        _download_all(repository, index.parent, names, listed)
    return index.parent


def _is_read(path: Path) -> bool:
    """Whether a file of a part is needed; a variant stands between two dots."""
    return path.suffix in TEXT_FILES or (path.suffix == ".safetensors" and "." not in path.stem)


@contextlib.contextmanager
def _explained(repository: Repository, config: str, kind: str) -> Iterator[None]:
    """Errors of the hub and of its client as VlalignError; config: the file without which it holds none of a kind."""
    try:
        yield
    except EntryNotFoundError as error:
        raise _missing(repository, error, config, kind) from error
    except (HTTPError, OSError, ValueError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise repository.unlisted(error) from error


def _download(repository: Repository, name: str, revision: str) -> Path:
    path = hf_hub_download(
        repository.name, name, revision=revision, endpoint=endpoint(), library_name="vlalign", dry_run=False
    )
    return Path(path)


def _download_all(
    repository: Repository, folder: Path, names: Iterable[str], listed: "Mapping[str, RepoFile | None]"
) -> None:
    for name in names:
        _check(repository, _download(repository, name, folder.name), listed[name])


def _listed(repository: Repository, folder: Path) -> "Mapping[str, RepoFile | None]":
    """The files of the commit by path."""
    if is_offline_mode():
        return {path.relative_to(folder).as_posix(): None for path in folder.rglob("*") if path.is_file()}
    return dict(repository.files(folder.name))


def _check(repository: Repository, path: Path, listed: "RepoFile | None") -> None:
    """huggingface_hub itself compares sizes alone."""
    if listed is not None and listed.lfs and stamp(path)["sha256"] != listed.lfs.sha256:
        raise VlalignError(
            f"{repository.at}: {path.name} is not what the hub lists: it was damaged on its way or since; delete "
            f"{path.resolve()} and run again"
        )


def _missing(repository: Repository, error: Exception, config: str, kind: str) -> VlalignError:
    """A file that is not there: in the repository, or on this machine where the hub cannot be asked."""
    if not isinstance(error, LocalEntryNotFoundError):
        return VlalignError(
            f"{repository.at} has no {config}, so it is no {kind}, and others are not read here; choose a repository "
            "that has one"
        )
    if is_offline_mode():
        return VlalignError(
            f"{repository.at} was not fetched before, and HF_HUB_OFFLINE is set; fetch it once where there is a "
            "network, or give its files as a folder"
        )
    return repository.unlisted(error.__cause__ if isinstance(error.__cause__, Exception) else error)
