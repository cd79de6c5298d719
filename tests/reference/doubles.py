"""Models whose towers are replaced by what is known beforehand, on miniature data sets.

random: a direction for each picture and each text, which says nothing of what they are about. leaking: a direction for
what they are about. constant: one direction for everything.
"""

import hashlib
from collections import Counter
from functools import partial

import miniatures
import numpy as np
import torch
from torch.nn.functional import normalize

from vlalign.models.opened import open_model
from vlalign.models.towers import ImageFeatures, TextFeatures
from vlalign.reporting import evaluations

MODELS = ("random", "leaking", "constant")
WIDTH = 16


def _directions(numbers):
    draws = (np.random.default_rng(number).normal(size=WIDTH) for number in numbers)
    return normalize(torch.from_numpy(np.stack(list(draws))), dim=1).float()


def _digests(batch):
    return [int.from_bytes(hashlib.sha256(one.contiguous().numpy().tobytes()).digest()[:8]) for one in batch]


def _zeros(batch):
    return [0] * len(batch)


NUMBERS = {
    "random": (_digests, _digests),
    "leaking": (miniatures.seen_in, miniatures.read_in),
    "constant": (_zeros, _zeros),
}


def double_models(monkeypatch, *, refuse=None):
    """Let `vlalign evaluate` open models whose towers do as their names say; others are as they are.

    refuse: given what each picture of a batch is about, may raise in place of encoding it.
    Returns how many pictures and texts every model was given, by (name, "image" or "text").
    """
    given = Counter()

    def encode_image(images_I3HW, *, name):
        if refuse is not None:
            refuse(miniatures.seen_in(images_I3HW))
        given[name, "image"] += len(images_I3HW)
        numbers = NUMBERS[name][0](images_I3HW)
        return ImageFeatures(_directions(numbers), torch.zeros(len(numbers), 1, WIDTH))

    def encode_text(tokens_CL, *, name):
        given[name, "text"] += len(tokens_CL)
        numbers = NUMBERS[name][1](tokens_CL)
        return TextFeatures(_directions(numbers), torch.zeros(*tokens_CL.shape, WIDTH), tokens_CL != 0)

    def open_double(spec, *, base, key):
        opened = open_model(spec, base=base, key=key)
        if key in NUMBERS:
            opened.encoder.encode_image = partial(encode_image, name=key)
            opened.encoder.encode_text = partial(encode_text, name=key)
        return opened

    monkeypatch.setattr(evaluations, "open_model", open_double)
    return given
