"""Parsed captions on disk: one Parquet file per shard, joined with the samples by key, independent of any tokenizer."""

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

from vlalign.annotate.parser import CaptionParser, Constituent, Parse, Word, read_model_manifest
from vlalign.annotate.tables import structs
from vlalign.annotate.tokens import clean_caption
from vlalign.data.index import samples_of
from vlalign.data.shards import fingerprint
from vlalign.data.splits import read_manifest
from vlalign.errors import VlalignError
from vlalign.files import atomic_write, read_json, write_json

__all__ = ["Constituent", "ParsedCaption", "Word", "parse_split", "read_phrases"]

# Raised whenever equal captions and models would give other rows, so that files of an older version are made again.
VERSION = 1
NAMED_SKIPS = 10
INPUTS = b"vlalign.inputs"

WORD_TYPE = pa.struct({"start": pa.int32(), "end": pa.int32(), "text": pa.string(), "tag": pa.string()})
CONSTITUENT_TYPE = pa.struct({"label": pa.string(), **dict.fromkeys(("first", "last", "start", "end"), pa.int32())})
SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "caption_index": pa.int32(),
        "caption": pa.string(),
        "skipped": pa.string(),
        "words": pa.list_(WORD_TYPE),
        "constituents": pa.list_(CONSTITUENT_TYPE),
    }
)


@dataclass(frozen=True)
class ParsedCaption:
    """One clean caption of one sample with its words and constituents.

    Constituent ranges count words, `last` exclusive: the characters run from words[first].start to words[last - 1].end.
    skipped: None, or why there are no words: "empty", "too long" or "failed".
    """

    key: str
    caption_index: int
    caption: str
    words: tuple[Word, ...] = ()
    constituents: tuple[Constituent, ...] = ()
    skipped: str | None = None


def parse_split(
    split_dir: str | Path,
    model_dir: str | Path,
    output_dir: str | Path,
    *,
    max_words: int = 77,
    batch_size: int = 200,
    max_skipped: float = 10.0,
) -> None:
    """Parse every caption of a split: one Parquet file per shard, then the manifest with what was skipped and why.

    A file that was made from the same shard with the same models and settings is kept, so a run that was killed goes on
    where it stopped. A sample without captions counts as one empty caption.
    Raises VlalignError when a shard or model is missing or changed, and when more than `max_skipped` percent of the
    captions are skipped.
    """
    split_dir, output_dir = Path(split_dir), Path(output_dir)
    source, model = read_manifest(split_dir), read_model_manifest(model_dir)
    # A manifest of another run must not vouch for the files of this one while they are being made.
    (output_dir / "manifest.json").unlink(missing_ok=True)
    load = functools.cache(lambda: CaptionParser(model_dir, max_words=max_words, batch_size=batch_size))
    with _progress(source["samples"]) as advance:
        for shard in source["shards"]:
            path = _parquet_path(output_dir, shard)
            inputs = _digest(VERSION, shard["sha256"], model["files"], max_words)
            if _made_from(path, inputs):
                advance(shard["samples"])
                continue
            captions = list(_read_captions(split_dir, shard))
            rows = zip(captions, load().parse([caption for *_, caption in captions]), strict=True)
            _write_shard(path, (_row(*caption, parse, advance) for caption, parse in rows), inputs=inputs)
    paths = [_parquet_path(output_dir, shard) for shard in source["shards"]]
    _write_manifest(output_dir, paths, model=model, max_skipped=max_skipped)


def _parquet_path(output_dir: Path, shard: dict[str, Any]) -> Path:
    return output_dir / Path(shard["name"]).with_suffix(".parquet").name


def _digest(*inputs: Any) -> bytes:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest().encode()


def _made_from(path: Path, inputs: bytes) -> bool:
    try:
        return (pq.read_schema(path).metadata or {}).get(INPUTS) == inputs
    except (OSError, pa.ArrowInvalid):
        return False


def _read_captions(split_dir: Path, shard: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    """(key, caption index, clean caption) of a shard."""
    for sample in samples_of(split_dir, shard):
        for index, caption in enumerate(sample.captions or ("",)):
            yield sample.key, index, clean_caption(caption)


def _row(key: str, index: int, caption: str, parse: Parse, advance: Callable[[int], None]) -> dict[str, Any]:
    advance(int(index == 0))
    return {
        "key": key,
        "caption_index": index,
        "caption": caption,
        "skipped": parse.skipped,
        "words": [word._asdict() for word in parse.words],
        "constituents": [
            {**part._asdict(), "start": parse.words[part.first].start, "end": parse.words[part.last - 1].end}
            for part in parse.constituents
        ],
    }


def _write_shard(path: Path, rows: Iterable[dict[str, Any]], *, inputs: bytes) -> None:
    """Write rows with the digest of what they were made from: the file itself can tell whether it is current."""
    table = pa.Table.from_pylist(list(rows), schema=SCHEMA.with_metadata({INPUTS: inputs}))
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary)


def _write_manifest(output_dir: Path, paths: list[Path], *, model: dict[str, Any], max_skipped: float) -> None:
    skips: dict[str, list[str]] = {}
    shards, captions, constituents = [], 0, 0
    for path in paths:
        table = pq.read_table(path, columns=["key", "caption_index", "skipped", "constituents"])
        for row in table.filter(pc.is_valid(table["skipped"])).to_pylist():
            skips.setdefault(row["skipped"], []).append(f"{row['key']}#{row['caption_index']}")
        captions += table.num_rows
        constituents += pc.sum(pc.list_value_length(table["constituents"])).as_py() or 0
        shards.append({"name": path.name, "captions": table.num_rows, **fingerprint(path)})
    _refuse_too_many(skips, captions, max_skipped=max_skipped)
    for stale in set(output_dir.glob("*.parquet")).difference(paths):
        stale.unlink()
    parser = {key: model[key] for key in ("language", "packages", "source", "files")}
    counts = {"captions": captions, "constituents": constituents}
    skipped = {cause: {"count": len(names), "first": names[:NAMED_SKIPS]} for cause, names in skips.items()}
    write_json(output_dir / "manifest.json", {"shards": shards, "counts": counts, "skipped": skipped, "parser": parser})


def _refuse_too_many(skips: dict[str, list[str]], captions: int, *, max_skipped: float) -> None:
    skipped = sum(map(len, skips.values()))
    if skipped * 100 <= max_skipped * captions:
        return
    causes = "; ".join(f"{len(names)} {cause}, first {names[0]}" for cause, names in skips.items())
    raise VlalignError(
        f"{skipped} of {captions} captions cannot be parsed ({causes}), more than the {max_skipped:g} % that "
        "annotate.parser.max_skipped allows; mend the captions or raise it"
    )


@contextlib.contextmanager
def _progress(samples: int) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal, nothing elsewhere; yields the function that advances it by a number of samples."""
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("parsing captions", total=samples)
        yield lambda count: progress.advance(task, count)


def read_phrases(output_dir: str | Path) -> dict[str, list[ParsedCaption]]:
    """Sample key -> its parsed captions in the order of their indices.

    Raises VlalignError when the manifest or a file that it names is missing or broken.
    """
    found: dict[str, list[ParsedCaption]] = {}
    for shard in read_json(Path(output_dir) / "manifest.json")["shards"]:
        path = Path(output_dir) / shard["name"]
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise VlalignError(
                f"{path} cannot be read ({error}); delete {output_dir}/manifest.json and run the workflow again"
            ) from None
        for parsed in _parsed_captions(table):
            found.setdefault(parsed.key, []).append(parsed)
    return found


def _parsed_captions(table: pa.Table) -> Iterator[ParsedCaption]:
    words, parts = structs(table, "words", Word), structs(table, "constituents", Constituent)
    keys, indices, captions, skipped = (
        table[name].to_pylist() for name in ("key", "caption_index", "caption", "skipped")
    )
    return map(ParsedCaption, keys, indices, captions, words, parts, skipped)
