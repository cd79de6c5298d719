"""What DVC is told of data that the workflow did not make."""

import os
from pathlib import Path

import yaml

from vlalign.errors import VlalignError
from vlalign.params import Params

STAGE = "workflow"


def own_files(params: Params) -> list[str]:
    """The files whose content the workflow depends on, each once: tables and annotations of the dataset in use and of
    cards, and weights of models that were not trained here, a decoder among them.
    """
    files = Path(params.evaluation.files)
    sources = [*params.sources.values()]
    sources += [one.located(files) for task, card in params.evaluation.cells() for one in card.places(task).values()]
    found = [path for source in sources for path in source.inputs()]
    found += [path for spec in params.models.values() for path in spec.local()]
    found += map(str, params.generation.files(Path()) if params.generation else ())
    return list(dict.fromkeys(map(os.path.normpath, found)))


def dependencies(file: Path) -> list[str]:
    """The files and folders that the workflow's stage in dvc.yaml depends on; raises VlalignError for another file."""
    try:
        entries = yaml.safe_load(file.read_text(encoding="utf-8"))["stages"][STAGE].get("deps", [])
        # An entry with options of its own is a mapping of one key.
        return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    except (yaml.YAMLError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise VlalignError(f"{file} has no stage `{STAGE}` ({error}); restore it from Git") from None


def check_versioned(params: Params, file: Path) -> None:
    """Raises VlalignError, with the line to add, when DVC would not notice that a table or annotations have changed."""
    listed = {Path(os.path.normpath(path)) for path in dependencies(file)}
    # A folder that is listed covers what lies in it.
    if missing := [path for path in own_files(params) if not listed & {Path(path), *Path(path).parents}]:
        lines = "\n".join(f"      - {path}" for path in missing)
        raise VlalignError(
            f"{file} does not name what this dataset is made from, so DVC would not notice a change there; add below "
            f"`deps` of the stage `{STAGE}`:\n{lines}"
        )
