from dataclasses import replace
from types import SimpleNamespace

import pytest
from annotated_scenes import write_annotated, write_unpaired
from frozen_runs import params, write_run

from vlalign.adaptation.features import encode_split
from vlalign.models import build
from vlalign.training.data.inputs import Inputs


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """Scenes, a run whose towers are frozen, and what they give of every split, tokens as well."""
    root = tmp_path_factory.mktemp("frozen")
    write_annotated(root, images=40)
    write_unpaired(root / "unpaired")
    start = write_run(root / "first", seed=0)
    inputs = Inputs(
        root / "split",
        validation=root / "split",
        unpaired_images=root / "unpaired" / "images",
        unpaired_captions=root / "unpaired" / "captions",
        start=start,
    )
    encoder = build(params().model, start=start).eval()
    for tokens, folder in ((False, root / "pooled"), (True, root / "tokens")):
        for split, name in (("train", "split"), ("validation", "split")):
            encode_split(root / name, folder / split, encoder, tokens=tokens, batch_size=7)
        for kind in ("images", "captions"):
            encode_split(root / "unpaired" / kind, folder / "unpaired" / kind, encoder, tokens=tokens, batch_size=7)
    pooled, tokens = (replace(inputs, features=root / name) for name in ("pooled", "tokens"))
    return SimpleNamespace(root=root, start=start, encoder=encoder, pooled=pooled, tokens=tokens)
