"""The pages of the documentation, and the code that stands in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def block(page: str, word: str, *, language: str = "python") -> str:
    """The only block of a page in a language that has a word in it; page: its path from the repository."""
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(rf"^```{language}.*?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (found,) = (block for block in blocks if word in block)
    return found
