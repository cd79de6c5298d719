"""What the command says of errors that no command foresaw."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlalign import cli

ROOT = Path(__file__).parents[1]


def raising(monkeypatch, error):
    def fail():
        raise error

    monkeypatch.setattr(cli, "app", fail)
    cli.main()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "error: No space left on device; make room on the disk"),
        (OSError(errno.ENOSPC, "No space left on device", "a.tar"), "error: a.tar: No space left on device; make room"),
        (PermissionError(errno.EACCES, "Permission denied", "data"), "error: data: Permission denied; change its"),
        (OSError("truncated stream"), "error: truncated stream; mend that and run the same command again"),
        (MemoryError("9 GiB"), "error: memory does not suffice (9 GiB); take smaller batches"),
        (RecursionError("maximum depth"), "error: something that was read is nested too deeply; check the files"),
    ],
)
def test_errors_of_the_surroundings_are_one_message(monkeypatch, capsys, error, message):
    with pytest.raises(SystemExit) as ended:
        raising(monkeypatch, error)
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)
    assert line.endswith("With VLALIGN_TRACEBACK=1 in the environment, a traceback shows where it was")


def test_their_traceback_is_shown_on_request(monkeypatch):
    monkeypatch.setenv("VLALIGN_TRACEBACK", "1")
    with pytest.raises(OSError, match="gone"):
        raising(monkeypatch, OSError("gone"))


@pytest.mark.parametrize("error", [KeyError("bug"), RuntimeError("bug")])
def test_bugs_show_where_they_are_on_request(monkeypatch, error):
    monkeypatch.setenv("VLALIGN_TRACEBACK", "1")
    with pytest.raises(type(error), match="bug"):
        raising(monkeypatch, error)


def test_an_output_below_a_file_is_told_by_the_command(tmp_path):
    (tmp_path / "file").write_text("")
    files = ("--params", str(ROOT / "params.yaml"), "--params", str(ROOT / "config/test.yaml"))
    command = [sys.executable, "-m", "vlalign", "dataset", *files, "--output", "file/below"]
    environment = {key: value for key, value in os.environ.items() if key != "VLALIGN_TRACEBACK"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "error: file/below" in result.stderr
    assert "Traceback" not in result.stderr
