"""Parse captions with whatever Stanza models a folder holds, be they downloaded or trained here.

Stanza is imported where it is used: it takes seconds, and those who read annotations do not need it.
"""

import functools
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from vlalign.annotate.words import sentence_ranges, word_ranges
from vlalign.data.shards import fingerprint
from vlalign.errors import VlalignError
from vlalign.files import read_json, write_json

logger = logging.getLogger(__name__)

# A word that is longer is no word, and the character models would spend seconds on it.
LONGEST_WORD = 100


class Word(NamedTuple):
    """A word, its character range [start, end) in the caption, and its part-of-speech tag."""

    start: int
    end: int
    text: str
    tag: str


class Constituent(NamedTuple):
    """A labelled range of words, `last` exclusive."""

    label: str
    first: int
    last: int


@dataclass(frozen=True)
class Parse:
    """Words and constituents of a caption, outer constituents first; both empty and a cause named if it was skipped."""

    words: tuple[Word, ...] = ()
    constituents: tuple[Constituent, ...] = ()
    skipped: str | None = None


def write_model_manifest(
    model_dir: Path, *, language: str, packages: dict[str, str], source: str, **measured: Any
) -> None:
    """Describe a Stanza `model_dir`; written last, it says that the folder is complete.

    packages: processor -> package, for "pos" and "constituency". source: "train" or "download". measured: its scores.
    """
    files = sorted(path for path in (model_dir / language).rglob("*.pt"))
    digests = {path.relative_to(model_dir).as_posix(): fingerprint(path)["sha256"] for path in files}
    content = {"language": language, "packages": packages, "source": source, "files": digests, **measured}
    write_json(model_dir / "manifest.json", content)


def read_model_manifest(model_dir: str | Path) -> dict[str, Any]:
    """The manifest of a model folder, after comparing its files with it; raises VlalignError where they differ."""
    manifest = read_json(Path(model_dir) / "manifest.json")
    for name, digest in manifest["files"].items():
        path = Path(model_dir) / name
        if not path.is_file() or fingerprint(path)["sha256"] != digest:
            raise VlalignError(
                f"{path} is missing or is not the file that {model_dir}/manifest.json describes; "
                "delete that manifest and run the workflow again"
            )
    return manifest


def load_pipeline(model_dir: str | Path, *, batch_size: int = 200) -> Any:
    """Stanza's tagger and constituency parser for sentences that are already cut into words; never touches the network.

    Raises VlalignError when the folder is incomplete or was changed since its manifest was written.
    """
    manifest = read_model_manifest(model_dir)
    try:
        return open_pipeline(model_dir, manifest["language"], manifest["packages"], batch_size=batch_size)
    except (ImportError, OSError, ValueError) as error:
        raise VlalignError(
            f"the parser in {model_dir} cannot be loaded ({error}); delete {model_dir}/manifest.json and run the rule "
            "that makes it again, with a network if annotate.parser.source is download"
        ) from None


def open_pipeline(
    model_dir: str | Path,
    language: str,
    packages: dict[str, str],
    *,
    batch_size: int = 200,
    download_method: str | None = None,
) -> Any:
    """Stanza's Pipeline on `model_dir`; `download_method` as Stanza's own, None being no network at all."""
    stanza = import_stanza()
    _register_tokenizer()
    pipeline = stanza.Pipeline(
        language,
        model_dir=str(model_dir),
        processors="tokenize,pos,constituency",
        package={**packages, "tokenize": "word-lists"},
        download_method=download_method,
        verbose=False,
        pos_batch_size=1000,
        constituency_batch_size=batch_size,
    )
    # Stanza passes over a package that it does not know.
    if missing := set(packages).difference(pipeline.processors):
        raise ValueError(f"there is no {' and no '.join(sorted(missing))} model")
    return pipeline


@functools.cache
def _register_tokenizer() -> None:
    """Name a tokenizer for captions that are already cut into words, so that Stanza needs none of its own."""
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


class CaptionParser:
    """Parses clean captions in batches; whatever cannot be parsed is a named skip, never an exception."""

    def __init__(self, model_dir: str | Path, *, max_words: int = 77, batch_size: int = 200) -> None:
        self.pipeline = load_pipeline(model_dir, batch_size=batch_size)
        self.max_words = max_words
        self.batch_size = batch_size

    def parse(self, captions: Sequence[str]) -> Iterator[Parse]:
        """Yield one Parse per caption, in order; captions that are equal are parsed once.

        Causes of a skip: "empty", "too long" (over `max_words` words, or a word of over 100 characters) and "failed".
        """
        distinct = iter(dict.fromkeys(captions))
        found: dict[str, Parse] = {}
        for caption in captions:
            if caption not in found:
                batch = list(itertools.islice(distinct, self.batch_size))
                found.update(zip(batch, self._parse_batch(batch), strict=True))
            yield found[caption]

    def _parse_batch(self, captions: list[str]) -> list[Parse]:
        ranges = [word_ranges(caption) for caption in captions]
        causes = [self._refuse(words) for words in ranges]
        wanted = [(caption, words) for caption, words, cause in zip(captions, ranges, causes, strict=True) if not cause]
        parses = iter(self._parse_words(wanted))
        return [Parse(skipped=cause) if cause else next(parses) for cause in causes]

    def _refuse(self, ranges: list[tuple[int, int]]) -> str | None:
        if not ranges:
            return "empty"
        too_long = len(ranges) > self.max_words or any(end - start > LONGEST_WORD for start, end in ranges)
        return "too long" if too_long else None

    def _parse_words(self, captions: list[tuple[str, list[tuple[int, int]]]]) -> list[Parse]:
        """Parse (caption, word ranges) pairs; halve the batch until what Stanza cannot take stands alone."""
        if not captions:
            return []
        try:
            return self._run(captions)
        except (
            Exception
        ) as error:  # Stanza raises whatever its tensors and lists raise, also for one caption of a batch
            if len(captions) == 1:
                logger.warning("a caption could not be parsed (%s): %.200s", error, captions[0][0])
                return [Parse(skipped="failed")]
        half = len(captions) // 2
        return self._parse_words(captions[:half]) + self._parse_words(captions[half:])

    def _run(self, captions: list[tuple[str, list[tuple[int, int]]]]) -> list[Parse]:
        cuts = [sentence_ranges(caption, ranges) for caption, ranges in captions]
        texts = [[caption[start:end] for start, end in ranges] for caption, ranges in captions]
        sentences = [text[a:b] for text, cut in zip(texts, cuts, strict=True) for a, b in cut]
        parsed = iter(self.pipeline(sentences).sentences)
        return [
            _caption_parse(ranges, text, [next(parsed) for _ in cut])
            for (_, ranges), text, cut in zip(captions, texts, cuts, strict=True)
        ]


def _caption_parse(ranges: list[tuple[int, int]], texts: list[str], sentences: list[Any]) -> Parse:
    """Join the sentences of one caption; raises ValueError when a tree is not the tree of its sentence."""
    tags: list[str] = []
    leaves: list[str] = []
    constituents: list[Constituent] = []
    for sentence in sentences:
        constituents += tree_constituents(sentence.constituency, offset=len(tags))
        leaves += sentence.constituency.leaf_labels()
        tags += [word.xpos or word.upos for word in sentence.words]
    # Stanza drops the trees that it could not finish, and the ones behind them move up.
    if leaves != texts:
        raise ValueError("the parser returned the tree of another sentence")
    words = tuple(Word(*span, text, tag) for span, text, tag in zip(ranges, texts, tags, strict=True))
    return Parse(words, tuple(constituents))


def tree_constituents(tree: Any, *, offset: int = 0) -> list[Constituent]:
    """Constituents of a Stanza tree between ROOT and the tags, outer before inner; `offset` words precede the tree."""
    found: list[Constituent] = []

    def visit(node: Any, first: int) -> int:
        if node.is_leaf():
            return first + 1
        place = len(found)
        last = first
        for child in node.children:
            last = visit(child, last)
        if not node.is_preterminal() and node.label != "ROOT":
            found.insert(place, Constituent(node.label, first, last))
        return last

    visit(tree, offset)
    return found
