"""The training loop of one run: explicit, deterministic, resumable."""

import contextlib
import csv
import io
import logging
import platform
import subprocess
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from vlalign.console import console
from vlalign.data.shards import fingerprint
from vlalign.errors import VlalignError
from vlalign.files import write_json, write_text
from vlalign.models import DualEncoder, create, save
from vlalign.models.towers import tower_config
from vlalign.params import RunParams, digest
from vlalign.training.batches import Batch, PairedSet, generator
from vlalign.training.checkpoint import Checkpoint
from vlalign.training.gradients import accumulate
from vlalign.training.objective import Features, Objective
from vlalign.training.optim import learning_rate, optimizer
from vlalign.training.processes import Processes

logger = logging.getLogger(__name__)

TERMS = ("contrastive", "powerset", "cs", "cs_tokens")
SPEED = ("pairs_per_second", "data_seconds")
STATISTICS = ("positive_share", "score_sd", "caption_share", "cost")
COLUMNS = ("step", "lr", "loss", *TERMS, *STATISTICS, "logit_scale", "grad_norm", *SPEED)
# As in CLIP: the temperature never falls below 0.01.
MAX_LOGIT_SCALE = 4.6052


@dataclass(frozen=True)
class Inputs:
    """Where a run reads from; the annotations are needed by the powerset loss alone."""

    split: Path
    phrases: Path | None = None
    regions: Path | None = None

    def hashes(self) -> dict[str, str]:
        """SHA-256 of the manifests."""
        folders = {"split": self.split, "phrases": self.phrases, "regions": self.regions}
        return {name: fingerprint(path / "manifest.json")["sha256"] for name, path in folders.items() if path}


def pretrain(config: dict[str, Any], *, seed: int, inputs: Inputs, output: Path, checkpoints: Path) -> None:
    """Train the run of `config` (see `params.Run.config`) and write its folder.

    Continues from the last checkpoint of the same params and data, with the same weights as an uninterrupted run.
    Raises VlalignError when a term of the loss is not finite or an input is missing.
    """
    params = RunParams.model_validate(config["params"])
    torch.use_deterministic_algorithms(True)
    params_hash = digest([config["params"], tower_config(params.model.tower), seed, inputs.hashes()])
    checkpoint = Checkpoint(checkpoints)
    with checkpoint.lock():
        trainer = Trainer(params, seed=seed, inputs=inputs)
        state = checkpoint.load(params_hash=params_hash)
        if state is not None:
            trainer.restore(state)
            logger.info("continuing %s, seed %d, at step %d", config["run"], seed, trainer.step)
        trainer.train(checkpoint, params_hash=params_hash, title=f"{config['run']} seed {seed}")
        save(trainer.encoder, output)
        write_text(output / "history.csv", history_csv(trainer.history))
        write_json(output / "run.json", {**config, "seed": seed, "params_hash": params_hash, **provenance()})
        checkpoint.clear()


class Model(nn.Module):
    """Towers and objective as one module: what DDP wraps, and whose parameters are trained."""

    def __init__(self, encoder: DualEncoder, objective: Objective) -> None:
        super().__init__()
        self.encoder, self.objective = encoder, objective

    def forward(self, batch: Batch) -> Features:
        """What every pair contributes to the losses by itself."""
        image, text = self.encoder(batch.images, batch.tokens)
        return self.objective.features(image, text, self.encoder.logit_scale, batch)


AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Trainer:
    """Model and optimiser of one run, and the rows of its history."""

    def __init__(self, params: RunParams, *, seed: int, inputs: Inputs, team: Processes | None = None) -> None:
        self.params, self.seed, self.step = params, seed, 0
        self.team = team or Processes()
        self.history: list[dict[str, float]] = []
        torch.manual_seed(generator(seed, "weights").initial_seed())
        self.encoder = create(tower_config(params.model.tower), pooling=params.model.pooling).train()
        self.objective = Objective(params.objective, group=self.team.group)
        self.model = Model(self.encoder, self.objective).to(self.team.device)
        self.parallel = self.team.parallel(self.model)
        self.optimizer = optimizer(self.encoder, self.objective, params.train)
        self.scaler = torch.GradScaler(self.team.device.type, enabled=params.train.autocast == "fp16")
        powerset = params.objective.powerset
        self.data = PairedSet(
            inputs.split,
            self.encoder,
            phrases=inputs.phrases if powerset.weight else None,
            regions=inputs.regions if powerset.weight else None,
            phrase_choice=powerset.phrases,
            region_choice=powerset.regions,
        )
        if powerset.weight and (self.data.phrases is None or self.data.regions is None):
            raise VlalignError("objective.powerset.weight is above 0: give --phrases and --regions")

    def state(self) -> dict[str, Any]:
        """All that the next step depends on; the random state is a function of (seed, step)."""
        return {
            "step": self.step,
            "encoder": self.encoder.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": self.history,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue after the step of `state`."""
        self.encoder.load_state_dict(state["encoder"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.history = state["step"], state["history"]

    def train(self, checkpoint: Checkpoint, *, params_hash: str, title: str) -> None:
        """Take the remaining steps."""
        train = self.params.train
        with progress_bar() as bar:
            task = bar.add_task(title, total=train.steps, completed=self.step, terms="")
            while self.step < train.steps:
                row = self.take_step()
                bar.update(task, completed=self.step, terms=describe(row, train.batch_size))
                if self._is_logged():
                    self.history.append(row)
                if self.step % train.checkpoint_every == 0 and self.step < train.steps:
                    checkpoint.save({**self.state(), "params_hash": params_hash})
                    logger.info("%s, step %d of %d: %s", title, self.step, train.steps, describe(row, train.batch_size))

    def take_step(self) -> dict[str, float]:
        """One optimisation step; returns its row of the history."""
        train, started = self.params.train, time.perf_counter()
        batch = self.data.batch(seed=self.seed, step=self.step, size=train.batch_size, share=self.team.share)
        loaded = time.perf_counter()
        rate = learning_rate(self.step, train)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        # What dropout draws is a function of the step, so that a resumed run draws the same.
        torch.manual_seed(generator(self.seed, "dropout", self.step, self.team.rank).initial_seed())
        self.optimizer.zero_grad(set_to_none=True)
        total, terms, features = accumulate(
            batch.to(self.team.device).split(train.accumulate),
            self._encode,
            self._loss,
            scaled=self.scaler.scale,
            unsynchronised=getattr(self.parallel, "no_sync", contextlib.nullcontext),
        )
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.encoder.parameters(), train.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        with torch.no_grad():
            self.encoder.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        self.step += 1
        row = {"step": self.step, "lr": rate, "loss": total.item()}
        row |= {name: term.item() for name, term in terms.items()}
        if self.params.objective.powerset.weight and self._is_logged():
            row |= self.objective.score_statistics(features, **self._drawn(self.step - 1))
        row |= {"logit_scale": self.encoder.logit_scale.exp().item(), "grad_norm": norm.item()}
        return row | {
            "pairs_per_second": train.batch_size / (time.perf_counter() - started),
            "data_seconds": loaded - started,
        }

    def _encode(self, part: Batch) -> Features:
        kind = self.params.train.autocast
        with torch.autocast(self.team.device.type, dtype=AUTOCAST.get(kind), enabled=kind in AUTOCAST):
            return self.parallel(part)

    def _loss(self, features: Features) -> tuple[Tensor, dict[str, Tensor]]:
        total, terms = self.objective(features, **self._drawn(self.step))
        self._check_finite(terms)
        return total, terms

    def _drawn(self, step: int) -> dict[str, Any]:
        """What the objective needs to know of a step: the same subsets in all processes, and how far training is."""
        progress = step / max(1, self.params.train.steps - 1)
        return {"generator": generator(self.seed, "subsets", step), "progress": progress}

    def _is_logged(self) -> bool:
        """The first step, which shows where training starts, every so many, and the last."""
        train = self.params.train
        return self.step in (1, train.steps) or self.step % train.log_every == 0

    def _check_finite(self, terms: dict[str, torch.Tensor]) -> None:
        for name, term in terms.items():
            if not torch.isfinite(term):
                raise VlalignError(
                    f"the {name} term is {term.item()} at step {self.step}: "
                    "lower train.learning_rate or the weight of the term"
                )


def describe(row: dict[str, float], batch_size: int) -> str:
    """Loss, throughput and the share of the step that was spent on loading, of one row of the history."""
    share = 100 * row["data_seconds"] * row["pairs_per_second"] / batch_size
    return f"loss {row['loss']:.3f}, {row['pairs_per_second']:.0f} pairs/s, {share:.0f} % loading"


def progress_bar() -> Progress:
    """The bar of one run: step, loss, throughput, time left."""
    name, terms = TextColumn("{task.description}"), TextColumn("{task.fields[terms]}")
    columns = (name, BarColumn(), MofNCompleteColumn(), terms, TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def history_csv(history: list[dict[str, float]]) -> str:
    """The rows as CSV; a term that is switched off leaves its cell empty."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in history)
    return stream.getvalue()


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
