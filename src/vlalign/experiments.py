"""Every finished run as a DVC experiment: `focus` changes, nothing is trained again."""

import logging
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from vlalign.console import console
from vlalign.errors import VlalignError

logger = logging.getLogger(__name__)


def make_experiments(names: Sequence[str]) -> None:
    """Make one experiment per run name, in temporary checkouts: workspace, branch and stash stay as they are.

    Raises VlalignError when the repository has uncommitted changes or results that DVC has not recorded, and when an
    experiment fails.
    """
    _require_recorded()
    with Progress(console=console) as progress:
        for name in progress.track(names, description="experiments"):
            _run(["dvc", "exp", "run", "--temp", "--force", "--name", name, "--set-param", f"focus={name}"])
            logger.info("%s: experiment made", name)


def _require_recorded() -> None:
    if shutil.which("dvc") is None:
        raise VlalignError("the command `dvc` is not found; activate the environment")
    if not Path("dvc.lock").is_file():
        raise VlalignError("dvc.lock does not exist; record the results first: `make record`")
    changes = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=False).stdout
    if changes.strip():
        raise VlalignError(
            f"there are uncommitted changes; commit them first (`make record` does):\n{changes.rstrip()}"
        )
    # An experiment starts from what is recorded: anything else would be computed again in its checkout.
    status = subprocess.run(["dvc", "status", "--quiet"], capture_output=True, text=True, check=False)
    if status.returncode:
        raise VlalignError("the results are not those that dvc.lock records; run `make record` first")


def _run(command: Sequence[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise VlalignError(f"`{' '.join(command)}` failed:\n{(result.stderr or result.stdout).strip()[-2000:]}")
