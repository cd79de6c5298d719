"""`vlalign pretrain` as people start it: on its own, and as several processes under torchrun."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from torch.distributed.run import parse_args
from training_runs import history, run_config

STEPS = 120


def command(inputs, folder, processes, workers=0):
    params = {"runtime": {"checkpoint_every": 20, "workers": workers}, **run_config(steps=STEPS)["params"]}
    runs = {"focus": "test", "runs": {"arms": ["test"]}, "arms": {"test": {}}}
    report = {"report": {"baseline": "test", "control": "test"}}
    (folder / "params.yaml").write_text(json.dumps({**params, **runs, **report}))
    for kind in ("phrases", "regions"):
        (folder / "data/annotations/scenes" / kind).mkdir(parents=True, exist_ok=True)
        link(folder / "data/annotations/scenes" / kind / "train", getattr(inputs, kind))
    (folder / "data/scenes").mkdir(exist_ok=True)
    for split in ("train", "validation"):
        link(folder / "data/scenes" / split, inputs.split)
    return [
        *(sys.executable, "-m", "vlalign", "pretrain", "--params", folder / "params.yaml", "--run", "test"),
        *("--output", folder / "run", "--checkpoints", folder / "checkpoints", "--processes", str(processes)),
    ]


def link(path, target):
    if not path.exists():
        path.symlink_to(target)


def test_torchrun_leaves_our_options_alone():
    """As the documentation starts it on several machines: `--run` is no abbreviation of `--run-path` there."""
    ours = ["vlalign", "pretrain", "--run", "powerclip", "--seed", "0", "train.steps=5"]
    found = parse_args(["--nproc-per-node", "2", "-m", "--", *ours])
    assert [found.training_script, *found.training_script_args] == ours
    assert found.module


def stop(running, folder, send):
    """Send a signal once there is a checkpoint; returns what was said."""
    deadline = time.monotonic() + 120
    while not list((folder / "checkpoints").glob("step-*.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    send(running)
    return running.communicate(timeout=120)[1]


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.exhaustive), 2])
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGINT, marks=pytest.mark.exhaustive, id="SIGINT"),
    ],
)
def test_a_stopped_run_has_saved_its_last_step_and_continues(inputs, tmp_path, processes, number):
    running = subprocess.Popen(command(inputs, tmp_path, processes), stderr=subprocess.PIPE, text=True)
    told = stop(running, tmp_path, lambda process: process.send_signal(number))
    assert running.returncode != 0
    if processes == 1:
        assert running.returncode == 128 + number
    assert told.count(f"stopped by {number.name}: test seed 0 is saved at step") == 1
    # What torchrun itself has to say comes after it.
    assert "Traceback" not in told.split("stopped by")[0]
    saved = max((tmp_path / "checkpoints").glob("step-*.pt"))
    assert f"is saved at step {int(saved.stem.removeprefix('step-'))} of {STEPS}" in told
    assert not (tmp_path / "run").exists()

    ended = subprocess.run(command(inputs, tmp_path, processes), capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert f"continuing test seed 0 at step {int(saved.stem.removeprefix('step-'))}" in ended.stderr
    rows = [int(row["step"]) for row in history(tmp_path / "run")]
    assert rows == sorted({1, *range(10, STEPS + 1, 10)})


@pytest.mark.parametrize(
    ("processes", "number"), [(1, signal.SIGINT), (2, signal.SIGTERM)], ids=["Ctrl-C, loaders", "scheduler, torchrun"]
)
def test_a_signal_to_every_process_of_the_job_does_no_harm(inputs, tmp_path, processes, number):
    """torchrun sends its processes another one, and loaders get one too."""
    running = subprocess.Popen(
        command(inputs, tmp_path, processes, workers=1), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    told = stop(running, tmp_path, lambda process: os.killpg(process.pid, number))
    assert running.returncode == (128 + number if processes == 1 else 1)
    assert told.count("is saved at step") == 1
    assert "Traceback" not in told.split("is saved at step")[0]
