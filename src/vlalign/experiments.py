"""Every finished run as a DVC experiment: `focus` changes, nothing is trained again."""

import contextlib
import fcntl
import logging
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from rich.progress import Progress

from vlalign.console import console
from vlalign.errors import VlalignError
from vlalign.versions import dependencies

# Experiments are made in a checkout of our own: what a killed call leaves there is nobody else's, and is removed by the
# next one. Those of `dvc exp run --temp` lie beside other people's, and would be listed as running for ever.
CHECKOUT, LOCK = Path(".dvc/tmp/vlalign-experiments"), Path(".dvc/tmp/vlalign-experiments.lock")
logger = logging.getLogger(__name__)


def make_experiments(names: Sequence[str]) -> None:
    """Make one experiment per run name, in a checkout of its own: workspace, branch and stash stay as they are.

    Experiments that the present commit has already are passed over; a call that was killed is continued by the next.
    Raises VlalignError when tracked files were changed or results are not those that DVC has recorded, when another
    call is at work, and when an experiment fails.
    """
    _require_recorded()
    commit = _run("git", "rev-parse", "HEAD").strip()
    with _alone() as lock:
        missing = [name for name in names if not _is_made(name, commit)]
        if len(missing) < len(names):
            logger.info("%d of %d experiments exist already", len(names) - len(missing), len(names))
        if missing:
            _make(missing, commit, lock=lock)


def _require_recorded() -> None:
    if shutil.which("dvc") is None:
        raise VlalignError("the command `dvc` is not found; activate the environment")
    if not Path("dvc.lock").is_file():
        raise VlalignError("dvc.lock does not exist; record the results first: `make record`")
    # What Git does not know is in no experiment, so it may lie about.
    changes = _run("git", "status", "--porcelain", "--untracked-files=no")
    if changes.strip():
        raise VlalignError(
            f"there are uncommitted changes; commit them first (`make record` does):\n{changes.rstrip()}"
        )
    # An experiment starts from what is recorded: anything else would be computed again in its checkout.
    status = subprocess.run(["dvc", "status", "--quiet"], capture_output=True, text=True, check=False)
    if status.returncode:
        raise VlalignError("the results are not those that dvc.lock records; run `make record` first")


@contextlib.contextmanager
def _alone() -> Iterator[int]:
    """Hold a lock and yield its file descriptor; a command that inherits it holds it on if this call is killed."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VlalignError(f"another `vlalign experiments` is at work ({LOCK} is locked); wait for it") from None
        yield lock.fileno()


def _is_made(name: str, commit: str) -> bool:
    """Whether the commit has an experiment of this name in which nothing but `focus` differs."""
    shown = subprocess.run(
        ["git", "show", f"{_reference(name, commit)}:params.yaml"], capture_output=True, text=True, check=False
    )
    ours = yaml.safe_load(_run("git", "show", f"{commit}:params.yaml"))
    return shown.returncode == 0 and yaml.safe_load(shown.stdout) == {**ours, "focus": name}


def _reference(name: str, commit: str) -> str:
    """Where DVC keeps an experiment of a commit."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"


def _make(names: Sequence[str], commit: str, *, lock: int) -> None:
    with _checkout() as checkout, Progress(console=console) as progress:
        for name in progress.track(names, description="experiments"):
            command = ("dvc", "exp", "run", "--force", "--name", name, "--set-param", f"focus={name}")
            _run(*command, folder=checkout, lock=lock)
            # Only now does the repository know of it.
            reference = _reference(name, commit)
            _run("git", "fetch", "--quiet", str(checkout), f"+{reference}:{reference}")
            _run("git", "reset", "--quiet", "--hard", folder=checkout)
            logger.info("%s: experiment made", name)


@contextlib.contextmanager
def _checkout() -> Iterator[Path]:
    """A clone with the results in their places, which shares the repository's objects and DVC's cache."""
    shutil.rmtree(CHECKOUT, ignore_errors=True)
    try:
        _run("git", "clone", "--quiet", "--shared", ".", str(CHECKOUT))
        for setting in _run("git", "config", "--list", "--local").splitlines():
            key, _, value = setting.partition("=")
            if key.startswith("user."):
                _run("git", "config", key, value, folder=CHECKOUT)
        if Path(".dvc/config.local").is_file():
            shutil.copy(".dvc/config.local", CHECKOUT / ".dvc")
        _run("dvc", "cache", "dir", "--local", _run("dvc", "cache", "dir").strip(), folder=CHECKOUT)
        _link_own_files()
        _run("dvc", "checkout", "--quiet", folder=CHECKOUT)
        yield CHECKOUT
    finally:
        shutil.rmtree(CHECKOUT, ignore_errors=True)


def _link_own_files() -> None:
    """Tables that DVC depends on and that neither Git nor DVC keeps are read where they lie."""
    for name in dependencies(Path("dvc.yaml")):
        path = CHECKOUT / name
        if not path.exists() and not Path(f"{name}.dvc").exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(Path(name).absolute())


def _run(*command: str, folder: Path = Path(), lock: int | None = None) -> str:
    """What a command prints; raises VlalignError when it fails."""
    passed = () if lock is None else (lock,)
    result = subprocess.run(command, cwd=folder, pass_fds=passed, capture_output=True, text=True, check=False)
    if result.returncode:
        raise VlalignError(f"`{' '.join(command)}` failed:\n{(result.stderr or result.stdout).strip()[-2000:]}")
    return result.stdout
