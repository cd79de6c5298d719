"""Training and loading beside open_clip's own, on the same model, pictures, batch and threads: InfoNCE alone.

`step` runs `open_clip_train.main` and `vlalign pretrain` in turn and compares pairs per second over the steps after
the first ten: with everything that a step does, and without the wait for data. open_clip reads and decodes its shards
again in every epoch, and crops at random; vlalign keeps what it has decoded where all of it fits in memory. The whole
run has the imports of both. open_clip's clock includes its logging, vlalign's leaves out the progress bar. `loader`
compares pictures per second of one core.

    python benchmarks/training.py                  # about ten minutes
    python benchmarks/training.py loader
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import open_clip
import torch
from rich.console import Console
from rich.table import Table

from vlalign.data.scenes.dataset import split_samples
from vlalign.data.shards.manifest import write_split
from vlalign.models import create, tower_config
from vlalign.params import ModelParams, ScenesParams
from vlalign.records import read_record
from vlalign.training.data.batches import PairedSet

REPOSITORY = Path(__file__).parents[1]
WARM_UP = 10
# Of webdataset 1.0, which marks the ends of shards, a mark that open_clip_train 3.3 does not know.
MEND = (
    "import functools, open_clip_train.data as data; "
    "data.tar_file_expander = functools.partial(data.tar_file_expander, eof_value=None)"
)


def write_data(folder: Path, images: int, size: int) -> None:
    """Shards of pictures and one caption each, as both read them."""
    params = ScenesParams(image_size=size, captions=1)
    plain = (replace(sample, meta={}, instances=None) for sample in split_samples("train", images, params))
    write_split(folder, plain, source={}, shard_size=500, needs=("image", "captions"))


def environment(threads: int) -> dict[str, str]:
    """This one, with so many threads."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def train_open_clip(data: Path, tower: Path, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step, of it without data, and of the command."""
    shards = len(list(data.glob("*.tar")))
    command = [
        *("--train-data", f"{data}/{{000000..{shards - 1:06d}}}.tar", "--dataset-type", "webdataset"),
        *("--train-num-samples", str(options.steps * options.batch_size), "--model", tower.stem, "--device", "cpu"),
        *("--precision", "fp32", "--batch-size", str(options.batch_size), "--epochs", "1", "--lr", "1e-3"),
        *(
            "--warmup",
            "10",
            "--workers",
            str(options.workers),
            "--log-every-n-steps",
            "1",
            "--logs",
            str(data / "logs"),
        ),
        *("--name", f"run-{time.time_ns()}", "--save-frequency", "0", "--grad-clip-norm", "1.0"),
    ]
    code = (
        f"import sys, torch, open_clip; torch.set_num_threads({options.threads}); "
        f"open_clip.add_model_config({str(tower)!r}); {MEND}; from open_clip_train.main import main; main(sys.argv[1:])"
    )
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", code, *command],
        env=environment(options.threads),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    found = re.findall(r"Data \(t\): ([\d.]+) Batch \(t\): ([\d.]+)", result.stdout + result.stderr)
    if len(found) < options.steps:
        raise SystemExit(f"open_clip_train failed:\n{result.stderr[-3000:]}")
    return summary([(float(batch), float(waited)) for waited, batch in found], seconds)


def train_vlalign(data: Path, tower: Path, options: argparse.Namespace) -> dict[str, float]:
    """The same."""
    folder = data.parent / f"run-{time.time_ns()}"
    params = {
        "root": str(folder),
        "focus": "clip",
        "runs": {"arms": ["clip"]},
        "arms": {"clip": {}},
        "report": {"control": "clip"},
        "model": {"tower": str(tower), "pooling": "default"},
        "train": {"steps": options.steps, "batch_size": options.batch_size, "learning_rate": 1e-3},
        "runtime": {"log_every": 1, "workers": options.workers, "checkpoint_every": 10**6},
    }
    file = folder.with_suffix(".yaml")
    file.write_text(json.dumps(params))
    command = [
        *(sys.executable, "-m", "vlalign", "pretrain", "--params", str(file), "--run", "clip"),
        *("--data", str(data.parent), "--output", str(folder), "--threads", str(options.threads)),
    ]
    started = time.monotonic()
    subprocess.run(command, env=environment(options.threads), check=True, stderr=subprocess.DEVNULL)
    seconds = time.monotonic() - started
    header, *rows = (line.split(",") for line in (folder / "history.csv").read_text().splitlines())
    columns = header.index("pairs_per_second"), header.index("data_seconds")
    steps = [(options.batch_size / float(row[columns[0]]), float(row[columns[1]])) for row in rows]
    return summary(steps, seconds)


def summary(steps: list[tuple[float, float]], seconds: float) -> dict[str, float]:
    """Of (seconds of a step, seconds of it that were spent on data)."""
    settled = steps[WARM_UP:]
    return {
        "step": statistics.fmean(step for step, _ in settled),
        "computing": statistics.fmean(step - data for step, data in settled),
        "data": statistics.fmean(data for _, data in settled),
        "run": seconds,
    }


def open_clip_loader(data: Path, size: int, batch_size: int) -> float:
    """Pictures per second of one epoch of open_clip's webdataset pipeline, its random crop included."""
    from open_clip_train.data import get_wds_dataset
    from open_clip_train.params import parse_args

    exec(MEND, {})
    count = read_record(data / "manifest.json")["samples"]
    shards = len(list(data.glob("*.tar")))
    arguments = ["--train-data", f"{data}/{{000000..{shards - 1:06d}}}.tar", "--train-num-samples", str(count)]
    settings = parse_args([*arguments, "--batch-size", str(batch_size), "--workers", "0"])
    settings.world_size = 1
    transform = open_clip.image_transform(size, is_train=True)
    found = get_wds_dataset(settings, transform, True, floor=True, tokenizer=open_clip.SimpleTokenizer())
    return per_second(batch[0] for batch in found.dataloader)


def vlalign_loader(data: Path, tower: Path, batch_size: int) -> tuple[float, float]:
    """Pictures per second of the first epoch, in which they are read and kept, and of the second."""
    encoder = create(tower_config(ModelParams(tower=str(tower)).tower), pooling="default")
    loaded = PairedSet(data, encoder)
    steps = loaded.steps_per_epoch(batch_size)
    epochs = range(steps), range(steps, 2 * steps)
    first, second = (
        per_second(loaded.batch(seed=0, step=step, size=batch_size).images for step in epoch) for epoch in epochs
    )
    return first, second


def per_second(batches: Iterator[torch.Tensor]) -> float:
    """Rows per second."""
    started = time.perf_counter()
    count = sum(len(batch) for batch in batches)
    return count / (time.perf_counter() - started)


def compare_steps(data: Path, tower: Path, options: argparse.Namespace) -> Table:
    """Medians of both, and of the ratios of neighbours; above 1 vlalign is faster."""
    found: dict[str, list[dict[str, float]]] = {"open_clip_train": [], "vlalign": []}
    for _ in range(options.repeats):
        found["vlalign"].append(train_vlalign(data, tower, options))
        found["open_clip_train"].append(train_open_clip(data, tower, options))
    table = Table("", "pairs/s", "pairs/s without data", "data, % of a step", "whole run, s", title="Training")
    middle = {
        name: {key: statistics.median(run[key] for run in runs) for key in runs[0]} for name, runs in found.items()
    }
    for name, one in middle.items():
        rates = (f"{options.batch_size / one[key]:.1f}" for key in ("step", "computing"))
        table.add_row(name, *rates, f"{100 * one['data'] / one['step']:.1f}", f"{one['run']:.1f}")
    ratios = {
        key: statistics.median(
            theirs[key] / ours[key] for ours, theirs in zip(found["vlalign"], found["open_clip_train"], strict=True)
        )
        for key in ("step", "computing", "run")
    }
    table.add_row("ratio", f"{ratios['step']:.3f}", f"{ratios['computing']:.3f}", "", f"{ratios['run']:.3f}")
    return table


def compare_loaders(data: Path, tower: Path, options: argparse.Namespace) -> Table:
    """Medians of both."""
    torch.set_num_threads(1)
    size = json.loads(tower.read_text())["vision_cfg"]["image_size"]
    theirs, first, later = [], [], []
    for _ in range(options.repeats):
        once, again = vlalign_loader(data, tower, options.batch_size)
        first.append(once)
        later.append(again)
        theirs.append(open_clip_loader(data, size, options.batch_size))
    table = Table("", "pictures/s", title="Loading with one core")
    table.add_row("open_clip, every epoch", f"{statistics.median(theirs):.0f}")
    table.add_row("vlalign, first epoch", f"{statistics.median(first):.0f}")
    table.add_row("vlalign, later epochs", f"{statistics.median(later):.0f}")
    return table


def main() -> None:
    """Print a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=["step", "loader", []], help="step, loader; both if left out")
    parser.add_argument("--tower", type=Path, default=REPOSITORY / "config" / "towers" / "tiny.json")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=0, help="processes that load ahead, for both")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    size = json.loads(options.tower.read_text())["vision_cfg"]["image_size"]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "train"
        write_data(data, options.images, size)
        for case in options.cases or ["step", "loader"]:
            compare = {"step": compare_steps, "loader": compare_loaders}[case]
            Console().print(compare(data, options.tower.resolve(), options))


if __name__ == "__main__":
    main()
