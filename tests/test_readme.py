import re
from pathlib import Path

import torch

README = Path(__file__).parents[1] / "README.md"


def test_the_losses_can_be_lifted_out_as_the_readme_says():
    (block,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    torch.manual_seed(0)
    names: dict = {}
    exec(block, names)
    assert names["tokens_CLD"].grad.isfinite().all()
    assert names["tokens_CLD"].grad.abs().sum() > 0
    assert names["triplet"].item() > 0
