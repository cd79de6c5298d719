import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from annotated_scenes import write_annotated
from PIL import Image

from vlalign.data.packing.entries import entries
from vlalign.data.skipped import Skips
from vlalign.data.sources.table import TableSource

REPOSITORY = Path(__file__).parents[1]
LOOP = REPOSITORY / "examples" / "open_clip_loop.py"
PHOTOGRAPHS = REPOSITORY / "examples" / "photographs.py"


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


@pytest.mark.slow
def test_the_loop_trains_on_all_three_losses(data):
    assert len(LOOP.read_text().splitlines()) <= 60
    losses = run(LOOP, data, 21)
    assert len(losses) == 3
    first, last = losses[0], losses[-1]
    assert last[0] < first[0]
    assert last[1] < first[1]


@pytest.mark.slow
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


def test_the_photographs_can_be_packed_and_each_has_its_own_captions(tmp_path):
    command = [sys.executable, PHOTOGRAPHS, tmp_path / "photographs"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    table = tmp_path / "photographs" / "captions.csv"
    skips = Skips()
    found = list(entries(TableSource(source="table", table=str(table)), skips))
    captions = [caption for entry in found for caption in entry.captions]
    assert f"{len(found)} photographs, {len(captions)} captions" in result.stdout
    assert skips.total == 0
    assert 40 <= len(found) <= 60
    assert all(2 <= len(entry.captions) <= 3 for entry in found)
    assert len(set(captions)) == len(captions)
    pixels = {Image.open(entry.path).tobytes() for entry in found}
    assert len(pixels) == len(found)


def test_the_photographs_crops_lie_within_their_pictures():
    described = yaml.safe_load(PHOTOGRAPHS.with_suffix(".yaml").read_text())
    photograph = runpy.run_path(str(PHOTOGRAPHS))["photograph"]
    for name, entry in described.items():
        width, height = photograph(name).size
        for part, crop in entry.get("crops", {}).items():
            left, upper, right, lower = crop["box"]
            assert 0 <= left < right <= width, (name, part)
            assert 0 <= upper < lower <= height, (name, part)
