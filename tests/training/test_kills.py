"""Runs that are killed at random moments, several times each, end with the weights of those that were not."""

import multiprocessing
import os
import random
import socket
import time
from datetime import timedelta

import pytest
import torch
from training_runs import history, run_below, run_config, same

from vlalign.training import processes

pytestmark = pytest.mark.slow

KILLED_RUNS = int(os.environ.get("KILLED_RUNS", "3"))  # of each kind; more take minutes
KILLS, STEPS = 3, 24
# Children start from a process that has imported everything, so that most kills hit a run at work.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["vlalign.training.pretrain"])


def work(folder, inputs, environment):
    os.environ |= environment
    torch.set_num_threads(1)
    # There is no torchrun to end a process whose partner was killed before the two had met.
    processes.PATIENCE = timedelta(seconds=60)
    run_below(folder, run_config(steps=STEPS), inputs, checkpoint_every=2, keep_every=8, validate_every=8)


def start(folder, inputs, count):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    several = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(count)}
    ranks = [{**several, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    started = [CONTEXT.Process(target=work, args=(folder, inputs, rank if count > 1 else {})) for rank in ranks]
    for process in started:
        process.start()
    return started


def finish(started):
    for process in started:
        process.join(timeout=240)
    return [process.exitcode for process in started]


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(1, id="alone"),
        pytest.param(2, marks=pytest.mark.exhaustive, id="two processes"),
    ],
)
def uninterrupted(request, inputs, tmp_path_factory):
    """How many processes, the folder that they made, and how long it took when everything was warm."""
    for _ in range(2):
        folder, started = tmp_path_factory.mktemp("whole"), time.monotonic()
        assert finish(start(folder, inputs, request.param)) == [0] * request.param
    return request.param, folder, time.monotonic() - started


def test_killed_runs_end_with_the_same_weights(uninterrupted, inputs, tmp_path):
    count, whole, seconds = uninterrupted
    rng, at_work = random.Random(count), 0
    for number in range(KILLED_RUNS):
        folder = tmp_path / str(number)
        for _ in range(KILLS):
            started = start(folder, inputs, count)
            time.sleep(rng.uniform(0.1, 0.8) * seconds)
            # All of them, or one: then the others end by themselves.
            victims = rng.choice([started, started[:1], started[-1:]])
            at_work += all(process.is_alive() for process in victims)
            for process in victims:
                process.kill()
            assert None not in finish(started), "a process outlives the others"
        assert finish(start(folder, inputs, count)) == [0] * count
        assert same_run(whole, folder)
        assert files(folder) == files(whole), "something is left over"
    # A run that has nearly finished ends before its last kill: one hit for each run is asked for, not three.
    assert at_work >= KILLED_RUNS, "too many kills came too late to hit anything"


def same_run(whole, folder):
    from safetensors.torch import load_file

    weights = [load_file(path / "run" / "model.safetensors") for path in (whole, folder)]
    return same(*weights) and history(whole / "run") == history(folder / "run")
