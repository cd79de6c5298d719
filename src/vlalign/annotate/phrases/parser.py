"""Parse captions with whatever Stanza models a folder holds, be they downloaded or trained here."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from vlalign.annotate.phrases import words
from vlalign.annotate.phrases.stanza_models import load_pipelines
from vlalign.annotate.phrases.trees import Constituent, Parse, Word, joined
from vlalign.annotate.phrases.words import Cut
from vlalign.data.shards.tar import batched
from vlalign.garbage import no_collection

__all__ = ["CaptionParser", "Constituent", "Parse", "Word"]

Result = TypeVar("Result")
logger = logging.getLogger(__name__)
# Every call of Stanza has its own costs, so one call takes several of its batches.
BATCHES_PER_CALL = 5
# A call that fails is repeated in so many parts, until what fails stands alone; two would cost half as much again.
PARTS = 8


class CaptionParser:
    """Parses clean captions in batches; whatever cannot be parsed is a named skip, never an exception.

    Args:
        model_dir: Stanza models with their manifest.
        max_words: longer captions are "too long".
        batch_size: sentences that the tagger and the parser take at once.
        long_captions: "skip" those that are too long, or "cut" them: parse the whole sentences from the start that fit,
            or what fits of the first.
        device: "auto" (a GPU where torch has one), "cpu" or "cuda".

    Raises:
        VlalignError: when the folder is incomplete or was changed, or there is no GPU as wanted.
    """

    def __init__(
        self,
        model_dir: str | Path,
        *,
        max_words: int = 77,
        batch_size: int = 200,
        long_captions: Literal["skip", "cut"] = "skip",
        device: str = "auto",
    ) -> None:
        self.pipeline, self.tokenizer = load_pipelines(model_dir, batch_size=batch_size, device=device)
        self.max_words = max_words
        # That many words with spaces between them are no longer, and tokenizers would spend minutes on those that are.
        self.longest = min(words.LONGEST_CAPTION, max_words * (words.LONGEST_WORD + 1))
        self.call_size = batch_size * BATCHES_PER_CALL
        self.long_captions = long_captions

    def parse(self, captions: Sequence[str], *, done: Callable[[int], None] = lambda count: None) -> list[Parse]:
        """One Parse per caption, in order; captions that are equal are parsed once, those of like length together.

        done: called with the number of different captions that were finished since the last call.
        Causes of a skip: "empty", "too long" (over `max_words` words, 100 characters of a word, or 65,535 characters)
        and "failed".
        """
        distinct = list(dict.fromkeys(captions))
        cuts = dict(zip(distinct, self._cut(distinct), strict=True))
        found = {caption: Parse(skipped=cut) for caption, cut in cuts.items() if isinstance(cut, str)}
        wanted = {caption: cut for caption, cut in cuts.items() if isinstance(cut, Cut)}
        done(len(found))
        for batch in batched(sorted(wanted, key=lambda caption: len(wanted[caption].texts)), self.call_size):
            parses = attempt(batch, partial(self._parse, wanted))
            found.update(zip(batch, (parse or Parse(skipped="failed") for parse in parses), strict=True))
            done(len(batch))
        return [found[caption] for caption in captions]

    def _cut(self, captions: list[str]) -> list[Cut | str]:
        """The words to parse of every caption, or the cause why there are none."""
        cut = self.long_captions == "cut"
        starts = [words.beginning(text, self.longest) if cut or len(text) <= self.longest else "" for text in captions]
        return list(map(self._fitting, captions, self._words(starts)))

    def _fitting(self, caption: str, cut: Cut | None) -> Cut | str:
        if cut is None:
            return "failed"
        if len(caption) > self.longest:
            cut = replace(cut, shortened=True)
        if not cut.texts:
            return "too long" if cut.shortened else "empty"
        if words.parsable(cut, self.max_words) == len(cut.texts):
            return cut
        if self.long_captions == "skip":
            return "too long"
        kept = words.shorten(cut, self.max_words)
        return kept if kept.texts else "too long"

    def _words(self, texts: list[str]) -> list[Cut | None]:
        if self.tokenizer is None:
            return list(map(words.cut_english, texts))
        found: dict[str, Cut | None] = {text: Cut([], [], []) for text in texts}
        wanted = sorted({text for text in texts if text.strip()}, key=lambda text: (len(text), text))
        for batch in batched(wanted, self.call_size):
            found.update(zip(batch, attempt(batch, partial(self._tokenize, self.tokenizer)), strict=True))
        return [found[text] for text in texts]

    @staticmethod
    def _tokenize(tokenizer: Any, texts: list[str]) -> list[Cut]:
        import torch

        with torch.inference_mode(), no_collection():
            return list(map(words.cut_document, tokenizer.bulk_process(texts)))

    def _parse(self, cuts: Mapping[str, Cut], captions: list[str]) -> list[Parse]:
        import torch

        sentences = [cuts[caption].texts[first:last] for caption in captions for first, last in cuts[caption].sentences]
        with torch.inference_mode(), no_collection():
            parsed = iter(self.pipeline(sentences).sentences)
            return [
                joined(caption, cuts[caption], [next(parsed) for _ in cuts[caption].sentences]) for caption in captions
            ]


def attempt(captions: list[str], run: Callable[[list[str]], Sequence[Result]]) -> Sequence[Result | None]:
    """The results of `run`, one for each caption; None for those that it raises on even when they stand alone."""
    try:
        return run(captions)
    except Exception as error:  # Stanza raises whatever its tensors and lists raise, for one caption of a batch as well
        if len(captions) == 1:
            logger.warning("a caption could not be parsed (%s): %.200s", error, captions[0])
            return [None]
    size = -(-len(captions) // PARTS)
    return [result for part in batched(captions, size) for result in attempt(part, run)]
