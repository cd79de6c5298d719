from pathlib import Path

import pytest
from fake_results import load_tree, write_tree

from vlalign.reporting.results import Results


@pytest.fixture
def run_dirs(tmp_path: Path) -> list[Path]:
    return write_tree(tmp_path)


@pytest.fixture
def results(tmp_path: Path, run_dirs: list[Path]) -> Results:
    return load_tree(tmp_path, run_dirs)


@pytest.fixture
def demo(tmp_path: Path) -> Results:
    """Two arms, one seed, no ablation: what the smallest configuration leaves."""
    return load_tree(tmp_path, write_tree(tmp_path, arms=("clip", "powerclip"), seeds=(0,), taus=()))
