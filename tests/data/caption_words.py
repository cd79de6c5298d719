"""What captions say, read from their words alone."""

import re

from vlalign.data.scenes.scene import CLASSES, PLURALS, TINTS

NUMBERS = {"a": 1, "two": 2, "three": 3}
SINGULAR = {PLURALS.get(name, f"{name}s"): name for name in CLASSES}
NOUNS = "|".join(sorted({*CLASSES, *SINGULAR}, key=len, reverse=True))
NOUN_PHRASE = re.compile(rf"\b(a|two|three)(?: (large|small))?(?: ({'|'.join(TINTS)}))? ({NOUNS})\b")


def named(words):
    """(count, size, tint, class) of every object group that a caption names, read from its words alone."""
    for count, size, tint, noun in NOUN_PHRASE.findall(words):
        number = NUMBERS[count]
        yield number, size or None, tint or None, noun if number == 1 else SINGULAR[noun]
