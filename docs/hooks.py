"""What mkdocs calls while it builds the site: pages are made from the code, and formulas become MathML."""

import html
import re
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

import reference
from vlalign import params

# As pymdownx.arithmatex marks formulas: within a line, and standing by themselves.
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)

# Functions, which stand apart from what is around them: latex2mathml sets them like variables.
FUNCTION = re.compile(r"<mi>(log|cosh|tanh)</mi>(?!<mo)")
SPACE = '<mspace width="0.17em"/>'


def on_files(files: Files, config: Any) -> Files:
    """Add the reference of params and of commands."""
    pages = {"params": reference.params_page(params.schema()), "commands": reference.commands_page()}
    for name, content in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the lists of suites and cards where the page of cards asks for them."""
    return markdown.replace(reference.CARDS, reference.cards_lists()) if reference.CARDS in markdown else markdown


def on_page_content(content: str, **_: Any) -> str:
    """Put MathML in the place of LaTeX."""
    return FORMULA.sub(lambda found: _formula(found[2], is_block=found[1] == "div"), content)


def _formula(latex: str, *, is_block: bool) -> str:
    formula = str(convert(html.unescape(latex).strip(), display="block" if is_block else "inline"))
    return FUNCTION.sub(rf"{SPACE}<mi>\1</mi>{SPACE}", formula)
