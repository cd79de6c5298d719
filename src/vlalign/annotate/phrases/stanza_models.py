"""Stanza's models in a folder: the manifest that describes them, and the pipelines that they make.

Stanza is imported where it is used: it takes seconds, and those who read annotations do not need it.
"""

import functools
import logging
from pathlib import Path
from typing import Any

from vlalign.errors import VlalignError
from vlalign.records import check_file, read_record, stamps, write_record

# What cuts text into words, and what then finds phrases.
TOKENIZING = ("tokenize", "mwt")
PARSING = ("pos", "constituency")
# Its words are cut here (`annotate.words`); other languages need Stanza's tokenizer of their own.
ENGLISH = "en"


def write_model_manifest(
    model_dir: Path, *, language: str, packages: dict[str, str], source: str, **measured: Any
) -> None:
    """Describe a Stanza `model_dir`; written last, it says that the folder is complete.

    packages: processor -> package, for "pos" and "constituency", for languages other than English also "tokenize" and,
    where the language has one, "mwt". source: "train" or "download". measured: its scores.
    """
    files = (path.relative_to(model_dir).as_posix() for path in (model_dir / language).rglob("*.pt"))
    written = stamps(model_dir, files)
    content = {"language": language, "packages": packages, "source": source, "files": written, **measured}
    write_record(model_dir / "manifest.json", content)


def read_model_manifest(model_dir: str | Path) -> dict[str, Any]:
    """The manifest of a model folder, after comparing its files with it; raises VlalignError where they differ."""
    path = Path(model_dir) / "manifest.json"
    manifest = read_record(path)
    for name, expected in manifest["files"].items():
        check_file(path.parent / name, expected, record=path, remedy=f"delete {path} and run the workflow again")
    return manifest


def load_pipelines(model_dir: str | Path, *, batch_size: int = 200, device: str = "auto") -> tuple[Any, Any | None]:
    """Stanza's tagger and parser for lists of words, and the tokenizer that cuts text into them, None for English.

    They never touch the network. batch_size: sentences at once. device: "auto" (a GPU where torch has one), "cpu" or
    "cuda". Raises VlalignError when the folder is incomplete or was changed since its manifest was written.
    """
    manifest = read_model_manifest(model_dir)
    language, packages = manifest["language"], manifest["packages"]
    try:
        parser = open_parser(model_dir, language, packages, batch_size=batch_size, device=device)
        if language == ENGLISH:
            return parser, None
        return parser, open_tokenizer(model_dir, language, packages, device=device)
    except (ImportError, OSError, ValueError) as error:
        raise VlalignError(
            f"the parser in {model_dir} cannot be loaded ({error}); delete {model_dir}/manifest.json and run the rule "
            "that makes it again, with a network if annotate.parser.source is download"
        ) from None


def open_parser(
    model_dir: str | Path,
    language: str,
    packages: dict[str, str],
    *,
    batch_size: int = 200,
    device: str = "auto",
    download_method: str | None = None,
) -> Any:
    """Stanza's Pipeline from lists of words to trees; `download_method` as Stanza's own, None being no network at all.

    Raises ValueError when a model is missing.
    """
    _register_tokenizer()
    return _open(
        model_dir,
        language,
        {"tokenize": "word-lists", **{name: packages[name] for name in PARSING}},
        device=device,
        download_method=download_method,
        pos_batch_size=batch_size,
        constituency_batch_size=batch_size,
    )


def open_tokenizer(
    model_dir: str | Path,
    language: str,
    packages: dict[str, str],
    *,
    device: str = "auto",
    download_method: str | None = None,
) -> Any:
    """Stanza's Pipeline from text to words, with the expansion of multi-word tokens where the language has one.

    Raises ValueError when a model is missing.
    """
    if "tokenize" not in packages:
        raise ValueError("there is no tokenize model")
    chosen = {name: packages[name] for name in TOKENIZING if name in packages}
    return _open(model_dir, language, chosen, device=device, download_method=download_method)


def _open(model_dir: str | Path, language: str, packages: dict[str, str], *, device: str, **options: Any) -> Any:
    stanza = import_stanza()
    try:
        pipeline = stanza.Pipeline(
            language,
            model_dir=str(model_dir),
            processors=",".join(packages),
            package=packages,
            verbose=False,
            use_gpu=_use_gpu(device),
            **options,
        )
        found = set(pipeline.processors)
    except stanza.pipeline.core.PipelineRequirementsException:
        found = set()
    # Stanza passes over a package that it does not know, unless another one needs it.
    if missing := set(packages) - found:
        raise ValueError(f"there is no {' or no '.join(sorted(missing))} model")
    return pipeline


def _use_gpu(device: str) -> bool:
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise VlalignError("annotate.parser.device is cuda, but torch finds no GPU on this machine; set it to auto")
    return device != "cpu" and torch.cuda.is_available()


@functools.cache
def _register_tokenizer() -> None:
    """Name a tokenizer for captions that are already cut into words, so that the parser needs none of its own."""
    from stanza.models.common.doc import Document
    from stanza.pipeline.processor import ProcessorVariant, register_processor_variant

    @register_processor_variant("tokenize", "word-lists")
    class WordLists(ProcessorVariant):
        OVERRIDE = True

        def __init__(self, config: dict[str, Any]) -> None:
            pass

        def process(self, sentences: list[list[str]]) -> Any:
            return Document([[{"id": (n,), "text": word} for n, word in enumerate(s, 1)] for s in sentences])


def import_stanza(*, level: int = logging.WARNING) -> Any:
    """Stanza without its handler on the console: its log goes where this program's goes, from `level` up."""
    import stanza

    log = logging.getLogger("stanza")
    log.removeHandler(stanza.log_handler)
    log.setLevel(level)
    return stanza
