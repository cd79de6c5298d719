"""The training loop of one run: explicit, deterministic, resumable."""

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vlalign.errors import VlalignError
from vlalign.models import DualEncoder, build
from vlalign.models.vision import has_batch_norm
from vlalign.params import RunParams, RuntimeParams
from vlalign.training.checkpoint import Checkpoints
from vlalign.training.data.batches import Batch, encode, fit
from vlalign.training.data.inputs import Inputs
from vlalign.training.data.loading import Steps, load
from vlalign.training.data.order import generator
from vlalign.training.finite import FiniteWatch, NotFiniteError
from vlalign.training.gradients import accumulate
from vlalign.training.history import (
    Clock,
    HistoryFile,
    Row,
    Tracker,
    describe,
    peak_memory,
    progress_bar,
    start_trackers,
)
from vlalign.training.objective import Features, Objective
from vlalign.training.optim import learning_rate, optimizer
from vlalign.training.processes import Processes, is_one_of_several
from vlalign.training.stopping import StoppedError, StopSignals
from vlalign.training.term import Step
from vlalign.training.validation import validate

logger = logging.getLogger(__name__)
# As in CLIP: the temperature never falls below 0.01.
MAX_LOGIT_SCALE = 4.6052
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
# A gradient that overflows even at this scale of the loss is not finite for another reason.
MIN_LOSS_SCALE = 2.0**-10


class Model(nn.Module):
    """Towers and objective as one module: what DDP wraps, and whose parameters are trained."""

    def __init__(self, encoder: DualEncoder, objective: Objective) -> None:
        super().__init__()
        self.encoder, self.objective = encoder, objective

    def forward(self, batch: Batch) -> Features:
        """What every pair contributes to the losses by itself."""
        image, text = encode(self.encoder, batch)
        return self.objective.features(image, text, self.encoder.logit_scale, batch)


class Taken(NamedTuple):
    """A step that was taken, as it lies on the device."""

    rate: float
    total: Tensor
    losses: dict[str, Tensor]
    features: Features
    norm: Tensor


class Trainer:
    """Model, optimiser and data of one run, and the rows of its history.

    Args:
        team: the processes that share every batch; this one alone if left out.
        runtime: how the run is watched and saved; see `params.RuntimeParams`.
    """

    def __init__(
        self,
        params: RunParams,
        *,
        seed: int,
        inputs: Inputs,
        team: Processes | None = None,
        runtime: RuntimeParams | None = None,
    ) -> None:
        self.params, self.seed, self.step = params, seed, 0
        self.team, self.runtime = team or Processes(), runtime or RuntimeParams()
        self.history: list[Row] = []
        torch.manual_seed(generator(seed, "weights").initial_seed())
        self.encoder = build(params.model, start=inputs.start)
        _check_widths(self.encoder)
        self.encoder.train()
        self.objective = Objective(params.objective, group=self.team.shares(params.train.batch_size))
        self.model = Model(self.encoder, self.objective).to(self.team.device)
        if params.train.grad_checkpointing:
            self.encoder.clip.set_grad_checkpointing()
        if params.train.compile:
            self.encoder.compile()
        self.parallel = self.team.parallel(self.model)
        self.optimizer = optimizer(self.encoder, self.objective, params.train)
        self.scaler = torch.GradScaler(self.team.device.type, enabled=params.train.autocast == "fp16")
        room = self.runtime.cache_mib * 2**20
        self.data = inputs.training_set(self.encoder, params, room=room)
        if self.encoder.adapters is not None:
            fit(self.encoder.adapters, self.data)
        if params.train.epochs is not None:
            steps = params.train.epochs * self.data.steps_per_epoch(params.train.batch_size)
            params = params.model_copy(update={"train": params.train.model_copy(update={"steps": steps})})
            self.params = params
        self.validation = inputs.validation_set(self.encoder, room=room) if self.runtime.validate_every else None
        self._check_parts(params)
        self._batches: Iterator[Batch] | None = None
        self.watch, self.clock = FiniteWatch(self.team.device), Clock()

    def _check_parts(self, params: RunParams) -> None:
        """Every part of every process needs a pair, and features that depend on no other; keep_best, validation."""
        parts = params.train.accumulate * self.team.count
        if params.train.batch_size < parts:
            raise VlalignError(
                f"train.batch_size is {params.train.batch_size}, but {self.team.count} processes with train.accumulate "
                f"{params.train.accumulate} need {parts} pairs at least"
            )
        if (parts > 1 or params.train.grad_checkpointing) and has_batch_norm(self.encoder):
            raise VlalignError(
                "model.tower has batch normalisation, whose statistics would be those of a part of the batch, or "
                "counted twice: train with one process, train.accumulate 1 and without train.grad_checkpointing, lock "
                "the tower, or choose one without it"
            )
        if self.runtime.keep_best and self.validation is None:
            raise VlalignError("runtime.keep_best: the best checkpoint is found by validation; make that split")
        if self.validation and len(self.validation) < self.team.count:
            raise VlalignError(f"the validation split has fewer images than there are processes ({self.team.count})")

    def parameters(self) -> dict[str, int]:
        """How many numbers are trained, in the encoder and in the terms, and how many stay as they are."""
        sizes = Counter[str]()
        for value in self.model.parameters():
            sizes["trained" if value.requires_grad else "frozen"] += value.numel()
        return {name: sizes[name] for name in ("trained", "frozen")}

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, but what is a function of (seed, step): order, draws, learning rate."""
        return {
            "step": self.step,
            "encoder": self.encoder.trained_state(),
            "objective": self.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": self.history,
            "environment": self._environment(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue after the step of `state`; warns where another environment may round otherwise."""
        self.encoder.load_trained_state(state["encoder"])
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.history, self._batches = state["step"], state["history"], None
        for name, value in self._environment().items():
            if (before := state["environment"].get(name)) != value:
                logger.warning("continues with %s %s, before: %s; equal up to rounding only", name, value, before)

    def _environment(self) -> dict[str, Any]:
        """What rounding depends on."""
        device = self.team.device.type
        return {"torch": str(torch.__version__), "processes": self.team.count, "device": device}

    def train(
        self, checkpoints: Checkpoints, *, state: dict[str, Any] | None = None, title: str, tracking: Path | None = None
    ) -> None:
        """Take the steps that remain, all of them without a state to continue from.

        Raises NotFiniteError with the step, the term and where the state lies; StoppedError after a signal.
        """
        self._resume(state, checkpoints.directory, title)
        first, steps = self.team.is_first, self.params.train.steps
        trackers = start_trackers(self.runtime.trackers, tracking, self.history) if first else []
        if first:
            trackers.append(HistoryFile(checkpoints.directory / "history.csv", self.history))
        told = ""
        with StopSignals(patient=is_one_of_several()) as signals, progress_bar() as bar:
            task = bar.add_task(title, total=steps, completed=self.step, terms="", visible=first)
            while self.step < steps:
                row = self._next_row(checkpoints, trackers)
                told = describe(row, terms=self.objective.weights) if row else told
                bar.update(task, completed=self.step, terms=told)
                if row and first and self._is_saved():
                    logger.info("%s, step %d of %d: %s", title, self.step, steps, told)
                # Alone it is free to look; together they look when they wait for each other anyway.
                alone = self.team.group is None
                received = self.team.largest(signals.received or 0) if alone or self._is_read() else 0
                if received and self.step < steps:
                    self._check_finite(checkpoints)
                    if first and not self._is_saved():
                        checkpoints.save(self.state())
                    saved = f"{title} is saved at step {self.step} of {steps}; the same command continues it"
                    raise StoppedError(received, saved)
        for tracker in trackers:
            tracker.close()

    def _resume(self, state: dict[str, Any] | None, directory: Path, title: str) -> None:
        if state is not None:
            self.restore(state)
            logger.info("continuing %s at step %d", title, self.step)
        if self.team.largest(self.step) != self.step or self.team.largest(-self.step) != -self.step:
            raise VlalignError(
                f"the processes of {title} find different checkpoints; {directory} must lie on a disk that all of them "
                "share"
            )

    def _next_row(self, checkpoints: Checkpoints, trackers: list[Tracker]) -> Row | None:
        """Take a step, and do what is due after it; its row of the history, if anything was read of it."""
        taken = self.take_step()
        if not self._is_read():
            return None
        self._check_finite(checkpoints)
        row, best = self.row(taken), False
        if self.validation and self._is_due(self.runtime.validate_every):
            before = [_recall(old) for old in self.history if "val_loss" in old]
            # As many pairs at once as training has in memory.
            part = self.params.train.batch_size // (self.params.train.accumulate * self.team.count)
            with self._autocast():
                row |= validate(self.encoder, self.validation, team=self.team, batch_size=part)
            best = self.runtime.keep_best and _recall(row) > max(before, default=-1.0)
        if "val_loss" in row or self._is_logged():
            self.history.append(row)
            for tracker in trackers:
                tracker.log(row)
        if self.team.is_first and (best or self._is_saved()):
            checkpoints.save(self.state(), best=best)
        return row

    def _check_finite(self, checkpoints: Checkpoints) -> None:
        """Raises NotFiniteError with the step, the term, and where the state before that step lies, with its batch."""
        try:
            self.watch.check()
        except NotFiniteError as error:
            if not self.team.is_first:
                raise
            batch = self._steps()[error.step].columns()
            path = checkpoints.save_failed(self.state() | {"step": error.step, "batch": batch})
            told = f"{error}. Weights and batch of that step lie in {path}"
            raise NotFiniteError(told, error.step) from None

    def take_step(self) -> Taken:
        """One optimisation step: fetch, forward, loss, backward, update. Nothing of it is read: see `row`."""
        train = self.params.train
        with self.clock.loading():
            batch = self._fetch()
        rate = learning_rate(self.step, train)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        # What dropout draws is a function of the step, so that a resumed run draws the same.
        torch.manual_seed(generator(self.seed, "dropout", self.step, self.team.rank).initial_seed())
        self.optimizer.zero_grad(set_to_none=True)
        # Forward, loss and backward, of all parts of the batch.
        total, losses, features = accumulate(
            batch.to(self.team.device).split(train.accumulate),
            self.encode,
            self.loss,
            scaled=self.scaler.scale,
            unsynchronised=getattr(self.parallel, "no_sync", contextlib.nullcontext),
        )
        norm = self._update(losses)
        self.step += 1
        return Taken(rate, total, losses, features, norm)

    def row(self, taken: Taken) -> Row:
        """What the history says of the step that was just taken; waits for the device."""
        row = {"step": self.step, "lr": taken.rate, "loss": taken.total.item()}
        row |= {name: loss.item() for name, loss in taken.losses.items()}
        if self._is_logged():
            row |= self.objective.statistics(taken.features, self._about(self.step - 1))
        row |= {"logit_scale": self.encoder.logit_scale.exp().item(), "grad_norm": taken.norm.item()}
        measured = self.clock.read(self.step, pairs=self.params.train.batch_size)
        return row | measured | {"memory_mib": peak_memory(self.team.device)}

    def _steps(self) -> Steps:
        """This process's share of the batch of every step."""
        return Steps(self.data, seed=self.seed, size=self.params.train.batch_size, share=self.team.share)

    def _fetch(self) -> Batch:
        """The batch of the next step, from those that are loaded ahead."""
        if self._batches is None:
            wanted, pinned = range(self.step, self.params.train.steps), self.team.device.type == "cuda"
            self._batches = iter(load(self._steps(), wanted, workers=self.runtime.workers, pinned=pinned))
        return next(self._batches)

    def encode(self, part: Batch) -> Features:
        """Forward: what every pair of a part of a batch contributes to the losses by itself."""
        with self._autocast():
            return self.parallel(part)

    def loss(self, features: Features) -> tuple[Tensor, dict[str, Tensor]]:
        """The total loss of all pairs, and its terms."""
        return self.objective(features, self._about(self.step))

    def _autocast(self) -> torch.autocast:
        kind = self.params.train.autocast
        return torch.autocast(self.team.device.type, dtype=AUTOCAST.get(kind), enabled=kind in AUTOCAST)

    def _update(self, losses: dict[str, Tensor]) -> Tensor:
        """Change the weights by the gradient, unless something was not finite; its norm before clipping."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.encoder.parameters(), self.params.train.clip_norm)
        watched = {f"the {name} term": loss for name, loss in losses.items()}
        # In fp16 an overflow at a large scale of the loss is no mistake: the step is skipped and the scale halved.
        if not self.scaler.is_enabled() or self.scaler.get_scale() < MIN_LOSS_SCALE:
            own = self.objective.numbers.items()
            watched["the norm of the gradient"] = norm
            watched |= {f"the gradient of {name}": number.grad for name, number in own if number.grad is not None}
        self.watch.see(watched, self.step)
        if self.scaler.is_enabled():
            # The scaler has its own word for what is not finite, and waits for the device in any case.
            self.watch.check()
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            # What torch.GradScaler tells a fused optimizer in the same way.
            self.optimizer.found_inf = self.watch.found  # type: ignore[attr-defined]
            self.optimizer.step()
        with torch.no_grad():
            self.encoder.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        return norm

    def _about(self, step: int) -> Step:
        """What the objective needs to know of a step: random numbers, the same in all processes, and the progress."""
        return Step(lambda key: generator(self.seed, key, step), step / max(1, self.params.train.steps - 1))

    def _is_read(self) -> bool:
        """Whether anything is wanted of the step that was just taken."""
        return self._is_logged() or self._is_saved() or self._is_due(self.runtime.validate_every)

    def _is_due(self, every: int | None) -> bool:
        """Every so many steps, and after the last."""
        return every is not None and (self.step % every == 0 or self.step == self.params.train.steps)

    def _is_logged(self) -> bool:
        """The first step too, which shows where training starts."""
        return self.step == 1 or self._is_due(self.runtime.log_every)

    def _is_saved(self) -> bool:
        """After the last step too: what is written then may fail."""
        kept = self.runtime.keep_every is not None and self.step % self.runtime.keep_every == 0
        return kept or self._is_due(self.runtime.checkpoint_every)


def _check_widths(encoder: DualEncoder) -> None:
    """Towers that were not made for each other need adapters."""
    if encoder.adapters is not None:
        return
    image, text = encoder.eval().widths()
    if image != text:
        raise VlalignError(
            f"model.tower: the image tower gives {image} numbers and the text tower {text}, and nothing maps both into "
            "one space: set model.adapters"
        )


def _recall(row: Row) -> float:
    """What the best checkpoint is chosen by."""
    return (row["val_i2t_r1"] + row["val_t2i_r1"]) / 2
