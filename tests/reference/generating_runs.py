"""Params of runs that generate pictures with tiny decoders."""

import tiny_decoders

MODEL = {
    "tower": tiny_decoders.TOWER,
    "pooling": "default",
    "adapters": {"sides": "text", "dimension": tiny_decoders.WIDTH, "hidden": 8},
}


def settings(decoder, **generation):
    """params.yaml of two runs that generate pictures of ten captions."""
    decoder = {"model": f"decoders/{decoder}", "kind": decoder, "steps": 2, "guidance": 3.0}
    if decoder["kind"] == "kandinsky":
        decoder["size"] = 16
    return {
        "focus": "adapted",
        "runs": {"arms": ["adapted"], "seeds": [0]},
        "model": MODEL,
        "arms": {"adapted": {}},
        "report": {"baseline": "adapted", "control": "adapted"},
        "generation": {"runs": ["adapted"], "decoder": decoder, "captions": 10, "batch_size": 4, **generation},
    }
