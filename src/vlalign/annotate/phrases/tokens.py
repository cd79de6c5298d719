"""Which word of a caption each token of a text tower's tokenizer belongs to, found when the tokens are made."""

from collections.abc import Sequence
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


class Mapper(Protocol):
    """Tokenizes clean captions as its tokenizer does, and remembers where the tokens came from."""

    def encode(self, caption: str, words: Sequence[Span]) -> tuple[LongTensor, LongTensor]:
        """Token ids and the index of the word that owns each token, both of length L = context_length.

        A word owns the tokens that start inside it, so that no token has two owners; start, end, padding and tokens of
        no word have -1. A caption that is too long keeps its first tokens; its last words own fewer, or none.

        caption: already clean (see `clean_caption`), as read_phrases gives it. It is not cleaned again, since that may
        decode what looks like an entity; the ids are the tokenizer's own for the text that it was cleaned from.
        """


def token_mapper(tokenizer: Any, context_length: int) -> Mapper:
    """The mapper of one of open_clip's tokenizers; raises VlalignError where it drops tokens or cleans otherwise."""
    from open_clip.tokenizer import HFTokenizer

    kind = HuggingFaceMapper if isinstance(tokenizer, HFTokenizer) else TokenMapper
    return kind(tokenizer, context_length)


class TokenMapper:
    """Mapper of open_clip's SimpleTokenizer."""

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

    def __reduce__(self) -> tuple:
        return TokenMapper, (self.tokenizer, self.context_length)

    def encode(self, caption: str, words: Sequence[Span]) -> tuple[LongTensor, LongTensor]:
        """See Mapper."""
        matches = self.tokenizer.pat.finditer(caption)
        starts = ((piece, match.start() + offset) for match in matches for piece, offset in self._split(match[0]))
        pieces = list(starts)[: self.context_length - 2]
        owners = _owners(len(caption), words)
        ids_L = torch.zeros(self.context_length, dtype=torch.long)
        word_L = torch.full((self.context_length,), -1)
        ids = [self.tokenizer.sot_token_id, *(piece for piece, _ in pieces), self.tokenizer.eot_token_id]
        ids_L[: len(ids)] = torch.tensor(ids)
        word_L[1 : len(pieces) + 1] = torch.tensor([owners[start] for _, start in pieces], dtype=torch.long)
        return ids_L, word_L  # type: ignore[return-value]

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


class HuggingFaceMapper:
    """Mapper of open_clip's HFTokenizer around a fast tokenizer of Hugging Face, which knows where its tokens start."""

    def __init__(self, tokenizer: Any, context_length: int) -> None:
        self.tokenizer, self.context_length = tokenizer.tokenizer, context_length
        plain = tokenizer.clean_fn is _cleaner() and not tokenizer.tokenizer_mode and not tokenizer.strip_sep_token
        if not plain or not self.tokenizer.is_fast:
            raise VlalignError(
                "phrases need a fast Hugging Face tokenizer in its default mode that cleans captions as CLIP does: set "
                "text_cfg.tokenizer_kwargs to {clean: lower}, or switch the phrase terms of the objective off"
            )

    def encode(self, caption: str, words: Sequence[Span]) -> tuple[LongTensor, LongTensor]:
        """See Mapper."""
        found = self.tokenizer(
            caption,
            max_length=self.context_length,
            padding="max_length",
            truncation=True,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        owners = _owners(len(caption), words)
        word_L = torch.full((self.context_length,), -1)
        special = found["special_tokens_mask"]
        for place, (start, end) in enumerate(found["offset_mapping"]):
            if special[place] or start == end:
                continue
            # Byte-level tokens include the space before their word.
            start += len(caption[start:end]) - len(caption[start:end].lstrip())
            word_L[place] = owners[min(start, end - 1)]
        return torch.tensor(found["input_ids"]), word_L  # type: ignore[return-value]


def _owners(length: int, words: Sequence[Span]) -> list[int]:
    """Word index of every character, -1 between words."""
    owners = [-1] * length
    for index, word in enumerate(words):
        owners[word.start : word.end] = [index] * (word.end - word.start)
    return owners
