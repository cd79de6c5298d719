"""`vlalign collect`."""

from vlalign.cli.options import Output, Runs


def collect(run: Runs, output: Output) -> None:
    """Gather the metrics of runs into one JSON file: a row for every number that was measured."""
    from vlalign.reporting.collect import collect_metrics

    collect_metrics(run, output)
