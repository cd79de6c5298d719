"""One subcommand per rule of the workflow, and a few for people.

Commands import what they need when they run, so that `--help` answers at once.
"""

import errno
import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.logging import RichHandler
from rich.text import Text

from vlalign import params as parameters
from vlalign.console import console
from vlalign.errors import VlalignError
from vlalign.redact import Redaction, redacted

app = typer.Typer(
    help="Fine-grained and distributional vision-language alignment. The workflow calls these commands; "
    "start with `snakemake --cores all all`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Config = Annotated[str, typer.Option(help="The step's own part of params.yaml, as JSON.")]
How = Annotated[str, typer.Option(help="Further keys of --config, which change how the step works, not its result.")]
Output = Annotated[Path, typer.Option(help="Where to write.")]
Previous = Annotated[
    Path | None, typer.Option(help="Where the output was set aside: taken back if nothing has changed since.")
]
Split = Annotated[Path, typer.Option(help="Folder of shards with its manifest.json.")]

# Set to 1, errors of disk and memory show where they were raised.
TRACEBACK = "VLALIGN_TRACEBACK"
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room on the disk and run the same command again"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "change its permissions or give another path"),
}


def main() -> None:
    """Run a command; mistakes that the user can mend end with one message and exit code 1."""
    # Of the processes that torchrun starts, the first one talks; the others, when something is wrong with them alone.
    first = os.environ.get("RANK", "0") == "0"
    # A log file is searched: its lines are not folded.
    handler = RichHandler(console=console, show_path=False, show_time=False) if console.is_terminal else None
    logging.basicConfig(
        level=logging.INFO if first else logging.ERROR,
        format="%(message)s" if handler else "%(levelname)-8s %(message)s",
        handlers=[handler] if handler else None,
    )
    for known in logging.getLogger().handlers:
        known.addFilter(Redaction())
    try:
        app()
    except VlalignError as error:
        if error.exit_code == 1 or first:
            _fail(str(error), code=error.exit_code)
        sys.exit(error.exit_code)
    except ValidationError as error:
        _fail(f"--config is not valid:\n{parameters.describe(error)}")
    except (OSError, MemoryError, RecursionError) as error:
        if os.environ.get(TRACEBACK) == "1":
            raise
        _fail(f"{_of_surroundings(error)}. With {TRACEBACK}=1 in the environment, a traceback shows where it was")


def _of_surroundings(error: BaseException) -> str:
    """What disk, memory or a file has to do with an error that no command foresaw, and what to do."""
    if isinstance(error, MemoryError):
        return f"memory does not suffice ({error}); take smaller batches or fewer workers, and check the files it reads"
    if isinstance(error, RecursionError):
        return "something that was read is nested too deeply; check the files and options that were given"
    number = getattr(error, "errno", None)
    file, reason = getattr(error, "filename", None), getattr(error, "strerror", None) or str(error)
    remedy = REMEDIES.get(number or 0, "mend that and run the same command again")
    return f"{file}: {reason}; {remedy}" if file else f"{reason}; {remedy}"


def _fail(message: str, *, code: int = 1) -> NoReturn:
    # Neither markup nor folded: messages hold paths, and are searched for in log files.
    console.print(Text.assemble(("error: ", "bold red"), redacted(message)), soft_wrap=True)
    sys.exit(code)


def _config(text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise VlalignError(f"--config is not JSON: {error}") from None


def _runtime(text: str) -> parameters.RuntimeParams:
    try:
        return parameters.RuntimeParams.model_validate(_config(text))
    except ValidationError as error:
        raise VlalignError(f"--runtime is not valid:\n{parameters.describe(error)}") from None


@app.command()
def dataset(config: Config, output: Output) -> None:
    """Make the embedded dataset: shards, zero-shot set, hard negatives, contact sheet."""
    from vlalign.data import scenes

    scenes.build(output, parameters.ScenesParams.model_validate(_config(config)))


@app.command()
def shards(
    config: Config,
    output: Output,
    base: Annotated[Path, typer.Option(help="Folder that relative paths of --config start from.")] = Path(),
    key: Annotated[str, typer.Option(help="The source's key in params.yaml, for messages.")] = "source",
    classes: Annotated[bool, typer.Option(help="The split needs names of classes and templates of prompts.")] = False,
    how: How = "{}",
) -> None:
    """Bring the shards of a split: download them, pack single files, or list those that are there."""
    from pydantic import TypeAdapter

    from vlalign.data.bring import bring

    source: parameters.Source = TypeAdapter(parameters.AnySource).validate_python(_config(config) | _config(how))
    bring(source.with_secrets(), output, base=base, key=key, classes=classes)


Part = Annotated[
    str | None, typer.Option(help="K-of-N: only the K-th of N parts of the shards, from 0, to be gathered.")
]


@app.command()
def verify(
    split: Annotated[Path, typer.Option(help="Folder of the split with its shards.json.")],
    needs: Annotated[list[str], typer.Option(help="What samples must have: image, captions, label; repeat.")],
    config: Config = "{}",
    part: Part = None,
    how: How = "{}",
) -> None:
    """Check every sample of a split, count what is bad by its cause, and write indices and manifest."""
    from vlalign.data.manifest import verify_split

    verify_split(split, parameters.VerifyParams.model_validate(_config(config) | _config(how)), needs=needs, part=part)


@app.command()
def parser(
    config: Config, output: Output, classes: Annotated[int, typer.Option(help="Classes of the grammar.")]
) -> None:
    """Train the tiny constituency parser, or download Stanza's."""
    settings = parameters.ParserParams.model_validate(_config(config))
    if settings.source == "download":
        from vlalign.annotate.download import download_parser

        download_parser(output, language=settings.language, package=settings.package)
    else:
        from vlalign.annotate.tiny_parser import train_parser

        train_parser(output, seed=settings.seed, trees=settings.trees, epochs=settings.epochs, classes=classes)


@app.command()
def phrases(
    config: Config,
    split: Split,
    model: Annotated[Path, typer.Option(help="Stanza model folder.")],
    output: Output,
    part: Part = None,
    how: How = "{}",
) -> None:
    """Parse the captions of a split into phrases."""
    from vlalign.annotate.phrases import parse_split

    settings = parameters.ParserParams.model_validate(_config(config) | _config(how))
    parse_split(
        split,
        model,
        output,
        max_words=settings.max_words,
        batch_size=settings.batch_size,
        max_skipped=settings.max_skipped,
        long_captions=settings.long_captions,
        device=settings.device,
        part=part,
    )


@app.command()
def regions(
    config: Config,
    split: Split,
    output: Output,
    part: Part = None,
    device: Annotated[str, typer.Option(help="Where a model segments; auto: a GPU if there is one.")] = "auto",
    how: How = "{}",
) -> None:
    """Find the regions of every image of a split."""
    from vlalign.annotate.regions import annotate_split

    settings = parameters.RegionsParams.model_validate(_config(config) | _config(how))
    annotate_split(split, output, settings, part=part, device=device)


@app.command()
def pretrain(
    config: Config,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and captions.")],
    split: Split,
    output: Output,
    checkpoints: Annotated[Path, typer.Option(help="Folder of the checkpoints to resume from.")],
    phrases: Annotated[Path | None, typer.Option(help="Annotation folder of the split's phrases.")] = None,
    regions: Annotated[Path | None, typer.Option(help="Annotation folder of the split's regions.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Folder of the validation split's shards.")] = None,
    unpaired_images: Annotated[Path | None, typer.Option(help="Folder of images without captions.")] = None,
    unpaired_captions: Annotated[Path | None, typer.Option(help="Folder of captions without images.")] = None,
    runtime: Annotated[str, typer.Option(help="The `runtime` part of params.yaml, as JSON.")] = "{}",
    tracking: Annotated[
        Path | None, typer.Option(help="Folder of this run's trackers, whose files there are replaced.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes on this machine that share every batch, one for each GPU.")
    ] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads, which the processes share.")] = 1,
    previous: Previous = None,
) -> None:
    """Train one run with one seed; a run that was killed continues from its last checkpoint.

    --config holds `run`, its name, and `params` with model, train and objective, as the workflow gives them.

    On several machines, start it with `torchrun ... -m vlalign pretrain` on each.
    """
    import torch

    from vlalign.training.inputs import Inputs
    from vlalign.training.pretrain import Places, pretrain
    from vlalign.training.processes import is_one_of_several, neighbours, start

    watched = _runtime(runtime)
    if watched.trackers and tracking is None:
        raise VlalignError("--runtime names trackers: give the folder that they shall write to (--tracking)")
    if processes > 1 and not is_one_of_several():
        start(processes, sys.argv[1:])
    torch.set_num_threads(max(1, threads // neighbours()))
    pretrain(
        _config(config),
        seed=seed,
        inputs=Inputs(split, phrases, regions, validation, unpaired_images, unpaired_captions),
        places=Places(output, checkpoints, tracking, previous),
        runtime=watched,
    )


Runs = Annotated[list[Path], typer.Option(help="Folder of one run and seed; repeat for more.")]
Data = Annotated[Path, typer.Option(help="Folder of the dataset.")]
Annotations = Annotated[Path, typer.Option(help="Folder of the annotations.")]


@app.command()
def evaluate(
    run: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: Data,
    annotations: Annotations,
    output: Output,
    config: Config = "{}",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    previous: Previous = None,
) -> None:
    """Measure one run, or another model that open_clip reads: one JSON file for each benchmark.

    A run whose metrics go into its own folder also gets its model card there, README.md. What is measured, and the
    headline numbers, are logged.
    """
    import torch

    from vlalign.evaluation.run import evaluate, subject
    from vlalign.reporting.card import has_card, write_card
    from vlalign.reporting.metrics import take_measured

    torch.set_num_threads(threads)
    # Before the long measuring: what is wrong with the run's record would be found after it.
    carded = output.resolve() == (run / "metrics").resolve() and has_card(run)
    settings = parameters.EvaluationParams.model_validate(_config(config))
    asked: dict[str, Any] = {
        "data": data,
        "annotations": annotations,
        "split": settings.split,
        "benchmarks": settings.benchmarks,
    }
    if not take_measured(previous, output, subject(run, **asked)):
        evaluate(run, **asked, output_dir=output, batch_size=settings.batch_size)
    if carded:
        write_card(run)


@app.command()
def precision(
    run: Annotated[Path, typer.Argument(help="Folder of a run, such as results/runs/powerclip/seed-0.")],
    config: Config = "{}",
    split: Split = Path("data/scenes/validation"),
    annotations: Annotations = Path("data/annotations/scenes"),
    output: Annotated[Path | None, typer.Option(help="CSV file to write in place of a table on the terminal.")] = None,
) -> None:
    """Measure the aggregators against the exact powerset on random, clustered and the run's own features."""
    from rich.console import Console

    from vlalign.evaluation.precision import precision_rows, precision_table, write_precision

    settings = parameters.PrecisionParams.model_validate(_config(config))
    phrases, regions = (annotations / kind / split.name for kind in ("phrases", "regions"))
    rows = precision_rows(run, split, phrases, regions, settings)
    if output is not None:
        write_precision(rows, output, run=run)
    else:
        Console().print(precision_table(rows))


@app.command()
def illustrate(
    run: Runs,
    data: Data,
    annotations: Annotations,
    output: Output,
    split: Annotated[str, typer.Option(help="Split that is shown.")],
    compared: Annotated[list[str], typer.Option(help="Run whose similarities are drawn; repeat.")],
) -> None:
    """Draw region-phrase similarities and embeddings of runs."""
    from vlalign.evaluation.illustrate import illustrate

    named = {folder.parent.name: folder for folder in run}
    illustrate(named, data=data, annotations=annotations, split=split, compared=tuple(compared), output=output)


@app.command()
def collect(run: Runs, output: Output) -> None:
    """Gather the metrics of runs into one JSON file with mean and standard deviation over seeds."""
    from vlalign.reporting.collect import collect_metrics

    collect_metrics(run, output)


@app.command()
def focus(
    metrics: Annotated[Path, typer.Option(help="JSON file of `vlalign collect`.")],
    run: Annotated[Path, typer.Option(help="Folder of the run's first seed.")],
    output: Output,
) -> None:
    """Put one run's metrics, params and history at the root, for `dvc metrics`, `dvc params` and `dvc plots`."""
    from vlalign.reporting.collect import focus_files

    focus_files(metrics, run, output)


@app.command()
def report(
    config: Config,
    metrics: Annotated[Path, typer.Option(help="JSON file of `vlalign collect`.")],
    run: Runs,
    precision: Annotated[Path, typer.Option(help="CSV file of `vlalign precision`.")],
    figures: Annotated[Path, typer.Option(help="Folder of the drawn figures.")],
    tables: Annotated[Path, typer.Option(help="Folder for the tables.")],
    output: Output,
    manifest: Annotated[list[Path], typer.Option(help="Manifest of data to name, the training split's first; repeat.")],
    held_out: Annotated[
        list[Path] | None, typer.Option(help="Manifest of a split to look for images of the training split in; repeat.")
    ] = None,
) -> None:
    """Write the tables, the figures and the report."""
    from vlalign.reporting.everything import write_everything

    settings = parameters.ReportParams.model_validate(_config(config))
    write_everything(
        metrics,
        run,
        precision=precision,
        figures=figures,
        tables=tables,
        output=output,
        manifests=manifest,
        held_out=held_out or (),
        baseline=settings.baseline,
        control=settings.control,
    )


@app.command()
def push(
    run: Annotated[Path, typer.Argument(help="Folder of a trained and evaluated run.")],
    repository: Annotated[str, typer.Argument(help="Such as user/name; made if it does not exist.")],
    private: Annotated[bool, typer.Option(help="Make it a private one.")] = False,
) -> None:
    """Upload a run with its model card to the Hugging Face hub, where open_clip's `hf-hub:` finds it.

    Log in with `hf auth login` first.
    """
    from vlalign.models.export import push

    try:
        print(push(run, repository, private=private))
    except VlalignError:
        raise
    except Exception as error:  # of the hub, of its HTTP client, or of the network
        raise VlalignError(
            f"{repository} on the hub cannot be written ({error}); is there a connection, and did `hf auth login`?"
        ) from None


@app.command()
def experiments(
    names: Annotated[list[str] | None, typer.Argument(help="Runs; all of them if left out.")] = None,
    params: Annotated[Path, typer.Option(help="params.yaml of the repository.")] = Path("params.yaml"),
) -> None:
    """Make every arm and ablation run a DVC experiment, without training anything again."""
    from vlalign.experiments import make_experiments

    make_experiments(names or list(parameters.load(params).all_runs))


@app.command()
def check(
    folder: Annotated[
        Path, typer.Argument(help="What the workflow calls `root`: the repository, or an overlay's.")
    ] = Path(),
) -> None:
    """Compare every file of a workspace with the record of the step that wrote it, and say what mends each.

    Exit code 1 when something is damaged, missing or stale; what is merely foreign is told.
    """
    from vlalign.check import bytes_to_check, check_workspace
    from vlalign.console import progress

    if not any((folder / name).is_dir() for name in ("data", "results")):
        raise VlalignError(f"{folder} is no workspace: it has neither data nor results; give what params call `root`")
    with progress("checking", total=bytes_to_check(folder)) as advance:
        findings = list(check_workspace(folder, advance=advance))
    for finding in findings:
        said = (f"{finding.path} {finding.reason}", finding.remedy)
        what, remedy = (text if text.isprintable() else ascii(text) for text in said)
        print(f"{finding.kind}\t{what}\n\tto mend: {remedy}")
    wrong = sum(finding.kind != "foreign" for finding in findings)
    print(f"{folder}: {wrong} files to mend, {len(findings) - wrong} foreign")
    if wrong:
        raise typer.Exit(1)


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(help="params.yaml, then overlays.")],
) -> None:
    """Check params files, and that the data they name are there, and list the runs that they describe."""
    from vlalign.data.present import check_sources

    loaded = parameters.load(*files)
    parameters.check_root(loaded)
    check_sources(loaded)
    for run in loaded.all_runs.values():
        print(f"{run.name}\tseeds {', '.join(map(str, run.seeds))}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of params.yaml."""
    print(json.dumps(parameters.schema(), indent=2, sort_keys=True))
