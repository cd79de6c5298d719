"""One run from its params to its folder: what `vlalign pretrain` does."""

import logging
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from vlalign import freshness
from vlalign.errors import VlalignError
from vlalign.files import check_writable, remove_temporary, write_text
from vlalign.models import save, tower_config
from vlalign.params import Run, RunParams, RuntimeParams, digest, run_plugins
from vlalign.previous import RUN, slots, take_back
from vlalign.records import check_record, stamp, stamps, write_record
from vlalign.training.checkpoint import Checkpoints
from vlalign.training.data.inputs import Inputs
from vlalign.training.history import history_csv
from vlalign.training.loop import Trainer
from vlalign.training.processes import processes

logger = logging.getLogger(__name__)
HISTORY = "history.csv"


@dataclass(frozen=True)
class Places:
    """Where a run writes: its folder, its checkpoints, and the files of trackers, if there are any.

    previous: where its folder lies that was set aside (see `vlalign.previous`).
    """

    output: Path
    checkpoints: Path
    tracking: Path | None = None
    previous: Path | None = None


def pretrain(run: Run, *, seed: int, inputs: Inputs, places: Places, runtime: RuntimeParams | None = None) -> None:
    """Train a run with one seed and write its folder; as one of several under torchrun.

    Continues from the newest checkpoint that can be read, with the same weights as an uninterrupted run.

    Raises:
        VlalignError: when the checkpoints are of other params, a term or the gradient is not finite, an input is
            missing, or the disk is full.
        StoppedError: after SIGTERM or SIGINT, when the state is saved.
    """
    runtime, config, params = runtime or RuntimeParams(), run.config(), run.params
    for path in (places.output, places.checkpoints):
        check_writable(path)
    tower = tower_config(params.model.tower)
    identity = {"params": config["params"], "tower": tower, "seed": seed, "inputs": inputs.hashes(params.model)}
    summary = {**config, "seed": seed, "params_hash": digest(identity), "inputs": identity["inputs"]}
    summary |= provenance(params)
    # No weight depends on it, but the history does.
    summary["validation"] = stamp(inputs.validation / "manifest.json")["sha256"] if inputs.validation else None
    checkpoints = Checkpoints(places.checkpoints, identity=identity, policy=runtime, code=summary["code"])
    with processes() as team, checkpoints.lock(team):
        if team.largest(team.is_first and _is_finished(places, summary)):
            logger.info("%s is complete; delete it to train it again", places.output)
            return
        # On GPUs a few operations have no deterministic form; on CPUs all that are used here have one.
        torch.use_deterministic_algorithms(True, warn_only=team.device.type != "cpu")
        state = checkpoints.load()
        trainer = Trainer(params, seed=seed, inputs=inputs, team=team, runtime=runtime)
        trainer.train(checkpoints, state=state, title=f"{run.name} seed {seed}", tracking=places.tracking)
        if team.is_first:
            summary |= {"code": "+".join(sorted(checkpoints.codes)), "parameters": trainer.parameters()}
            _write(trainer, places.output, summary)
            checkpoints.clear()


def _is_finished(places: Places, summary: Mapping[str, Any]) -> bool:
    """Whether this run, trained by this code, is there: in its folder, or where finished results were set aside."""
    if _is_complete(places.output, summary):
        return True
    known = slots(places.previous, RUN) if places.previous else []
    same = (slot for slot in known if _is_complete(slot, summary))
    return any(take_back(slot, places.output, record=RUN) for slot in same)


def _is_complete(folder: Path, summary: Mapping[str, Any]) -> bool:
    try:
        record = check_record(folder / RUN)
    except VlalignError:
        return False
    return all(record.get(key) == summary[key] for key in ("params_hash", "code", "validation"))


def _write(trainer: Trainer, output: Path, summary: Mapping[str, Any]) -> None:
    """run.json comes last: it vouches for the others."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        remove_temporary(output)
        names = save(trainer.encoder, output)
        write_text(output / HISTORY, history_csv(trainer.history))
        write_record(output / RUN, {**summary, "files": stamps(output, [*names, HISTORY])})
    except (OSError, SafetensorError) as error:
        raise VlalignError(
            f"{output} cannot be written ({error}); mend that and run the same command again: it continues from the "
            "last step"
        ) from error


def provenance(params: RunParams) -> dict[str, Any]:
    """Versions, commit and code, for run.json."""
    packages = ("vlalign", "torch", "open_clip_torch", "timm", "stanza", "snakemake", "dvc")
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "git_commit": git_commit(),
        "code": freshness.digest("pretrain", **run_plugins(params)),
    }


def git_commit() -> str | None:
    """The commit of the code, if git knows it: an environment may lie inside another project's checkout."""
    here = Path(__file__)
    git = ("git", "-C", str(here.parent))
    try:
        known = subprocess.run([*git, "ls-files", "--error-unmatch", here.name], capture_output=True, check=False)
        if known.returncode != 0:
            return None
        return subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
