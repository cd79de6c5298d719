import json
import re
from pathlib import Path

import torch

from vlalign import models

REPOSITORY = Path(__file__).parents[1]


def block(word):
    blocks = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (text for text in blocks if word in text)
    return found


def test_the_losses_can_be_lifted_out_as_the_readme_says():
    torch.manual_seed(0)
    names: dict = {}
    exec(block("powerset_loss"), names)
    assert names["tokens_CLD"].grad.isfinite().all()
    assert names["tokens_CLD"].grad.abs().sum() > 0
    assert names["triplet"].item() > 0


def test_a_run_is_loaded_as_the_readme_says(tmp_path, monkeypatch):
    tower = json.loads((REPOSITORY / "config" / "towers" / "test.json").read_text())
    models.save(models.create(tower, pooling="average"), tmp_path / "results/runs/powerclip/seed-0")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(block("vlalign.load"), names)
    assert names["text"].embedding_CD.shape == (1, 16)
