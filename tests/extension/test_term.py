"""A new term of the loss is one file that is dropped in: it trains, and its numbers are in history and model card."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documentation import block

ROOT = Path(__file__).parents[2]
# As the guide has them.
TERM, AGGREGATOR = block("docs/loss.md", "class Sigmoid("), block("docs/loss.md", "class Power(")


@pytest.fixture
def package(tmp_path):
    """A copy of the package, which other processes import in its place."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return tmp_path / "src" / "vlalign"


def call(package, script, *arguments):
    environment = {"PYTHONPATH": str(package.parent), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


SCHEMA = "from vlalign.params import schema; import json; print(json.dumps(schema()))"
RUNS = "import sys; from vlalign import params; print(*params.load('params.yaml', sys.argv[1]).all_runs)"
PLUGINS = """
import sys
from vlalign import freshness, params
files = ("params.yaml", "config/test.yaml")
plain, mine = params.load(*files), params.load(*files, sys.argv[1])
runs = [loaded.all_runs["powerclip"] for loaded in (plain, mine)]
print(*(freshness.digest("pretrain", **run.plugins) for run in runs), runs[0].config() == runs[1].config())
"""
TRAIN = """
import json, sys
from pathlib import Path
from vlalign.params import Run, RunParams, RuntimeParams
from vlalign.training.data.inputs import Inputs
from vlalign.training.pretrain import Places, pretrain

params, data, output = json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
folders = [Path(folder) for folder in json.loads(data)]
runtime = RuntimeParams(validate_every=None, checkpoint_every=4, log_every=2)
run = Run("mine", RunParams.model_validate(params), "mine")
pretrain(run, seed=0, inputs=Inputs(*folders), places=Places(output, output.parent / "ckpt"), runtime=runtime)
from vlalign.reporting.card import described_objective
from vlalign.reporting.figures.training import labels
from vlalign.reporting.results import read_run, run_params
print(json.dumps([described_objective(run_params(read_run(output)).objective), labels()]))
"""


def train(package, inputs, config, objective, folder):
    params = {**config()["params"], "objective": objective}
    folders = json.dumps([str(path) for path in (inputs.split, inputs.phrases, inputs.regions)])
    said, labels = json.loads(call(package, TRAIN, json.dumps(params), folders, folder / "run").splitlines()[-1])
    with open(folder / "run" / "history.csv") as stream:
        return said, labels, list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_term_is_one_file(package, inputs, config, tmp_path):
    (package / "training" / "terms" / "sigmoid.py").write_text(TERM)
    assert "SigmoidParams" in json.loads(call(package, SCHEMA))["$defs"]
    said, labels, rows = train(package, inputs, config, {"contrastive": 0, "sigmoid": 1.0}, tmp_path)
    assert float(rows[-1]["sigmoid"]) < float(rows[0]["sigmoid"])
    assert rows[0]["sigmoid_bias"] != rows[-1]["sigmoid_bias"]
    assert labels["sigmoid"] == "Sigmoid loss"
    assert said == "1 × sigmoid"


def test_an_overlay_names_it(package, tmp_path):
    (package / "training" / "terms" / "sigmoid.py").write_text(TERM)
    overlay = tmp_path / "sigmoid.yaml"
    overlay.write_text(block("docs/loss.md", "root: sigmoid-run", language="yaml"))
    assert call(package, RUNS, overlay).split() == ["clip", "sigmoid"]


@pytest.mark.slow
def test_an_aggregator_is_one_file(package, inputs, config, tmp_path):
    (package / "objectives" / "aggregators" / "power.py").write_text(AGGREGATOR)
    powerset = json.loads(call(package, SCHEMA))["$defs"]["PowersetParams"]["properties"]
    assert "power" in powerset["aggregator"]["enum"]
    assert powerset["power"]["exclusiveMinimum"] == 1
    objective = {"powerset": {"weight": 1.0, "aggregator": "power", "power": 3.0}}
    said, _, rows = train(package, inputs, config, objective, tmp_path)
    assert "PowerCLIP (power)" in said
    assert rows[0]["powerset"] != rows[-1]["powerset"]


def test_only_runs_that_name_a_plug_in_depend_on_it(package, tmp_path):
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("arms: {powerclip: {objective: {sigmoid: 0.5}}}\n")
    (package / "training" / "terms" / "sigmoid.py").write_text(TERM)
    before, named, same = call(package, PLUGINS, overlay).split()
    assert before != named
    assert same == "False"
    (package / "training" / "terms" / "sigmoid.py").write_text(TERM.replace("-2.0", "-3.0"))
    after, named_after, _ = call(package, PLUGINS, overlay).split()
    assert (after == before, named_after == named) == (True, False)
