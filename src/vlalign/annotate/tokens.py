"""Which word of a caption each token of a CLIP tokenizer belongs to, found when the tokens are made."""

from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from typing import Any, Protocol

import torch
from torch import LongTensor

from vlalign.errors import VlalignError


class Span(Protocol):
    """Anything with a character range, such as annotate.phrases.Word."""

    @property
    def start(self) -> int:
        """First character."""

    @property
    def end(self) -> int:
        """Character after the last."""


@cache
def _cleaner() -> Any:
    from open_clip.tokenizer import get_clean_fn

    return get_clean_fn("lower")


def clean_caption(text: str) -> str:
    """`text` as open_clip's tokenizers see it: mended by ftfy, entities decoded, single spaces, lower case."""
    return _cleaner()(text)


class TokenMapper:
    """Tokenizes clean captions as `open_clip.SimpleTokenizer` does, and remembers where the tokens came from.

    Raises VlalignError for a tokenizer of another kind, one that cleans captions otherwise, or one that drops tokens.
    """

    def __init__(self, tokenizer: Any, context_length: int | None = None) -> None:
        from open_clip import SimpleTokenizer

        if not isinstance(tokenizer, SimpleTokenizer) or tokenizer.clean_fn is not _cleaner() or tokenizer.reduction_fn:
            raise VlalignError(
                "phrases need open_clip's SimpleTokenizer with clean='lower' and no reduction mask, which this text "
                "tower does not use; choose another in params.yaml or switch the phrase terms of the objective off"
            )
        self.tokenizer = tokenizer
        self.context_length = context_length or tokenizer.context_length
        # Captions repeat their words.
        self._split = lru_cache(maxsize=50_000)(self._split_word)

    def encode(self, caption: str, words: Sequence[Span]) -> tuple[LongTensor, LongTensor]:
        """Token ids and the index of the word that owns each token, both of length L = context_length.

        A word owns the tokens that start inside it, so that no token has two owners; start, end, padding and tokens of
        no word have -1. A caption that is too long keeps its first L - 2 tokens; its last words own fewer, or none.

        caption: already clean (see `clean_caption`), as read_phrases gives it. It is not cleaned again, since that may
        decode what looks like an entity; the ids are the tokenizer's own for the text that it was cleaned from.
        """
        pieces = list(self._pieces(caption))[: self.context_length - 2]
        owners = _owners(len(caption), words)
        ids_L = torch.zeros(self.context_length, dtype=torch.long)
        word_L = torch.full((self.context_length,), -1)
        ids_L[: len(pieces) + 2] = torch.tensor(
            [self.tokenizer.sot_token_id, *(piece for piece, _ in pieces), self.tokenizer.eot_token_id]
        )
        word_L[1 : len(pieces) + 1] = torch.tensor([owners[start] for _, start in pieces], dtype=torch.long)
        return ids_L, word_L  # type: ignore[return-value]

    def _pieces(self, caption: str) -> Iterator[tuple[int, int]]:
        """(token id, first character) of the pieces of a clean caption."""
        for match in self.tokenizer.pat.finditer(caption):
            for token, offset in self._split(match[0]):
                yield token, match.start() + offset

    def _split_word(self, word: str) -> tuple[tuple[int, int], ...]:
        """(token id, first character) of the pieces of one match of the tokenizer's pattern."""
        tokenizer = self.tokenizer
        # The symbols of a piece are bytes, so a piece may even begin in the middle of a character.
        characters = [place for place, character in enumerate(word) for _ in character.encode()]
        symbols = "".join(tokenizer.byte_encoder[byte] for byte in word.encode())
        pieces, offset = [], 0
        for piece in tokenizer.bpe(symbols).split(" "):
            pieces.append((tokenizer.encoder[piece], characters[offset]))
            offset += len(piece.removesuffix("</w>"))
        return tuple(pieces)


def _owners(length: int, words: Sequence[Span]) -> list[int]:
    """Word index of every character, -1 between words."""
    owners = [-1] * length
    for index, word in enumerate(words):
        owners[word.start : word.end] = [index] * (word.end - word.start)
    return owners
