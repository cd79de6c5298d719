"""A step that is not read waits for nothing; what was not finite is told all the same, with the state before it."""

import csv

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from training_runs import nan_at_call, run_below, run_config

from vlalign.errors import VlalignError
from vlalign.params import RunParams
from vlalign.training import loop
from vlalign.training.finite import FiniteWatch, NotFiniteError
from vlalign.training.history import HistoryFile, history_csv

# What makes a host wait for its device.
WAITS = {"aten._local_scalar_dense.default", "aten.nonzero.default", "aten.masked_select.default"}


class CountWaits(TorchDispatchMode):
    """Names of the operations by which a host waits for its device."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if str(func) in WAITS:
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_watch_remembers_the_first_step_and_the_first_value():
    watch = FiniteWatch(torch.device("cpu"))
    watch.see({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, 0)
    watch.check()
    watch.see({"a": torch.tensor(1.0), "b": torch.tensor(float("inf"))}, 3)
    watch.see({"a": torch.tensor(float("nan")), "b": torch.tensor(float("nan"))}, 4)
    with pytest.raises(NotFiniteError, match="b is inf at step 3") as error:
        watch.check()
    assert (error.value.step, watch.found.item()) == (3, 1)


def trainer_of(config, inputs, **train):
    return loop.Trainer(RunParams.model_validate(config(**train)["params"]), seed=0, inputs=inputs)


def test_nothing_changes_from_a_step_on_that_is_not_finite(config, inputs):
    trainer = trainer_of(config, inputs)
    trainer.take_step()
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    moments = [value.clone() for state in trainer.optimizer.state.values() for value in state.values()]
    handle = trainer.encoder.clip.logit_scale.register_hook(lambda gradient: gradient * float("nan"))
    trainer.take_step()
    handle.remove()
    trainer.take_step()
    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())
    after = [value for state in trainer.optimizer.state.values() for value in state.values()]
    assert all(torch.equal(one, other) for one, other in zip(moments, after, strict=True))
    with pytest.raises(NotFiniteError, match="the norm of the gradient is nan at step 1"):
        trainer.watch.check()


@pytest.mark.parametrize("more", [{}, {"mmd": 1.0, "gaussian_kl": 0.01, "sliced_wasserstein": 1.0}])
def test_a_step_that_is_not_read_waits_for_nothing(config, inputs, more):
    """On a GPU each of these would stop the host; the loading of the batch is the host's own work."""
    params = config()["params"]
    params = {**params, "objective": {**params["objective"], **more}}
    trainer = loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
    trainer.take_step()
    batch = trainer._fetch()
    trainer._fetch = lambda: batch
    with CountWaits() as waits:
        taken = trainer.take_step()
    assert waits.seen == []
    with CountWaits() as waits:
        trainer.row(taken)
    assert waits.seen, "what reads is not counted"


def test_a_term_between_two_rows_stops_the_run_with_the_state_before_it(config, inputs, tmp_path, monkeypatch):
    """It is noticed at the row of step 8; weights and batch are those of the step itself."""
    nan_at_step_5, calls = nan_at_call(6)
    monkeypatch.setattr("vlalign.objectives.divergence.cs_divergence", nan_at_step_5)
    with pytest.raises(VlalignError, match=r"the cs term is nan at step 5: .*failed-step-00000005\.pt"):
        run_below(tmp_path, config(), inputs, log_every=8, checkpoint_every=8, validate_every=None)
    failed = torch.load(tmp_path / "checkpoints" / "failed-step-00000005.pt", weights_only=True)
    trainer = trainer_of(config, inputs)
    calls.clear()
    for _ in range(5):
        trainer.take_step()
    assert failed["step"] == 5
    assert all(torch.equal(failed["encoder"][name], value) for name, value in trainer.encoder.state_dict().items())
    assert torch.equal(failed["batch"]["images"], trainer._fetch().images)


def test_the_history_grows_row_by_row_and_takes_new_columns(tmp_path):
    path, rows = tmp_path / "history.csv", [{"step": 1, "loss": 2.0, "grad_norm": 1.0}]
    file = HistoryFile(path, rows)
    for row in ({"step": 2, "loss": 1.5, "grad_norm": 1.0}, {"step": 3, "mine": 7.0, "grad_norm": 1.0}):
        rows.append(row)
        file.log(row)
        assert path.read_text() == history_csv(rows)
    assert [row["mine"] for row in csv.DictReader(path.open())] == ["", "", "7"]


def test_a_running_history_can_be_watched(config, inputs, tmp_path, monkeypatch):
    seen = []
    save = loop.Checkpoints.save

    def look(self, state, **how):
        seen.append((self.directory / "history.csv").read_text().count("\n"))
        save(self, state, **how)

    monkeypatch.setattr(loop.Checkpoints, "save", look)
    run_below(tmp_path, run_config(), inputs)
    assert seen == sorted(seen)
    assert seen[0] > 1
    assert not (tmp_path / "checkpoints" / "history.csv").exists()
