"""Every record and config, damaged in any way: the command that reads it ends with one message, and writes nothing."""

import json
import shutil
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner
from workspace import ANNOTATIONS, DATA, RUN

from vlalign.cli import app
from vlalign.errors import VlalignError
from vlalign.records import write_record

PRETRAIN = ["pretrain", "--run", "powerclip", "--checkpoints", "elsewhere", "--output", "out"]
COLLECT = ["collect", "--run", str(RUN), "--output", "out"]
FOCUS = ["focus", "--metrics", "results/metrics.json", "--run", str(RUN), "--output", "out"]
EVALUATE = ["evaluate", "--run", str(RUN), "--output", "out"]
REPORT = [
    "report", "--metrics", "results/metrics.json", "--run", str(RUN),
    "--precision", "results/precision.csv", "--figures", "results/figures", "--tables", "out",
    "--output", "out/report.html", "--manifest", f"{DATA}/train/manifest.json",
]  # fmt: skip
VERIFY = ["verify", "--data", ".", "--split", "own", "--needs", "image"]
PHRASES = ["phrases", "--split", "train", "--output", "out"]
READ_BY = {
    f"{DATA}/train/manifest.json": PRETRAIN,
    f"{DATA}/train/index/000000.arrow": PRETRAIN,
    f"{ANNOTATIONS}/phrases/train/manifest.json": PRETRAIN,
    f"{ANNOTATIONS}/regions/train/manifest.json": PRETRAIN,
    f"{RUN}/run.json": COLLECT,
    f"{RUN}/history.csv": COLLECT,
    f"{RUN}/metrics/evaluation.json": COLLECT,
    f"{RUN}/metrics/retrieval.json": COLLECT,
    "results/metrics.json": FOCUS,
    f"{RUN}/open_clip_config.json": EVALUATE,
    f"{RUN}/model.safetensors": EVALUATE,
    "results/precision.csv": REPORT,
    "results/precision.csv.json": REPORT,
    "results/figures/illustrations.json": REPORT,
    "own/shards.json": VERIFY,
    "data/parser/manifest.json": PHRASES,
}


@st.composite
def damaged(draw, content):
    """The content cut off, with a part replaced, or with one put in."""
    start = draw(st.integers(0, len(content) - 1))
    put_in = draw(
        st.binary(max_size=20) | st.sampled_from([b"[", b"{", b"1e999", b"NaN", b"null", b"\xff\xfe", b"\0" * 9])
    )
    end = draw(st.sampled_from([start, min(start + 1, len(content)), len(content)]))
    return content[:start] + put_in + content[end:]


def same(content, other):
    """Whether it says the same all the same."""
    try:
        return json.loads(content) == json.loads(other)
    except (ValueError, RecursionError):
        return content == other


@pytest.mark.parametrize("name", READ_BY)
def test_a_damaged_file_is_one_message(written, tmp_path, monkeypatch, name):
    root = tmp_path / "workspace"
    shutil.copytree(written, root)
    write_record(root / "own/shards.json", {"shards": [{"name": "0.tar"}], "source": {}, "skipped": {}})
    monkeypatch.chdir(root)
    whole = (root / name).read_bytes()

    @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(damaged(whole).filter(lambda content: not same(content, whole)))
    def check(content):
        (root / name).write_bytes(content)
        result = CliRunner().invoke(app, READ_BY[name])
        assert isinstance(result.exception, VlalignError), (content, result.exception)
        message = str(result.exception)
        assert any(part in message for part in (name, name.rpartition("/")[2])), message
        assert any(word in message for word in ("delete", "run", "bring back", "make")), message
        assert not [path for path in root.glob("out/**/*") if path.is_file()]

    check()


@pytest.mark.parametrize("name", [f"{RUN}/run.json", "results/metrics.json", "own/shards.json"])
def test_the_real_command_says_one_message(workspace, name):
    write_record(workspace / "own/shards.json", {"shards": [{"name": "0.tar"}], "source": {}})
    (workspace / name).write_bytes((workspace / name).read_bytes()[:-9])
    command = [sys.executable, "-m", "vlalign", *READ_BY[name]]
    result = subprocess.run(command, cwd=workspace, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert name in result.stderr
    assert "Traceback" not in result.stderr
