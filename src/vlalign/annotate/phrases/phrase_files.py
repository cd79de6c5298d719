"""Parsed captions of one shard as an uncompressed Arrow file: one row per sample, any of which is read by itself."""

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vlalign.annotate.phrases.trees import Constituent, Parse, Word
from vlalign.data.arrow import read_batch, write_batch
from vlalign.errors import VlalignError
from vlalign.garbage import no_collection
from vlalign.records import Stamp, read_record

NAME = pa.dictionary(pa.uint16(), pa.string())
# Places fit 16 bits, since a longer caption is not parsed.
WORD = pa.struct({"start": pa.uint16(), "end": pa.uint16(), "tag": NAME})
CONSTITUENT = pa.struct({"label": NAME, "first": pa.uint16(), "last": pa.uint16()})
CAPTION = pa.struct(
    {
        "caption": pa.string(),
        "skipped": pa.string(),
        "cut": pa.bool_(),
        "words": pa.list_(WORD),
        "constituents": pa.list_(CONSTITUENT),
    }
)
SCHEMA = pa.schema({"key": pa.string(), "captions": pa.list_(CAPTION)})


@dataclass(frozen=True)
class ParsedCaption:
    """One clean caption of one sample with its words and constituents.

    Constituent ranges count words, `last` exclusive: the characters run from words[first].start to words[last - 1].end.
    skipped: None, or why there are no words: "empty", "too long" or "failed". cut: only the first words were parsed.
    """

    key: str
    caption_index: int
    caption: str
    words: tuple[Word, ...] = ()
    constituents: tuple[Constituent, ...] = ()
    skipped: str | None = None
    cut: bool = False


class PackedParse(NamedTuple):
    """A parse that takes little memory, in the order of the columns."""

    skipped: str | None
    cut: bool
    starts: array
    ends: array
    tags: tuple[str, ...]
    labels: tuple[str, ...]
    firsts: array
    lasts: array

    @classmethod
    def of(cls, parse: Parse) -> "PackedParse":
        """Pack."""
        words, parts = parse.words, parse.constituents
        return cls(
            parse.skipped,
            parse.cut,
            array("H", [word.start for word in words]),
            array("H", [word.end for word in words]),
            tuple(word.tag for word in words),
            tuple(part.label for part in parts),
            array("H", [part.first for part in parts]),
            array("H", [part.last for part in parts]),
        )


def write_phrase_file(
    path: Path, samples: Iterable[tuple[str, Sequence[tuple[str, PackedParse]]]], *, metadata: dict[bytes, bytes]
) -> None:
    """Write (key, [(caption, parse), ...]) of every sample, and `metadata` of them; equal samples give equal bytes."""
    samples = list(samples)
    captions = _captions([entry for _, entries in samples for entry in entries])
    keys, lists = pa.array([key for key, _ in samples], pa.string()), [len(entries) for _, entries in samples]
    write_batch(path, pa.record_batch([keys, _lists(lists, captions)], schema=SCHEMA.with_metadata(metadata)))


def _captions(entries: Sequence[tuple[str, PackedParse]]) -> pa.StructArray:
    parses = [parse for _, parse in entries]
    words = [_numbers(parses, "starts"), _numbers(parses, "ends"), _names(parses, "tags")]
    parts = [_names(parses, "labels"), _numbers(parses, "firsts"), _numbers(parses, "lasts")]
    columns = [
        pa.array([caption for caption, _ in entries], pa.string()),
        pa.array([parse.skipped for parse in parses], pa.string()),
        pa.array([parse.cut for parse in parses], pa.bool_()),
        _lists([len(parse.starts) for parse in parses], pa.StructArray.from_arrays(words, fields=list(WORD))),
        _lists([len(parse.firsts) for parse in parses], pa.StructArray.from_arrays(parts, fields=list(CONSTITUENT))),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(CAPTION))


def _lists(lengths: Sequence[int], values: pa.Array) -> pa.ListArray:
    offsets = np.cumsum([0, *lengths], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


def _numbers(parses: Sequence[PackedParse], name: str) -> pa.Array:
    return pa.array(np.frombuffer(b"".join(getattr(parse, name) for parse in parses), np.uint16))


def _names(parses: Sequence[PackedParse], name: str) -> pa.DictionaryArray:
    names = itertools.chain.from_iterable(getattr(parse, name) for parse in parses)
    encoded = pa.array(names, pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.cast(pa.uint16()), encoded.dictionary)


class PhraseFile:
    """The parsed captions of one shard: `file[row]` are those of one sample, and only what belongs to it is read.

    Rows are in the order of the shard's samples, whose keys are `keys`. expected: the file's size and SHA-256, as the
    manifest has them. Raises VlalignError when the file is missing, broken or another one, IndexError for samples that
    are not there.
    """

    def __init__(self, path: str | Path, expected: Stamp | None = None) -> None:
        self.path, self.expected = Path(path), expected
        manifest = self.path.parent / "manifest.json"
        rows = read_batch(self.path, manifest=manifest, expected=expected)
        if not rows.schema.equals(SCHEMA):
            raise VlalignError(
                f"{path} cannot be read (no file of phrases); delete {manifest} and run the workflow again"
            )
        captions = rows.column("captions")
        words, parts = (captions.values.field(name) for name in ("words", "constituents"))
        self.keys = rows.column("key")
        self._rows = captions.offsets.to_numpy()
        self._captions, self._skipped, self._cut = map(captions.values.field, ("caption", "skipped", "cut"))
        self._words, self._parts = words.offsets.to_numpy(), parts.offsets.to_numpy()
        self._starts, self._ends = (words.values.field(name).to_numpy() for name in ("start", "end"))
        self._firsts, self._lasts = (parts.values.field(name).to_numpy() for name in ("first", "last"))
        self._tags, self._tag_names = _codes(words.values.field("tag"))
        self._labels, self._label_names = _codes(parts.values.field("label"))

    def __reduce__(self) -> tuple[Any, ...]:
        return PhraseFile, (self.path, self.expected)

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[tuple[ParsedCaption, ...]]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, row: int) -> tuple[ParsedCaption, ...]:
        place = range(len(self))[row]
        return tuple(self.caption(place, index) for index in range(self.count(place)))

    def count(self, row: int) -> int:
        """How many captions a sample has."""
        return int(self._rows[row + 1] - self._rows[row])

    def caption(self, row: int, index: int) -> ParsedCaption:
        """One caption of a sample."""
        entry = self._rows[row] + index
        text = self._captions[entry].as_py()
        words, parts = slice(*self._words[entry : entry + 2]), slice(*self._parts[entry : entry + 2])
        starts, ends = self._starts[words].tolist(), self._ends[words].tolist()
        texts = [text[start:end] for start, end in zip(starts, ends, strict=True)]
        tags = [self._tag_names[code] for code in self._tags[words].tolist()]
        labels = [self._label_names[code] for code in self._labels[parts].tolist()]
        return ParsedCaption(
            self.keys[row].as_py(),
            index,
            text,
            tuple(map(Word, starts, ends, texts, tags)),
            tuple(map(Constituent, labels, self._firsts[parts].tolist(), self._lasts[parts].tolist())),
            self._skipped[entry].as_py(),
            self._cut[entry].as_py(),
        )


def _codes(column: pa.DictionaryArray) -> tuple[np.ndarray, list[str]]:
    return column.indices.to_numpy(), column.dictionary.to_pylist()


def read_phrases(output_dir: str | Path) -> dict[str, list[ParsedCaption]]:
    """Sample key -> its parsed captions in the order of their indices.

    Raises VlalignError when the manifest or a file that it names is missing or broken, or two shards have one key.
    """
    found: dict[str, list[ParsedCaption]] = {}
    for shard in read_record(Path(output_dir) / "manifest.json")["shards"]:
        file = PhraseFile(Path(output_dir) / shard["name"], shard)
        with no_collection():
            for key, captions in zip(file.keys.to_pylist(), file, strict=True):
                if key in found:
                    raise VlalignError(
                        f"two samples of {output_dir} have the key '{key}': what is measured for each sample needs "
                        "keys that are unique in a split; rename them in the shards"
                    )
                found[key] = list(captions)
    return found
