"""One run from its params to its folder: what `vlalign pretrain` does."""

import contextlib
import logging
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vlalign.files import read_json, remove_temporary, write_json, write_text
from vlalign.models import save
from vlalign.models.towers import tower_config
from vlalign.params import RunParams, RuntimeParams, digest
from vlalign.training.checkpoint import Checkpoints
from vlalign.training.history import history_csv
from vlalign.training.inputs import Inputs
from vlalign.training.loop import Trainer
from vlalign.training.processes import processes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Places:
    """Where a run writes: its folder, its checkpoints, and the files of trackers, if there are any."""

    output: Path
    checkpoints: Path
    tracking: Path | None = None


def pretrain(
    config: Mapping[str, Any], *, seed: int, inputs: Inputs, places: Places, runtime: RuntimeParams | None = None
) -> None:
    """Train the run of `config` (see `params.Run.config`) and write its folder; as one of several under torchrun.

    Continues from the newest checkpoint that can be read, with the same weights as an uninterrupted run.

    Raises:
        VlalignError: when the checkpoints are of other params, a term or the gradient is not finite, an input is
            missing, or the disk is full.
        StoppedError: after SIGTERM or SIGINT, when the state is saved.
    """
    runtime = runtime or RuntimeParams()
    params = RunParams.model_validate(config["params"])
    tower = tower_config(params.model.tower)
    identity = {"params": config["params"], "tower": tower, "seed": seed, "inputs": inputs.hashes()}
    summary = {**config, "seed": seed, "params_hash": digest(identity)}
    checkpoints = Checkpoints(places.checkpoints, identity=identity, policy=runtime)
    with processes() as team, checkpoints.lock() if team.is_first else contextlib.nullcontext(False) as waited:
        # Here the others wait until the first one holds the lock.
        if team.largest(waited and _is_complete(places.output, summary)):
            logger.info("the process before has completed %s", places.output)
            return
        state = checkpoints.load()
        trainer = Trainer(params, seed=seed, inputs=inputs, team=team, runtime=runtime)
        title = f"{config['run']} seed {seed}"
        trainer.train(checkpoints, state=state, title=title, tracking=places.tracking)
        if team.is_first:
            _write(trainer, places.output, summary)
            checkpoints.clear()


def _is_complete(output: Path, summary: Mapping[str, Any]) -> bool:
    """Whether the folder is that of this run; run.json is its last file."""
    path = output / "run.json"
    return path.is_file() and read_json(path)["params_hash"] == summary["params_hash"]


def _write(trainer: Trainer, output: Path, summary: Mapping[str, Any]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    remove_temporary(output)
    save(trainer.encoder, output)
    write_text(output / "history.csv", history_csv(trainer.history))
    write_json(output / "run.json", {**summary, **provenance()})


def provenance() -> dict[str, Any]:
    """Versions and commit, for run.json."""
    packages = ("vlalign", "torch", "open_clip_torch", "timm", "stanza", "snakemake", "dvc")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "git_commit": git_commit(),
    }


def git_commit() -> str | None:
    """The commit of the folder that the code lies in, if it is a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None if result.returncode == 0 else None
