"""The pages of the documentation, and the code that stands in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def blocks(page: str) -> list[str]:
    """Every block of Python of a page, which is named by its path from the repository."""
    return re.findall(r"^```python.*?\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def block(page: str, word: str) -> str:
    """The only block of Python of a page that has a word in it."""
    (found,) = (text for text in blocks(page) if word in text)
    return found
