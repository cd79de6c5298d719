"""`vlalign collect`."""

from vlalign.cli.options import Output, Runs


def collect(run: Runs, output: Output) -> None:
    """Gather the metrics of runs into one JSON file with mean and standard deviation over seeds."""
    from vlalign.reporting.collect import collect_metrics

    collect_metrics(run, output)
