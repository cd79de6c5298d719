"""Real repositories to run Snakemake and DVC in: this project's files, with params that make the whole DAG small."""

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from warm_server import __file__ as warm_server_file
from warm_server import write_client

from vlalign.params import merged

PROJECT = Path(__file__).parents[2]
# The fewest and shortest runs that still use every rule. Training is long enough to be killed half-way.
SMALLEST = {
    "runs": {"arms": ["clip", "powerclip"], "seeds": [0], "ablations": ["tau"]},
    "datasets": {
        "scenes": {
            "images": {"train": 32, "validation": 24, "test": 24},
            "captions": 1,
            "zeroshot_images": 12,
            "composition_items": 2,
        },
    },
    "annotate": {"parser": {"trees": 50}},
    "train": {"steps": 40, "batch_size": 8},
    "ablations": [
        {"name": "tau", "arm": "powerclip-nla", "param": "objective.powerset.tau", "values": [0.1], "seeds": [0]}
    ],
    "report": {"control": "clip", "precision": {"regions": [2], "pairs": 4}},
}


@dataclass(frozen=True)
class Repository:
    """A Git and DVC repository in a temporary folder."""

    root: Path

    @property
    def imports(self) -> Path:
        """Where commands that run here write which modules they have imported; see reference/recorder."""
        return self.root.with_name(f"{self.root.name}-imports")

    @property
    def environment(self) -> dict[str, str]:
        """The running interpreter's commands and this repository's code; nobody's own settings of Git."""
        return {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(self.root / "src"), str(PROJECT / "tests" / "reference" / "recorder")]),
            "IMPORTS_GO_TO": str(self.imports),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.root / ".dvc" / "tmp" / "site"),
        }

    def attempt(self, *command: str | Path) -> subprocess.CompletedProcess:
        """Run a command, whatever its exit code; both of its streams are in `stdout`."""
        return subprocess.run(
            list(map(str, command)),
            cwd=self.root,
            env=warmed(self.environment),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=900,
        )

    def run(self, *command: str | Path) -> str:
        """What a command prints; it must succeed."""
        result = self.attempt(*command)
        # What failed comes last: there, the workflow shows the ends of the logs of its failed steps.
        assert result.returncode == 0, f"{' '.join(map(str, command))}\n{result.stdout[-6000:]}"
        return result.stdout

    def start(self, *command: str) -> subprocess.Popen:
        """Start a command as the leader of its own process group."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def plan(self) -> set[str]:
        """The jobs that `snakemake all` would run, such as "collect" or "pretrain run=clip, seed=0"."""
        return jobs(self.run("snakemake", "--dry-run", "all")) - {"all"}

    def changes(self) -> list[str]:
        """Lines of `git status`: what is neither committed nor ignored."""
        return self.run("git", "status", "--porcelain").splitlines()

    def set_params(self, changes: Mapping[str, Any]) -> None:
        """Change keys of params.yaml."""
        path = self.root / "params.yaml"
        path.write_text(yaml.safe_dump(merged(yaml.safe_load(path.read_text()), changes), sort_keys=False))

    def commit(self, message: str) -> None:
        """Commit everything that Git does not ignore."""
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def adopt(self) -> "Repository":
        """Name an author, in this repository alone."""
        self.run("git", "config", "user.name", "Tester")
        self.run("git", "config", "user.email", "tester@example.org")
        return self

    def copy(self, root: Path) -> "Repository":
        """The same repository elsewhere. Links are followed: none may lead back to the original."""
        shutil.copytree(self.root, root)
        return Repository(root)


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """What the libraries read when they are imported."""
    return {name: environment[name] for name in environment if name.startswith(("HF_", "TORCH", "TRANSFORMERS_"))}


@cache
def warm_server() -> tuple[Path, dict[str, str]]:
    """The folder with its client (see reference/warm_server.py), and the settings that it has."""
    folder = Path(tempfile.mkdtemp())
    write_client(folder / "bin", folder / "socket")
    command = [sys.executable, warm_server_file, str(folder / "socket")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(process.kill)
    return folder / "bin", settings(os.environ)


def warmed(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which `vlalign` begins with its libraries imported, unless these would have other settings."""
    client, known = warm_server()
    if settings(environment) != known:
        return dict(environment)
    return {**environment, "PATH": os.pathsep.join([str(client), environment["PATH"]])}


def jobs(output: str) -> set[str]:
    """Rule and wildcards of every job that Snakemake announces in its output."""
    found = set()
    for rule, details in re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)*)", output, flags=re.MULTILINE):
        wildcards = re.search(r"^ {4}wildcards: (.*)$", details, flags=re.MULTILINE)
        found.add(f"{rule} {wildcards[1]}" if wildcards else rule)
    return found


def new_repository(root: Path) -> Repository:
    """This project's files as they are now, with the smallest params and nothing recorded, in one commit."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=PROJECT, check=True, capture_output=True, text=True).stdout.split("\0")
    for name in names:
        if (PROJECT / name).is_file() and name != "dvc.lock":
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, root / name)
    repository = Repository(root)
    overlay = yaml.safe_load((PROJECT / "config" / "test.yaml").read_text())
    repository.set_params(merged(overlay, {"root": ".", "focus": "powerclip", **SMALLEST}))
    repository.run("git", "init", "--quiet", "--initial-branch", "main")
    repository.adopt().commit("Project")
    return repository
