import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vlalign import cli
from vlalign import params as parameters
from vlalign.errors import VlalignError

ROOT = Path(__file__).parents[1]
COMMANDS = typer.main.get_command(cli.app).list_commands(None)
RUNNER = CliRunner()


def run(*arguments, folder=ROOT):
    """The command as a user runs it."""
    command = [sys.executable, "-m", "vlalign", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = RUNNER.invoke(cli.app, [command, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output
    assert cli.app.info.help not in result.output, "a command has a help text of its own"


def test_help_names_every_command():
    result = RUNNER.invoke(cli.app, ["--help"])
    assert set(COMMANDS) <= set(result.output.split())


def test_help_answers_without_loading_torch():
    code = "import sys; from vlalign import cli; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_validate_lists_the_runs_of_params(monkeypatch):
    monkeypatch.chdir(ROOT)
    result = RUNNER.invoke(cli.app, ["validate", "params.yaml"])
    assert result.exit_code == 0, result.output
    runs = parameters.load("params.yaml").all_runs.values()
    assert result.output.splitlines() == [f"{run.name}\tseeds {', '.join(map(str, run.seeds))}" for run in runs]
    assert "tau-0.001\tseeds 0" in result.output.splitlines()


def test_schema_is_json_on_standard_output():
    result = RUNNER.invoke(cli.app, ["schema"])
    assert result.output == (ROOT / "workflow" / "schemas" / "params.schema.json").read_text()


PHRASES = ["phrases", "--params", str(ROOT / "params.yaml"), "--split", "train", "--output", "out"]


@pytest.mark.parametrize(("options", "part"), [([], None), (["--part", "1-of-4"], "1-of-4")])
def test_phrases_pass_on_what_they_are_told(monkeypatch, options, part):
    called = {}
    monkeypatch.setattr(
        "vlalign.annotate.phrases.annotation.parse_split", lambda *folders, **given: called.update(given)
    )
    expected = {"max_words": 7, "batch_size": 3, "long_captions": "cut", "device": "cpu", "max_skipped": 1.0}
    changes = [f"annotate.parser.{key}={value}" for key, value in expected.items()]
    result = RUNNER.invoke(cli.app, [*PHRASES, *changes, *options])
    assert result.exit_code == 0, result.output
    assert called == {**expected, "part": part}


@pytest.mark.slow
def test_mistakes_are_one_message_without_a_traceback(tmp_path):
    for arguments, message in (
        (["validate", "absent.yaml"], "error: absent.yaml does not exist"),
        (["dataset"], "error: params.yaml does not exist"),
        (
            ["dataset", "--params", ROOT / "params.yaml", "params.yaml"],
            "error: 'params.yaml' changes no param; write",
        ),
        (["dataset", "--params", ROOT / "params.yaml", "datasets.scenes.classes=1"], "datasets.scenes.classes: "),
        (["pretrain", "--params", ROOT / "params.yaml", "--run", "tau-1.0"], "nearest: tau-1, "),
    ):
        result = run(*arguments, folder=tmp_path)
        assert result.returncode == 1
        assert message in result.stderr
        assert "Traceback" not in result.stderr
        assert result.stdout == ""


def test_brackets_in_a_message_are_no_markup(monkeypatch, capsys):
    def fail():
        raise VlalignError("[bold] and [/] in data/[a].json")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit):
        cli.main()
    assert "error: [bold] and [/] in data/[a].json" in capsys.readouterr().err


def test_long_messages_keep_their_lines(monkeypatch, capsys):
    path = "/".join(["folder"] * 40)

    def fail():
        raise VlalignError(f"{path} does not exist; give the path of a params file")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit):
        cli.main()
    assert f"error: {path} does not exist; give the path" in capsys.readouterr().err
