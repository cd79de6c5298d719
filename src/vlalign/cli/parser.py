"""`vlalign parser`."""

from vlalign.cli.options import Changes, Digest, OwnOutput, ParamsFiles, given


def parser(
    changes: Changes = None, params: ParamsFiles = None, output: OwnOutput = None, digest: Digest = None
) -> None:
    """Train the tiny constituency parser, or download Stanza's."""
    told = given(params, changes).agree(digest, "parser")
    settings, folder = told.params.annotate.parser, told.output(output, told.folders.parser)
    if settings.source == "download":
        from vlalign.annotate.phrases.download import download_parser

        download_parser(folder, language=settings.language, package=settings.package)
    else:
        from vlalign.annotate.phrases.tiny_parser import train_parser

        classes = told.params.scenes.classes
        train_parser(folder, seed=settings.seed, trees=settings.trees, epochs=settings.epochs, classes=classes)
