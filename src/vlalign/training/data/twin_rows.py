"""Twins of captions as token ids, drawn anew in every epoch."""

import random
from pathlib import Path

import torch
from torch import Tensor

from vlalign.annotate.phrases.annotation import PhraseFile
from vlalign.annotate.phrases.twins import drawn_twins
from vlalign.data.shards.split import Split
from vlalign.models import DualEncoder
from vlalign.training.data.caption_rows import parsed_caption


class Twins:
    """Makes the row of the twin of one caption; caption k of image i has the number i * most + k.

    Args:
        phrases: folder of the split's phrases.
        kinds: of twins, as `drawn_twins` takes them.
    """

    def __init__(self, split: Split, encoder: DualEncoder, phrases: Path, kinds: tuple[str, ...]) -> None:
        self.split, self.most, self.tokenizer, self.kinds = split, split.most_captions, encoder.tokenizer, kinds
        self.phrases = split.annotations(phrases, PhraseFile, rule="phrases")

    def __call__(self, number: int, when: str) -> tuple[Tensor, ...]:
        """Token ids L of a twin that no truncation makes equal to the caption, and whether there is one: bool. The
        caption itself stands in its place.
        """
        image, index = divmod(number, self.most)
        entry = parsed_caption(self.split, self.phrases, image, index)
        draw = random.Random(f"{when}/twins/{entry.key}/{index}")
        caption_L = self.tokenizer([entry.caption])[0]
        for text in drawn_twins(entry, self.kinds, draw):
            twin_L = self.tokenizer([text])[0]
            if not torch.equal(twin_L, caption_L):
                return twin_L, torch.tensor(True)
        return caption_L, torch.tensor(False)
