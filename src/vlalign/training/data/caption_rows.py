"""Captions of a split as token ids, with the words of each token and the words of each chosen phrase."""

from pathlib import Path

import torch
from torch import Tensor

from vlalign.annotate.phrases.annotation import ParsedCaption, PhraseFile
from vlalign.annotate.phrases.tokens import token_mapper
from vlalign.data.shards.split import Annotations, Split
from vlalign.errors import VlalignError
from vlalign.models import DualEncoder
from vlalign.params import PhraseChoice


class Captions:
    """Makes the row of one caption; caption k of image i has the number i * most + k."""

    def __init__(self, split: Split, encoder: DualEncoder) -> None:
        self.split, self.most, self.tokenizer = split, split.most_captions, encoder.tokenizer

    def __call__(self, number: int, when: str) -> tuple[Tensor, ...]:
        """Token ids L."""
        image, index = divmod(number, self.most)
        shard, row = self.split.locate(image)
        return (self.tokenizer([self.split.open(shard).field("captions", row)[index]])[0],)


class ParsedCaptions(Captions):
    """Makes the row of one caption with its phrases.

    Args:
        phrases: folder of the split's phrases.
        choice: which of them enter.
    """

    def __init__(self, split: Split, encoder: DualEncoder, *, phrases: Path, choice: PhraseChoice) -> None:
        super().__init__(split, encoder)
        self.choice, self.length = choice, encoder.context_length
        self.phrases = split.annotations(phrases, PhraseFile, rule="phrases")
        self.mapper = token_mapper(encoder.tokenizer, encoder.context_length)

    def __call__(self, number: int, when: str) -> tuple[Tensor, ...]:
        """Token ids L, the word that owns each token, L (-1: none), and the words of each phrase, P L."""
        image, index = divmod(number, self.most)
        return self._encode(parsed_caption(self.split, self.phrases, image, index))

    def _encode(self, entry: ParsedCaption) -> tuple[Tensor, Tensor, Tensor]:
        tokens_L, word_L = self.mapper.encode(entry.caption, entry.words)
        members_PL = torch.zeros(self.choice.count, self.length, dtype=torch.bool)
        for number, (first, last) in enumerate(choose_phrases(entry, self.choice, present=set(word_L.tolist()))):
            members_PL[number, first:last] = True
        return tokens_L, word_L, members_PL


def parsed_caption(split: Split, phrases: Annotations[PhraseFile], image: int, index: int) -> ParsedCaption:
    """A caption of an image with its parse; raises VlalignError naming one that was never parsed."""
    file, row = phrases.find(image)
    if index >= file.count(row):
        raise VlalignError(f"caption {index} of '{split.key(image)}' was never parsed; run the phrases rule again")
    return file.caption(row, index)


def choose_phrases(entry: ParsedCaption, choice: PhraseChoice, *, present: set[int]) -> list[tuple[int, int]]:
    """Word ranges of the phrases that enter the powerset: distinct, chosen by label and length, the shortest first.

    present: the words that have a token of their own; a phrase that truncation cut is left out.
    """
    if choice.unit == "words":
        return [(word, word + 1) for word in range(len(entry.words)) if word in present][: choice.count]
    ranges = {
        (part.first, part.last)
        for part in entry.constituents
        if part.label in choice.labels and part.last - part.first >= choice.min_words
    }
    whole = [span for span in ranges if present.issuperset(range(*span))]
    return sorted(whole, key=lambda span: (span[1] - span[0], span))[: choice.count]
