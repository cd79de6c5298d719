"""Fetch Stanza's published models of a language into a model folder."""

from pathlib import Path

from vlalign.annotate.phrases import stanza_models
from vlalign.annotate.phrases.stanza_models import ENGLISH, PARSING, TOKENIZING
from vlalign.errors import VlalignError
from vlalign.files import read_json


def download_parser(
    output_dir: str | Path, *, language: str = "en", package: str = "default", resources_url: str | None = None
) -> None:
    """Download the tagger and the parser of `package`, with what they need, and write the folder's manifest.

    Languages other than English also need the tokenizer and, where there is one, the expander of multi-word tokens.
    Files that are already there and whole are kept. package: a Stanza package, such as default, default_fast or
    default_accurate. resources_url: a mirror of Stanza's resource lists.
    Raises VlalignError when the network is out of reach, or when Stanza has no such language or package.
    """
    model_dir = Path(output_dir)
    try:
        language, packages = _download(model_dir, language, package, resources_url)
        # Loading also fetches what Stanza leaves to the first use: the transformer that default_accurate builds on.
        stanza_models.open_parser(model_dir, language, packages, download_method="reuse_resources")
        if language != ENGLISH:
            stanza_models.open_tokenizer(model_dir, language, packages, download_method="reuse_resources")
    except OSError as error:
        raise VlalignError(
            f"Stanza's models cannot be downloaded into {model_dir} ({error}); check the network and run again, copy "
            "the folder from a machine that has it, or set annotate.parser.source to train, which does for the "
            "embedded dataset"
        ) from None
    except (ImportError, ValueError) as error:
        raise VlalignError(
            f"Stanza cannot provide annotate.parser.language {language}, annotate.parser.package {package} ({error}); "
            "correct the keys, install the extra `language` if the package needs transformers, or run again"
        ) from None
    stanza_models.write_model_manifest(model_dir, language=language, packages=packages, source="download")


def _download(model_dir: Path, language: str, package: str, mirror: str | None) -> tuple[str, dict[str, str]]:
    """Language without aliases, and the packages that `package` stands for."""
    where = {"resources_url": mirror} if mirror else {}
    language = language.strip().lower()
    # The expander of multi-word tokens comes with the tokenizer of a language that has one.
    needed = PARSING if language == ENGLISH else ("tokenize", *PARSING)
    fetched = stanza_models.import_stanza().download(
        language, model_dir=str(model_dir), package=package, processors=",".join(needed), verbose=False, **where
    )
    packages = {processor: name for processor, name in fetched if processor in (*TOKENIZING, *PARSING)}
    if missing := set(needed).difference(packages):
        raise ValueError(f"there is no {' and no '.join(sorted(missing))} model")
    return read_json(model_dir / "resources.json")[language].get("alias", language), packages
