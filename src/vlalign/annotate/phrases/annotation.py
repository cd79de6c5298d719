"""The captions of a split, parsed into phrases: a file per shard, joined by key, independent of any tokenizer."""

import functools
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from rich.progress import Progress

from vlalign.annotate.phrases.parser import CaptionParser
from vlalign.annotate.phrases.phrase_files import (
    PackedParse,
    ParsedCaption,
    PhraseFile,
    read_phrases,
    write_phrase_file,
)
from vlalign.annotate.phrases.stanza_models import read_model_manifest
from vlalign.annotate.phrases.tokens import clean_caption
from vlalign.annotate.phrases.trees import Constituent, Parse, Word
from vlalign.console import console
from vlalign.data.arrow import INPUTS, read_metadata
from vlalign.data.shards.index import captions_of
from vlalign.data.shards.split import annotation_path, check_place, part_of, read_manifest, refuse_data
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError
from vlalign.files import remove_temporary, write_json
from vlalign.garbage import frozen
from vlalign.params import digest
from vlalign.records import stamp, write_record

__all__ = ["Constituent", "ParsedCaption", "PhraseFile", "Word", "parse_split", "read_phrases"]

logger = logging.getLogger(__name__)
# Raised whenever equal captions and models would give other rows, so that files of an older version are made again.
VERSION = 2
SUMMARY = b"vlalign.summary"
COUNTS = ("captions", "constituents", "cut")
# Different captions that are remembered from shard to shard, at about 900 bytes each.
REMEMBERED = 200_000
# (key, clean captions) of a shard's samples.
Captions = Sequence[tuple[str, Sequence[str]]]


def parse_split(
    split_dir: str | Path,
    model_dir: str | Path,
    output_dir: str | Path,
    *,
    max_words: int = 77,
    batch_size: int = 200,
    long_captions: Literal["skip", "cut"] = "skip",
    device: str = "auto",
    max_skipped: float = 10.0,
    part: str | None = None,
) -> None:
    """Parse every caption of a split: one file per shard, then the manifest with what was skipped and why.

    A file that was made from the same shard with the same models and settings is kept, so a run that was killed goes on
    where it stopped. A sample without captions counts as one empty caption.

    max_words, batch_size, long_captions, device: as CaptionParser takes them.
    part: "K-of-N" for every N-th shard from the K-th on. The manifest stays as it is; `parts/K-of-N.json` is written
    instead. Several processes may do their parts at once; when all are done, a run without a part gathers.

    Raises VlalignError when a shard or model is missing or changed, and, without a part, when more than `max_skipped`
    percent of the captions are skipped; the files are kept.
    """
    split_dir, output_dir = Path(split_dir), Path(output_dir)
    check_place(split_dir, read_manifest(split_dir))
    refuse_data(output_dir)
    model = read_model_manifest(model_dir)
    shards = part_of(read_manifest(split_dir)["shards"], part)
    files = {annotation_path(output_dir, shard): shard for shard in shards}
    if part is None:
        # A manifest of another run must not vouch for the files of this one while they are being made.
        (output_dir / "manifest.json").unlink(missing_ok=True)
    options: dict[str, Any] = {"max_words": max_words, "long_captions": long_captions}
    load = functools.cache(lambda: CaptionParser(model_dir, batch_size=batch_size, device=device, **options))
    memory = ParseMemory(lambda captions, done: load().parse(captions, done=done))
    _make(files, split_dir, memory, settings=[VERSION, model["files"], max_words, long_captions])
    report = _report(list(files))
    if part is not None:
        write_json(output_dir / "parts" / f"{part}.json", report)
        return
    _refuse_too_many(report, max_skipped=max_skipped)
    # Files of shards that are gone, of older versions, and of processes that were killed.
    for path in {*output_dir.glob("*.arrow"), *output_dir.glob("*.parquet")} - set(files):
        path.unlink()
    remove_temporary(output_dir)
    parser = {key: model[key] for key in ("language", "packages", "source", "files")}
    made_of = stamp(split_dir / "manifest.json")["sha256"]
    write_record(output_dir / "manifest.json", {**report, "parser": parser, "split": made_of})


class ParseMemory:
    """Parses a caption once as long as it is among the last `size` different ones, across calls.

    parse: from different captions to their parses, as CaptionParser.parse.
    """

    def __init__(
        self, parse: Callable[[list[str], Callable[[int], None]], list[Parse]], size: int = REMEMBERED
    ) -> None:
        self._parse, self._size = parse, size
        self._known: OrderedDict[str, PackedParse] = OrderedDict()

    def __call__(self, captions: Sequence[str], *, done: Callable[[int], None]) -> list[PackedParse]:
        """The parse of every caption. done: called with the number of different captions that were finished."""
        distinct = dict.fromkeys(captions)
        new = [caption for caption in distinct if caption not in self._known]
        done(len(distinct) - len(new))
        if new:
            self._known.update(zip(new, map(PackedParse.of, self._parse(new, done)), strict=True))
        found = [self._known[caption] for caption in captions]
        for caption in distinct:
            self._known.move_to_end(caption)
        while len(self._known) > self._size:
            self._known.popitem(last=False)
        return found


def _make(files: dict[Path, dict[str, Any]], split_dir: Path, memory: ParseMemory, *, settings: list[Any]) -> None:
    """Make the files that are not there yet, or were made from something else."""
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("parsing captions", total=sum(shard["samples"] for shard in files.values()))
        for path, shard in files.items():
            inputs = digest([shard["sha256"], shard["limits"], *settings]).encode()
            if read_metadata(path).get(INPUTS) == inputs:
                progress.advance(bar, shard["samples"])
                continue
            with frozen():
                found = captions_of(split_dir, shard)
                captions = [(key, [clean_caption(text) for text in texts or ("",)]) for key, texts in found]
                parses = _parse_shard(captions, memory, lambda samples: progress.advance(bar, samples))
                _write(path, captions, parses, inputs=inputs)


def _parse_shard(captions: Captions, memory: ParseMemory, advance: Callable[[float], None]) -> list[PackedParse]:
    """The parses of a shard's captions. advance: called with the number of samples, of which some are fractions."""
    texts = [text for _, entries in captions for text in entries]
    each = len(captions) / max(len(set(texts)), 1)
    return memory(texts, done=lambda count: advance(count * each))


def _write(path: Path, captions: Captions, parses: Sequence[PackedParse], *, inputs: bytes) -> None:
    """Write the file with the digest of what it was made from, which tells whether it is current, and a summary."""
    following = iter(parses)
    samples = [(key, [(text, next(following)) for text in entries]) for key, entries in captions]
    skips = Skips()
    for key, entries in samples:
        for index, (_, parse) in enumerate(entries):
            if parse.skipped:
                skips.add(parse.skipped, f"{key}#{index}")
    counts = (len(parses), sum(len(parse.labels) for parse in parses), sum(parse.cut for parse in parses))
    summary = {"counts": dict(zip(COUNTS, counts, strict=True)), "skipped": skips.as_dict()}
    metadata = {INPUTS: inputs, SUMMARY: json.dumps(summary, ensure_ascii=False, sort_keys=True).encode()}
    write_phrase_file(path, samples, metadata=metadata)
    logger.info("%s: %d captions, %d of them skipped", path.name, len(parses), skips.total)


def _report(paths: list[Path]) -> dict[str, Any]:
    """What manifests say of these files."""
    skips, counts, shards = Skips(), dict.fromkeys(COUNTS, 0), []
    for path in paths:
        metadata = read_metadata(path)
        if SUMMARY not in metadata:
            raise VlalignError(f"{path} was damaged after it was written; delete it and run the workflow again")
        summary = json.loads(metadata[SUMMARY])
        counts = {name: count + summary["counts"][name] for name, count in counts.items()}
        skips.merge(summary["skipped"])
        shards.append({"name": path.name, "captions": summary["counts"]["captions"], **stamp(path)})
    return {"shards": shards, "counts": counts, "skipped": skips.as_dict()}


def _refuse_too_many(report: dict[str, Any], *, max_skipped: float) -> None:
    skips, captions = Skips(), report["counts"]["captions"]
    skips.merge(report["skipped"])
    if skips.total * 100 > max_skipped * captions:
        raise VlalignError(
            f"{skips.total} of {captions} captions cannot be parsed ({skips}), more than the {max_skipped:g} % that "
            "annotate.parser.max_skipped allows; mend the captions or raise it. What was parsed is kept"
        )
