import random

import pytest
import tiny_transformers
import torch
from open_clip import SimpleTokenizer
from open_clip.tokenizer import HFTokenizer

from vlalign.annotate.phrases.parser import Word
from vlalign.annotate.phrases.tokens import TokenMapper, clean_caption, token_mapper
from vlalign.annotate.phrases.words import word_ranges
from vlalign.errors import VlalignError

TOKENIZER = SimpleTokenizer()
SNIPPETS = """
a dog the CATS skateboarding antidisestablishmentarianism naïve café ﬁsh İstanbul ΣΟΦΟΣ зебра 犬 猫が 三匹 漢字 한국어
🐶 👩\u200d🚀 🇪🇺 ❤️ 1 23 4.5 10,000 don't doesn't we'll it’s O'Neil 's n't ... !? --- _ a_b x/y # @home ( ) " “quoted” \\
&amp; &lt;b&gt; &amp;amp; &amp;amp;lt; &#39; &nbsp; <start_of_text> <end_of_text> </w> <|endoftext|> Ã© e\u0301 \u200b
"""
FRAGMENTS = SNIPPETS.split()


def words_of(caption):
    return [Word(start, end, caption[start:end], "X") for start, end in word_ranges(caption)]


def random_caption(rng):
    separators = (" ", " ", " ", "", "  ", "\n", "\t")
    count = rng.choice((0, 1, 3, 8, 20, 60))
    if rng.random() < 0.2:
        return "".join(chr(rng.choice((rng.randrange(32, 1024), rng.randrange(0x3000, 0xD7FF)))) for _ in range(count))
    return "".join(rng.choice(FRAGMENTS) + rng.choice(separators) for _ in range(count))


@pytest.mark.parametrize("context_length", [77, 16])
def test_ids_are_the_tokenizers_own_on_thousands_of_strings(context_length):
    rng = random.Random(0)
    mapper = TokenMapper(TOKENIZER, context_length)
    raw = [random_caption(rng) for _ in range(2500)]
    expected = TOKENIZER(raw, context_length)
    assert (expected[:, -1] == TOKENIZER.eot_token_id).sum() > 100, "some strings must be cut"
    for text, row in zip(raw, expected, strict=True):
        caption = clean_caption(text)
        words = words_of(caption)
        ids_L, word_L = mapper.encode(caption, words)
        assert torch.equal(ids_L, row), text
        assert ids_L.dtype == word_L.dtype == torch.long
        owned = word_L[word_L >= 0]
        assert torch.equal(owned, owned.sort().values), "words and tokens are both in the order of the caption"
        assert not owned.numel() or int(owned[-1]) < len(words)
        end = (
            int((ids_L == TOKENIZER.eot_token_id).nonzero()[0])
            if "<end_of_text>" not in caption
            else context_length - 1
        )
        assert word_L[0] == -1
        assert (word_L[end:] == -1).all() or "<end_of_text>" in caption
        if "<" not in caption:
            assert (word_L[1:end] >= 0).all(), "words cover all but white space, so every token has an owner"


def test_a_word_owns_all_of_its_pieces():
    caption = "a skateboarder's antidisestablishmentarianism"
    ids_L, word_L = TokenMapper(TOKENIZER).encode(caption, words_of(caption))
    for index, word in enumerate(words_of(caption)):
        pieces = ids_L[word_L == index].tolist()
        assert TOKENIZER.decode(pieces).replace(" ", "") == word.text


def test_a_piece_across_two_words_belongs_to_the_word_it_starts_in():
    caption = "it doesn't"  # two words does|n't, two pieces doesn|'t
    _, word_L = TokenMapper(TOKENIZER).encode(caption, words_of(caption))
    assert word_L[:6].tolist() == [-1, 0, 1, 2, -1, -1]


def test_tokens_between_words_have_no_owner():
    caption = "a red dog"
    words = words_of(caption)
    _, word_L = TokenMapper(TOKENIZER).encode(caption, [words[0], words[2]])
    assert word_L[:6].tolist() == [-1, 0, -1, 1, -1, -1]


def test_truncation_cuts_the_last_words():
    caption = "one two antidisestablishmentarianism four"
    ids_L, word_L = TokenMapper(TOKENIZER, 6).encode(caption, words_of(caption))
    assert word_L.tolist() == [-1, 0, 1, 2, 2, -1]
    assert ids_L[-1] == TOKENIZER.eot_token_id


def test_clean_captions_are_not_cleaned_twice():
    text = "<b> &amp;amp;amp;lt; dog"
    caption = clean_caption(text)
    assert clean_caption(caption) != caption
    ids_L, _ = TokenMapper(TOKENIZER).encode(caption, words_of(caption))
    assert torch.equal(ids_L, TOKENIZER([text])[0])


@pytest.mark.parametrize("options", [{"clean": "canonicalize"}, {"clean": "whitespace"}, {"reduction_mask": "random"}])
def test_tokenizers_that_see_another_string_are_refused(options):
    with pytest.raises(VlalignError, match="clean='lower'"):
        TokenMapper(SimpleTokenizer(**options))


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory):
    """open_clip's wrapper around a WordPiece (bert) or a byte-level (roberta) tokenizer."""

    def make(kind, **options):
        folder = tiny_transformers.write(tmp_path_factory.mktemp(kind), kind)
        return HFTokenizer(folder, context_length=9, **{"clean": "lower", **options})

    return make


@pytest.mark.parametrize(
    ("kind", "owned"),
    [("bert", [-1, 0, 1, 2, 2, 2, 3, -1, -1]), ("roberta", None)],
)
def test_hugging_face_tokens_find_their_words(hugging_face, kind, owned):
    tokenizer = hugging_face(kind)
    mapper = token_mapper(tokenizer, 9)
    caption = "a red skateboarder above" if kind == "bert" else "a red dog"
    ids_L, word_L = mapper.encode(caption, words_of(caption))
    assert torch.equal(ids_L, tokenizer([caption])[0])
    if owned:
        assert word_L.tolist() == owned
    for index, word in enumerate(words_of(caption)):
        pieces = tokenizer.tokenizer.decode(ids_L[word_L == index].tolist())
        assert pieces.strip() == word.text


def test_hugging_face_truncates_as_its_tokenizer_does(hugging_face):
    tokenizer = hugging_face("bert")
    caption = " ".join(["dog"] * 20)
    ids_L, word_L = token_mapper(tokenizer, 9).encode(caption, words_of(caption))
    assert torch.equal(ids_L, tokenizer([caption])[0])
    assert word_L.tolist() == [-1, 0, 1, 2, 3, 4, 5, 6, -1]


def test_a_hugging_face_tokenizer_that_sees_another_string_is_refused(hugging_face):
    with pytest.raises(VlalignError, match=r"tokenizer_kwargs to \{clean: lower\}"):
        token_mapper(hugging_face("bert", clean="whitespace"), 9)


def test_other_tokenizers_are_refused():
    with pytest.raises(VlalignError, match="SimpleTokenizer"):
        token_mapper(object(), 9)
