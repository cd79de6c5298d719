"""`vlalign parser`."""

from typing import Annotated

import typer

from vlalign import params as parameters
from vlalign.cli.options import Config, Output, values


def parser(
    config: Config, output: Output, classes: Annotated[int, typer.Option(help="Classes of the grammar.")]
) -> None:
    """Train the tiny constituency parser, or download Stanza's."""
    settings = parameters.ParserParams.model_validate(values(config))
    if settings.source == "download":
        from vlalign.annotate.download import download_parser

        download_parser(output, language=settings.language, package=settings.package)
    else:
        from vlalign.annotate.tiny_parser import train_parser

        train_parser(output, seed=settings.seed, trees=settings.trees, epochs=settings.epochs, classes=classes)
