import re
import subprocess
import sys
from pathlib import Path

import pytest
from annotated_scenes import write_annotated

REPOSITORY = Path(__file__).parents[1]
LOOP = REPOSITORY / "examples" / "open_clip_loop.py"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_annotated(root, images=40)
    for kind in ("phrases", "regions"):
        folder = root / "annotations" / kind
        folder.mkdir(parents=True)
        (root / kind).rename(folder / "train")
    return root


def run(script, data, steps):
    command = [
        sys.executable,
        script,
        data / "split",
        data / "annotations",
        "--steps",
        str(steps),
        "--batch-size",
        "16",
    ]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [[float(number) for number in re.findall(r"-?\d+\.\d+", line)] for line in result.stdout.splitlines()]


def test_the_loop_trains_on_all_three_losses(data):
    assert len(LOOP.read_text().splitlines()) <= 60
    losses = run(LOOP, data, 21)
    assert len(losses) == 3
    first, last = losses[0], losses[-1]
    assert last[0] < first[0]
    assert last[1] < first[1]


def test_without_the_marked_lines_a_plain_loop_remains(data, tmp_path):
    lines = LOOP.read_text().splitlines()
    plain, skipping = [], 0
    for line in lines:
        if skipping or line.rstrip().endswith("# +"):
            # A marked call goes on until its bracket closes.
            skipping += line.split("# +")[0].count("(") - line.split("# +")[0].count(")")
            continue
        plain.append(line)
    script = tmp_path / "plain.py"
    script.write_text("\n".join(plain).split("        print(")[0] + "        print(f'step {step}: {loss:.3f}')\n")
    losses = run(script, data, 21)
    assert losses[-1][0] < losses[0][0]
