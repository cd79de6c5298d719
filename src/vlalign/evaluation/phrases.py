"""The dataset's own phrases with known referents, joined to the words of the parsed captions."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vlalign.annotate.phrases.annotation import ParsedCaption
from vlalign.annotate.phrases.tokens import clean_caption
from vlalign.data.samples import Sample
from vlalign.errors import VlalignError


@dataclass(frozen=True)
class GoldPhrase:
    """A phrase whose referents are known.

    image, caption: their rows in the split. kind: what the dataset calls this kind of phrase. instances: object ids of
    the image's label map, from 1. words: indices of the caption's words inside the phrase. text: the phrase as it
    stands in the caption.
    """

    image: int
    caption: int
    kind: str
    instances: tuple[int, ...]
    words: tuple[int, ...]
    text: str = ""


def parsed_captions(
    samples: Sequence[Sample], annotation: Mapping[str, Iterable[ParsedCaption]]
) -> tuple[list[ParsedCaption | None], Counter[str]]:
    """The parse of every caption of every sample, in the samples' order, joined by key and caption index.

    Returns:
        One entry per caption, None where the annotation has none; and how many captions lack one, by cause.
    Raises VlalignError when a parse belongs to another caption text: the annotation is stale.
    """
    parses, causes = list[ParsedCaption | None](), Counter[str]()
    for sample in samples:
        by_index = {parsed.caption_index: parsed for parsed in annotation.get(sample.key, ())}
        for index, caption in enumerate(sample.captions):
            parsed = by_index.get(index)
            if parsed is not None and parsed.caption != caption and parsed.caption != clean_caption(caption):
                raise VlalignError(
                    f"caption {index} of {sample.key} was annotated as {parsed.caption!r} but reads {caption!r}; "
                    "run the annotation of this split again"
                )
            if parsed is None or parsed.skipped:
                causes[parsed.skipped if parsed and parsed.skipped else "caption without annotation"] += 1
                parsed = None
            parses.append(parsed)
    return parses, causes


def gold_phrases(
    samples: Sequence[Sample], parses: Sequence[ParsedCaption | None]
) -> tuple[list[GoldPhrase], Counter[str]]:
    """All phrases of `meta["phrases"]`, in caption order, and how many were left out by cause.

    samples: the split, in order. parses: one per caption over all samples, as `parsed_captions` returns them.
    """
    found, causes, first_caption = list[GoldPhrase](), Counter[str](), 0
    for image, sample in enumerate(samples):
        phrases, malformed = _well_formed(sample)
        causes["phrase that is malformed"] += malformed
        for phrase in phrases:
            row = first_caption + phrase["caption"]
            parsed = parses[row]
            words = () if parsed is None else words_inside(parsed, phrase["start"], phrase["end"])
            if not phrase["instances"]:
                causes["phrase without referents"] += 1
            elif parsed is None:
                causes["phrase of a caption without annotation"] += 1
            elif parsed.caption != sample.captions[phrase["caption"]]:
                causes["phrase whose characters were moved by cleaning"] += 1
            elif not words:
                causes["phrase without words"] += 1
            else:
                text = parsed.caption[parsed.words[words[0]].start : parsed.words[words[-1]].end]
                found.append(GoldPhrase(image, row, phrase["kind"], tuple(phrase["instances"]), words, text))
        first_caption += len(sample.captions)
    return found, causes


def _well_formed(sample: Sample) -> tuple[list[dict[str, Any]], int]:
    """The phrases of a sample's JSON file by caption, and how many are none: anyone may have written it."""
    given = sample.meta.get("phrases", [])
    if not isinstance(given, list):
        return [], 1
    good = [phrase for phrase in given if _is_phrase(phrase, captions=len(sample.captions))]
    return sorted(good, key=lambda phrase: phrase["caption"]), len(given) - len(good)


def _is_phrase(phrase: Any, *, captions: int) -> bool:
    if not isinstance(phrase, dict) or not isinstance(phrase.get("instances"), list):
        return False
    numbers = (*(phrase.get(key) for key in ("caption", "start", "end")), *phrase["instances"])
    whole = all(type(number) is int for number in numbers)
    return whole and 0 <= phrase["caption"] < captions and isinstance(phrase.get("kind"), str)


def words_inside(parsed: ParsedCaption, start: int, end: int) -> tuple[int, ...]:
    """Indices of the words that lie within the characters [start, end)."""
    return tuple(i for i, word in enumerate(parsed.words) if start <= word.start and word.end <= end)


def word_members(phrases_by_caption: Sequence[Sequence[GoldPhrase]], *, words: int) -> tuple[Tensor, Tensor]:
    """Which words each phrase consists of, member_CPW, and mask_CP, False where a caption has fewer phrases than P.

    phrases_by_caption: the phrases of each of C captions. words: number of words of the longest caption, W.
    """
    most = max((len(phrases) for phrases in phrases_by_caption), default=0)
    member_CPW = torch.zeros(len(phrases_by_caption), most, words, dtype=torch.bool)
    mask_CP = torch.zeros(len(phrases_by_caption), most, dtype=torch.bool)
    for c, phrases in enumerate(phrases_by_caption):
        for p, phrase in enumerate(phrases):
            member_CPW[c, p, list(phrase.words)] = True
            mask_CP[c, p] = True
    return member_CPW, mask_CP
