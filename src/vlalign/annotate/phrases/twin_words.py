"""English words that twins of captions are made with. A general table: nothing in it comes from a dataset."""

# Either stands for the other; a caption with one of them in the place of the other says something else.
PAIRS = (
    ("left", "right"), ("above", "below"), ("over", "under"), ("top", "bottom"), ("upper", "lower"), ("front", "back"),
    ("in front of", "behind"), ("inside", "outside"), ("indoors", "outdoors"), ("upstairs", "downstairs"),
    ("up", "down"), ("near", "far from"), ("first", "last"), ("large", "small"), ("big", "little"), ("huge", "tiny"),
    ("tall", "short"), ("wide", "narrow"), ("thick", "thin"), ("high", "low"), ("young", "old"), ("hot", "cold"),
    ("wet", "dry"), ("clean", "dirty"), ("full", "empty"), ("open", "closed"), ("bright", "dark"), ("hard", "soft"),
    ("fast", "slow"), ("happy", "sad"), ("male", "female"),
)  # fmt: skip
# Words that are the opposite of none of these, but have one.
OTHERS = {
    "beneath": "above", "underneath": "above", "on top of": "under", "rear": "front", "close to": "far from",
    "long": "short", "new": "old", "light": "dark",
}  # fmt: skip
OPPOSITES = {**dict(PAIRS), **{second: first for first, second in PAIRS}, **OTHERS}

# Nouns that name no object but where one is.
PLACES = frozenset((
    "left", "right", "top", "bottom", "front", "back", "rear", "inside", "outside", "side", "middle", "center",
    "centre", "corner", "edge", "foreground",
))  # fmt: skip
# Words that join what stands on either side of them without saying which is which: "a and b", "a is next to b".
CONNECTORS = frozenset((
    "and", "or", "nor", "plus", "&", ",", ";", ".", ":", "with", "together", "along", "alongside", "near", "beside",
    "by", "next", "close", "adjacent", "to", "is", "are", "was", "were", "be", "being",
))  # fmt: skip

# Tags of the Penn Treebank and of Universal Dependencies.
CONJUNCTIONS = frozenset({"CC", "CCONJ"})
NOUNS = frozenset({"NN", "NNS", "NNP", "NNPS", "NOUN", "PROPN"})
ADJECTIVES = frozenset({"JJ", "JJR", "JJS", "ADJ"})
NUMBERS = frozenset({"CD", "NUM"})
VERBS = frozenset({"VB", "VBD", "VBG", "VBN", "VBP", "VBZ", "VERB"})
