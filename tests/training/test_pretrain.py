import multiprocessing
import os
import resource
import shutil
import signal
import time

import pytest
import torch
from training_runs import history, nan_at_call, run_below, run_of, same, train_below

from vlalign.errors import VlalignError
from vlalign.models import load
from vlalign.params import RunParams, RuntimeParams
from vlalign.records import read_record
from vlalign.training import history as columns
from vlalign.training import loop
from vlalign.training.data.inputs import Inputs
from vlalign.training.pretrain import Places, pretrain
from vlalign.training.stopping import StoppedError


class KilledError(Exception):
    """Stands for the end of the process."""


def stop_before(monkeypatch, step, end):
    """Make a run end where it would take the step after `step`."""
    take = loop.Trainer.take_step

    def ended(trainer):
        if trainer.step == step:
            end()
        return take(trainer)

    monkeypatch.setattr(loop.Trainer, "take_step", ended)
    return lambda: monkeypatch.setattr(loop.Trainer, "take_step", take)


def killed():
    raise KilledError


def test_same_seed_same_weights(config, inputs, tmp_path):
    first, second = (train_below(tmp_path, config(), inputs, output=name) for name in ("a", "b"))
    other = train_below(tmp_path, config(), inputs, seed=1, output="c")
    assert same(first, second)
    assert not same(first, other)


@pytest.mark.parametrize("last_step", [2, 3, 5, 7])
@pytest.mark.parametrize("train_params", [{}, {"accumulate": 2, "autocast": "bf16"}], ids=["plain", "parts"])
def test_a_resumed_run_equals_an_uninterrupted_one(
    config, inputs, tmp_path, monkeypatch, caplog, last_step, train_params
):
    caplog.set_level("INFO")
    whole = train_below(tmp_path / "whole", config(**train_params), inputs)
    undo = stop_before(monkeypatch, last_step, killed)
    with pytest.raises(KilledError):
        train_below(tmp_path / "killed", config(**train_params), inputs)
    undo()
    assert not (tmp_path / "killed" / "run").exists()
    resumed = train_below(tmp_path / "killed", config(**train_params), inputs)
    assert same(whole, resumed)
    assert (f"continuing test seed 0 at step {last_step // 3 * 3}" in caplog.text) == (last_step >= 3)
    histories = [history(tmp_path / name / "run") for name in ("whole", "killed")]
    assert histories[0] == histories[1]
    assert [path.name for path in (tmp_path / "killed" / "checkpoints").iterdir()] == ["lock"]


def test_a_resumed_run_drops_what_an_uninterrupted_one_drops(config, inputs, tmp_path, monkeypatch):
    dropped = config()
    vision = {"timm_model_name": "test_vit", "timm_pool": "avg", "timm_drop_path": 0.3, "image_size": 160}
    dropped["params"]["model"] = {"tower": {**dropped["params"]["model"]["tower"], "vision_cfg": vision}}
    whole = train_below(tmp_path / "whole", dropped, inputs)
    undo = stop_before(monkeypatch, 5, killed)
    with pytest.raises(KilledError):
        train_below(tmp_path / "killed", dropped, inputs)
    undo()
    assert same(whole, train_below(tmp_path / "killed", dropped, inputs))


def test_another_environment_is_warned_of(config, inputs, tmp_path, monkeypatch, caplog):
    undo = stop_before(monkeypatch, 5, killed)
    with pytest.raises(KilledError):
        train_below(tmp_path, config(), inputs)
    undo()
    monkeypatch.setattr(torch, "__version__", "9.9")
    run_below(tmp_path, config(), inputs)
    assert "continues with torch 9.9, before: 2." in caplog.text
    assert "equal up to rounding only" in caplog.text


def test_a_complete_run_is_not_trained_again(config, inputs, tmp_path, caplog, monkeypatch):
    caplog.set_level("INFO")
    whole = train_below(tmp_path, config(), inputs)
    stop_before(monkeypatch, 0, killed)
    assert same(whole, train_below(tmp_path, config(), inputs))
    assert "is complete; delete it to train it again" in caplog.text
    (tmp_path / "run" / "history.csv").unlink()
    with pytest.raises(KilledError):
        train_below(tmp_path, config(), inputs)


def test_weights_of_a_file_that_changed_are_other_weights(config, inputs, tmp_path, monkeypatch):
    weights = tmp_path / "start.safetensors"
    for seed in (1, 2):
        train_below(tmp_path / f"first-{seed}", config(), inputs, seed=seed)
    started = config()
    started["params"]["model"]["pretrained"] = str(weights)
    weights.write_bytes((tmp_path / "first-1" / "run" / "model.safetensors").read_bytes())
    undo = stop_before(monkeypatch, 5, killed)
    with pytest.raises(KilledError):
        train_below(tmp_path, started, inputs)
    undo()
    weights.write_bytes((tmp_path / "first-2" / "run" / "model.safetensors").read_bytes())
    with pytest.raises(VlalignError, match=r"inputs\.pretrained was \w+, is \w+"):
        train_below(tmp_path, started, inputs)


def test_an_output_that_cannot_be_written_loses_no_step(config, inputs, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vlalign.training.pretrain.save", full)
    with pytest.raises(VlalignError, match=r"run cannot be written .*No space left on device.* from the last step"):
        train_below(tmp_path, config(), inputs)
    monkeypatch.undo()
    train_below(tmp_path, config(), inputs)
    assert "continuing test seed 0 at step 8" in caplog.text


def test_without_git_there_is_no_commit(config, inputs, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    train_below(tmp_path, config(), inputs)
    assert read_record(tmp_path / "run" / "run.json")["git_commit"] is None


@pytest.mark.parametrize("place", ["run", "checkpoints"])
def test_a_place_that_cannot_be_written_is_found_before_training(config, inputs, tmp_path, monkeypatch, place):
    stop_before(monkeypatch, 0, killed)
    (tmp_path / place).write_text("in the way")
    with pytest.raises(VlalignError, match=rf"cannot be made, since .*{place} is no folder"):
        train_below(tmp_path, config(), inputs)


def test_the_best_needs_a_validation_split(config, inputs, tmp_path):
    with pytest.raises(VlalignError, match=r"keep_best: .* make that split"):
        train_below(tmp_path, config(), Inputs(inputs.split, inputs.phrases, inputs.regions), keep_best=True)


def test_loading_ahead_changes_nothing(config, inputs, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    whole = train_below(tmp_path / "whole", config(), inputs)
    undo = stop_before(monkeypatch, 5, killed)
    with pytest.raises(KilledError):
        train_below(tmp_path / "ahead", config(), inputs, workers=2)
    undo()
    assert same(whole, train_below(tmp_path / "ahead", config(), inputs, workers=2))
    assert "continuing test seed 0 at step 3" in caplog.text


def test_watching_a_run_changes_no_weights(config, inputs, tmp_path):
    plain = train_below(tmp_path / "plain", config(), inputs, validate_every=None, log_every=100)
    everything = {"validate_every": 1, "log_every": 1, "trackers": ("dvclive", "tensorboard"), "keep_best": True}
    watched = train_below(tmp_path / "watched", config(), inputs, **everything)
    assert same(plain, watched)


def test_the_best_checkpoint_is_that_of_the_best_recall(config, inputs, tmp_path):
    train_below(tmp_path, config(steps=30, learning_rate=2e-3), inputs, validate_every=3, keep_best=True)
    measured = [row for row in history(tmp_path / "run") if row["val_loss"]]
    recalls = [float(row["val_i2t_r1"]) + float(row["val_t2i_r1"]) for row in measured]
    best = measured[recalls.index(max(recalls))]["step"]
    assert len(set(recalls)) > 1
    [kept] = (tmp_path / "checkpoints" / "kept").glob("*/best.pt")
    assert torch.load(kept, weights_only=True)["step"] == int(best)


def test_a_run_writes_what_the_workflow_declares(config, inputs, tmp_path):
    train_below(tmp_path, config(), inputs, seed=3)
    folder = tmp_path / "run"
    names = {"model.safetensors", "open_clip_config.json", "history.csv", "run.json"}
    assert {path.name for path in folder.iterdir()} == names
    rows = history(folder)
    assert [row["step"] for row in rows] == ["1", "2", "4", "5", "6", "8"]
    assert all(row[name] for row in rows for name in ("powerset", "cs", "contrastive"))
    assert all(bool(row["score_sd"]) == (row["step"] != "5") for row in rows)
    assert [row["step"] for row in rows if row["val_i2t_r1"]] == ["5", "8"]
    run = read_record(folder / "run.json")
    assert run["seed"] == 3
    assert run["params"]["objective"]["cs"]["weight"] == 0.1
    assert load(folder).grid == (4, 4)


def test_terms_that_are_off_have_no_column(config, inputs, tmp_path):
    plain = config()
    plain["params"]["objective"] = {}
    train_below(tmp_path, plain, Inputs(inputs.split))
    assert {"contrastive"} == {"contrastive", "powerset", "cs", "cs_tokens"} & set(history(tmp_path / "run")[0])


def test_powerset_without_annotations_is_an_error(config, inputs, tmp_path):
    with pytest.raises(VlalignError, match="give phrases and regions"):
        train_below(tmp_path, config(), Inputs(inputs.split))


@pytest.mark.parametrize("workers", [0, 2])
def test_batch_larger_than_the_split(config, inputs, tmp_path, workers):
    with pytest.raises(VlalignError, match=r"^train\.batch_size is 64"):
        train_below(tmp_path, config(batch_size=64), inputs, workers=workers)


def test_a_missing_shard_is_named(config, inputs, tmp_path):
    split = tmp_path / "split"
    shutil.copytree(inputs.split, split)
    (split / "000003.tar").unlink()
    with pytest.raises(VlalignError, match=r"000003\.tar is named in .*manifest\.json but missing"):
        train_below(tmp_path, config(), Inputs(split, inputs.phrases, inputs.regions))


def test_other_params_or_data_are_refused_by_name(config, inputs, tmp_path, monkeypatch):
    undo = stop_before(monkeypatch, 4, killed)
    with pytest.raises(KilledError):
        train_below(tmp_path, config(), inputs)
    undo()
    other = config(learning_rate=0.5)
    other["params"]["objective"]["cs"]["weight"] = 0.2
    with pytest.raises(VlalignError) as refused:
        train_below(tmp_path, other, inputs)
    message = str(refused.value)
    assert "step-00000003.pt belongs to a run with other params or data" in message
    assert "params.objective.cs.weight was 0.1, is 0.2" in message
    assert "params.train.learning_rate was 0.002, is 0.5" in message
    assert f"delete {tmp_path / 'checkpoints'}" in message
    with pytest.raises(VlalignError, match="seed was 0, is 1"):
        train_below(tmp_path, config(), inputs, seed=1)
    unphrased = Inputs(inputs.split, inputs.phrases, inputs.phrases)
    with pytest.raises(VlalignError, match=r"inputs\.regions was \w+, is \w+"):
        train_below(tmp_path, config(), unphrased)


def test_a_corrupt_newest_checkpoint_falls_back_to_the_one_before(config, inputs, tmp_path, monkeypatch, caplog):
    whole = train_below(tmp_path / "whole", config(), inputs)
    undo = stop_before(monkeypatch, 7, killed)
    with pytest.raises(KilledError):
        train_below(tmp_path, config(), inputs)
    undo()
    newest = tmp_path / "checkpoints" / "step-00000006.pt"
    newest.write_bytes(newest.read_bytes()[:-5000])
    caplog.set_level("INFO")
    assert same(whole, train_below(tmp_path, config(), inputs))
    assert "step-00000006.pt cannot be read" in caplog.text
    assert "continuing test seed 0 at step 3" in caplog.text


def test_checkpoints_that_are_all_corrupt_start_again(config, inputs, tmp_path, caplog):
    whole = train_below(tmp_path / "whole", config(), inputs)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-00000006.pt").write_bytes(b"half a file")
    assert same(whole, train_below(tmp_path, config(), inputs))
    assert "cannot be read" in caplog.text


def test_a_term_that_is_not_finite_stops_the_run_with_its_state(config, inputs, tmp_path, monkeypatch):
    whole = train_below(tmp_path / "whole", config(), inputs)
    nan_at_step_4, _ = nan_at_call(5)
    monkeypatch.setattr("vlalign.objectives.divergence.cs_divergence", nan_at_step_4)
    with pytest.raises(VlalignError, match=r"the cs term is nan at step 4: .*failed-step-00000004\.pt"):
        train_below(tmp_path, config(), inputs)
    state = torch.load(tmp_path / "checkpoints" / "failed-step-00000004.pt", weights_only=True)
    assert state["step"] == 4
    assert state["batch"]["images"].shape == (8, 3, 32, 32)
    assert set(state["encoder"]) >= {f"clip.{name}" for name in whole}
    assert not (tmp_path / "run").exists()


def test_a_gradient_that_is_not_finite_stops_the_run(config, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("vlalign.training.loop.nn.utils.clip_grad_norm_", lambda *_: torch.tensor(float("inf")))
    with pytest.raises(VlalignError, match="the norm of the gradient is inf at step 0"):
        train_below(tmp_path, config(), inputs)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_before_the_run_leaves(config, inputs, tmp_path, monkeypatch, number):
    whole = train_below(tmp_path / "whole", config(), inputs)
    handler = signal.getsignal(number)
    undo = stop_before(monkeypatch, 4, lambda: os.kill(os.getpid(), number))
    with pytest.raises(StoppedError, match=rf"stopped by {number.name}: test seed 0 is saved at step 5 of 8") as stop:
        train_below(tmp_path, config(), inputs)
    undo()
    assert stop.value.exit_code == 128 + number
    assert signal.getsignal(number) == handler
    state = torch.load(tmp_path / "checkpoints" / "step-00000005.pt", weights_only=True)
    assert state["step"] == 5
    assert same(whole, train_below(tmp_path, config(), inputs))


def test_a_full_disk_loses_nothing(config, inputs, tmp_path):
    """The limit of the size of a file stands for that of the disk: the same writes fail in the same place."""
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=fill_disk, args=(config(), inputs, tmp_path, answers))
    process.start()
    message = answers.get(timeout=120)
    process.join()
    assert "step-00000006.pt cannot be written" in message
    assert "File too large" in message
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "history.csv",
        "lock",
        "step-00000003.pt",
    ]


def fill_disk(config, inputs, folder, answers):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    torch.set_num_threads(1)
    save = loop.Checkpoints.save

    def limited(checkpoints, state, **options):
        if state["step"] == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
        save(checkpoints, state, **options)

    loop.Checkpoints.save = limited
    places = Places(folder / "run", folder / "checkpoints")
    try:
        pretrain(run_of(config), seed=0, inputs=inputs, places=places, runtime=RuntimeParams(checkpoint_every=3))
    except VlalignError as error:
        answers.put(str(error))
    else:
        answers.put("no error")


def test_who_waited_for_the_lock_does_not_train_again(config, inputs, tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=train_slowly, args=(config(), inputs, tmp_path)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len((tmp_path / "trained").read_text()) == 1


def train_slowly(config, inputs, folder):
    torch.set_num_threads(1)
    train = loop.Trainer.train

    def counted(trainer, *arguments, **options):
        with open(folder / "trained", "a") as stream:
            stream.write("x")
        time.sleep(4)  # the other one has come to the lock by then
        train(trainer, *arguments, **options)

    loop.Trainer.train = counted
    pretrain(run_of(config), seed=0, inputs=inputs, places=Places(folder / "run", folder / "checkpoints"))


def test_trackers_hold_every_row_once_after_a_resumed_run(config, inputs, tmp_path, monkeypatch):
    trackers = ("dvclive", "tensorboard")
    undo = stop_before(monkeypatch, 7, killed)
    with pytest.raises(KilledError):
        train_below(tmp_path, config(), inputs, trackers=trackers)
    undo()
    train_below(tmp_path, config(), inputs, trackers=trackers)
    steps = [row["step"] for row in history(tmp_path / "run")]
    lines = (tmp_path / "tracking/dvclive/plots/metrics/loss.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines[1:]] == steps
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tracking/tensorboard"))
    events.Reload()
    assert [str(event.step) for event in events.Scalars("loss")] == steps


def test_a_tracker_that_is_not_installed_is_named(config, inputs, tmp_path, monkeypatch):
    monkeypatch.setitem(columns.TRACKERS, "dvclive", lambda folder: exec("import a_package_that_is_not_there"))
    with pytest.raises(VlalignError, match=r"dvclive cannot be imported .*vlalign\[tracking\]"):
        train_below(tmp_path, config(), inputs, trackers=("dvclive",))


def test_batch_norm_is_refused_where_its_statistics_would_differ(inputs, config):
    params = config(accumulate=2)["params"]
    vision = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8}
    params["model"] = {"tower": {**params["model"]["tower"], "vision_cfg": vision}}
    with pytest.raises(VlalignError, match="batch normalisation"):
        loop.Trainer(RunParams.model_validate(params), seed=0, inputs=inputs)
