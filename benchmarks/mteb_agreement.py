"""Zero-shot accuracy, hard negatives and recall beside those of MTEB's own tasks, with the same pictures and weights.

MTEB is no dependency. It goes into a folder of its own, with what it needs and the environment does not have:

    pip install --target FOLDER --no-deps mteb datasets sentence_transformers pytrec-eval-terrier polars \
        polars-runtime-32 dill multiprocess xxhash
    PYTHONPATH=FOLDER python benchmarks/mteb_agreement.py

MTEB's tasks, and so its evaluators, are given data made here in the place of their own, so that nothing is downloaded,
and open_clip's own model; vlalign opens the same folder of weights. There are three models: a stock one of open_clip
and an encoder of vlalign with default pooling, both of random weights, and one to which all inputs are alike.

What must be equal, up to the five decimals to which MTEB rounds, is in `SAME`. Of MTEB's numbers of retrieval,
`hit_rate_at_K` (`cv_recall_at_K` in MTEB 1) is the R@K of CLIP's papers. What differs by definition is checked too:

- `recall_at_K` is the share of a query's right answers that are found. A caption has one, and there it is R@K; an image
  has several, so that even a perfect model does not reach 100 % at 1. MTEB's `accuracy` of retrieval is `recall_at_1`.
- SugarCrepe is one mean over the items of all categories, our "micro". With one picture an item, `image_acc` and
  `accuracy` are 0 for every model, since they also ask for the negative caption's picture.
- Of equals MTEB takes the first class or caption, which in SugarCrepe is the right one, and the document whose id is
  the last. Here ties, up to rounding, count against the model.

Not compared: nDCG@10, MTEB's main score of retrieval, is not measured here, and means over templates and top 5 not
there. MTEB's macro `recall` has a 0 for each class without pictures that was predicted; here all classes have some.
"""

import json
import os
import tempfile
import warnings
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import datasets
import mteb
import numpy as np
import open_clip
import torch
from mteb.similarity_functions import cos_sim, pairwise_cos_sim
from safetensors.torch import save_file

from vlalign import models
from vlalign.data.samples import Sample, encode_png
from vlalign.evaluation.benchmarks.composition import composition_rows
from vlalign.evaluation.benchmarks.retrieval import retrieval_rows
from vlalign.evaluation.benchmarks.zeroshot import zeroshot_rows
from vlalign.evaluation.features import encode_images, encode_texts
from vlalign.evaluation.hard_negatives import CompositionItem, item_similarities
from vlalign.evaluation.prompts import fill_templates, zeroshot_classifier
from vlalign.evaluation.recall import RANKS
from vlalign.models.opened import open_model
from vlalign.params.cards import EvaluatedModel

ROUNDING = 6e-6
KEYS = [f"{number:03d}" for number in range(60)]
CLASSES = ("dog", "red fox", "house cat", "tree", "boat", "crane")
WORDS = ("red", "green", "old", "wet", "dog", "boat", "tree", "house", "on", "under", "the", "a", "two", "of")
TOWER = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 2, "head_width": 16},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
RANDOM, ALIKE = ("stock", "vlalign"), "alike"
ZEROSHOT, CREPE, WINOGROUND = "CIFAR10ZeroShot", "SugarCrepe", "Winoground"
TO_TEXT, TO_IMAGE = "Flickr30kI2TRetrieval", "Flickr30kT2IRetrieval"
# By task and score of MTEB, what we call it.
SAME = {
    (ZEROSHOT, "accuracy"): "accuracy",
    (ZEROSHOT, "recall"): "class_mean",
    (CREPE, "text_acc"): "micro",
    (WINOGROUND, "text_acc"): "text",
    (WINOGROUND, "image_acc"): "image",
    (WINOGROUND, "accuracy"): "group",
    **{(TO_TEXT, f"hit_rate_at_{k}"): f"image_to_text_r{k}" for k in RANKS},
    **{(TO_IMAGE, f"hit_rate_at_{k}"): f"text_to_image_r{k}" for k in RANKS},
    **{(TO_IMAGE, f"recall_at_{k}"): f"text_to_image_r{k}" for k in RANKS},
}


class Data(NamedTuple):
    """Pictures as PNG, their classes and first captions; and all captions by id, with the number of each's picture."""

    pictures: list[bytes]
    labels: list[int]
    firsts: list[str]
    captions: dict[str, str]
    owners: list[int]


def make_data():
    rng, pictures = np.random.default_rng(0), []
    for _ in KEYS:
        height, width = rng.integers(24, 80, 2)
        array = rng.random((height, width, 3)) * 60 + rng.integers(0, 196, 3)
        array[: height // 2] = rng.integers(0, 256, 3)
        pictures.append(encode_png(array.astype(np.uint8)))
    labels = rng.integers(len(CLASSES), size=len(KEYS)).tolist()
    owners = [owner for owner in range(len(KEYS)) for _ in range(1 + owner % 4)]
    captions = [" ".join(rng.choice(WORDS, 6)) for _ in owners]
    firsts = [captions[owners.index(owner)] for owner in range(len(KEYS))]
    return Data(pictures, labels, firsts, {f"caption-{row:03d}": text for row, text in enumerate(captions)}, owners)


def turned(values):
    """For each another, as hard negative."""
    return values[7:] + values[:7]


@torch.no_grad()
def write_models(folder):
    """Each in a folder as open_clip has them."""
    torch.manual_seed(0)
    encoder, stock = models.create(TOWER, pooling="default"), open_clip.CLIP(**TOWER)
    for weight in (*encoder.parameters(), *stock.parameters()):
        # As open_clip draws them, all pictures would be of one class.
        weight.mul_(4 if weight.ndim > 1 else 1)
    models.save(encoder, folder / "vlalign")
    weights = stock.state_dict()
    write_stock(weights, folder / "stock")
    # All embeddings are the first unit vector: similarities are 1, without any rounding.
    for norm, projection in (("visual.ln_post", "visual.proj"), ("ln_final", "text_projection")):
        for name in (f"{norm}.weight", f"{norm}.bias", projection):
            weights[name].zero_()
        weights[f"{norm}.bias"][0] = weights[projection][0, 0] = 1
    write_stock(weights, folder / ALIKE)


def write_stock(weights, folder):
    folder.mkdir()
    save_file(weights, folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.4] * 3, "std": [0.3] * 3, "interpolation": "bilinear"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TOWER, "preprocess_cfg": preprocess}))


def measured_here(data, folder):
    """Our rows by task of MTEB and metric."""
    encoder = open_model(EvaluatedModel(folder=str(folder))).encoder
    images_ID = encode_images(encoder, [Sample(*pair) for pair in zip(KEYS, data.pictures, strict=True)])[1]
    captions_CD = encode_texts(encoder, list(data.captions.values()))
    prompts_KD = encode_texts(encoder, fill_templates(CLASSES, ["a photo of a {c}."]))
    images = dict(zip(KEYS, images_ID, strict=True))
    captions = dict(zip(data.captions.values(), captions_CD, strict=True))
    items = [CompositionItem(*item) for item in zip(KEYS, data.firsts, turned(data.firsts), turned(KEYS), strict=True)]
    similarity_N22, paired_N = item_similarities(items, images, captions)
    # Categories of different sizes, so that the mean over items is none over categories.
    crepe = {"swap": (similarity_N22[:20], ~paired_N[:20]), "replace": (similarity_N22[20:], ~paired_N[20:])}
    retrieval = retrieval_rows(images_ID, captions_CD, torch.tensor(data.owners), [None] * len(KEYS))
    classifier_KD = zeroshot_classifier(prompts_KD, len(CLASSES))
    rows = {
        ZEROSHOT: zeroshot_rows(images_ID, torch.tensor(data.labels), classifier_KD, CLASSES),
        CREPE: composition_rows(crepe),
        WINOGROUND: composition_rows({"winoground": (similarity_N22, paired_N)}),
        TO_TEXT: retrieval,
        TO_IMAGE: retrieval,
    }
    return {task: {row.metric: row for row in found} for task, found in rows.items()}


class OpenClip:
    """What MTEB asks of an encoder, around open_clip's own model of a folder."""

    mteb_model_meta = None
    similarity, similarity_pairwise = staticmethod(cos_sim), staticmethod(pairwise_cos_sim)

    def __init__(self, folder):
        self.model, _, self.transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        self.tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        self.model.eval()

    @torch.inference_mode()
    def encode(self, inputs, **_):
        return torch.cat([self.encode_batch(batch) for batch in inputs])

    def encode_batch(self, batch):
        if "image" in batch:
            return self.model.encode_image(torch.stack([self.transform(picture) for picture in batch["image"]]))
        return self.model.encode_text(self.tokenizer(batch["text"]))


def table(columns, *images):
    rows = datasets.Dataset.from_dict(columns)
    for name in images:
        rows = rows.cast_column(name, datasets.Image())
    return rows


def task_data(data):
    """The data in the form of MTEB's tasks, by their names."""
    images, classes = [{"bytes": picture} for picture in data.pictures], datasets.ClassLabel(names=list(CLASSES))
    pictures = table({"id": KEYS, "image": images}, "image")
    texts = table({"id": list(data.captions), "text": list(data.captions.values())})
    to_image = {name: {KEYS[owner]: 1} for name, owner in zip(data.captions, data.owners, strict=True)}
    to_text = {key: {name: 1 for name in to_image if key in to_image[name]} for key in KEYS}
    pairs = {"image_0": images, "image_1": turned(images), "caption_0": data.firsts, "caption_1": turned(data.firsts)}
    crepe = {"images": images, "caption": data.firsts, "negative_caption": turned(data.firsts)}
    return {
        ZEROSHOT: table({"img": images, "label": data.labels}, "img").cast_column("label", classes),
        CREPE: table(crepe, "images"),
        WINOGROUND: table(pairs, "image_0", "image_1"),
        TO_TEXT: {"queries": pictures, "corpus": texts, "relevant_docs": to_text, "top_ranked": None},
        TO_IMAGE: {"queries": texts, "corpus": pictures, "relevant_docs": to_image, "top_ranked": None},
    }


def measured_there(data, folder):
    """MTEB's scores, 0-1, by task and name."""
    encoder, found = OpenClip(folder), {}
    for name, content in task_data(data).items():
        task = mteb.get_task(name)
        task.dataset, task.data_loaded = {"test": content}, True
        scores = task.evaluate(encoder, encode_kwargs={"batch_size": 16, "show_progress_bar": False})["default"]
        found |= {(name, score): value for score, value in scores.items()}
    return found


def same(here):
    """Our numbers, 0-1, under MTEB's names: what MTEB must give."""
    return {(task, score): here[task][ours].value / 100 for (task, score), ours in SAME.items()}


def other_definitions(data, here):
    """What MTEB must give where it counts otherwise, from our hits of each image."""
    shares = here[TO_TEXT]["image_to_text_r1"].items / np.bincount(data.owners)
    recall = {(TO_TEXT, score): shares.mean() for score in ("recall_at_1", "accuracy")}
    return recall | {(CREPE, score): 0.0 for score in ("image_acc", "accuracy")}


def decided_by_order(data):
    """What MTEB must give a model to which all is alike: ids are sorted, and the last are found."""
    expected = {(ZEROSHOT, "accuracy"): data.labels.count(0) / len(KEYS), (ZEROSHOT, "recall"): 1 / len(CLASSES)}
    expected |= {(CREPE, "text_acc"): 1.0, **{place: 0.0 for place in SAME if place[0] == WINOGROUND}}
    owners = np.array(data.owners)
    for k in RANKS:
        expected[TO_TEXT, f"hit_rate_at_{k}"] = len(set(owners[-k:])) / len(KEYS)
        found = (owners >= len(KEYS) - k).mean()
        expected |= {(TO_IMAGE, f"{score}_at_{k}"): found for score in ("hit_rate", "recall")}
    return expected


def check(what, expected, there):
    """Print both; they must be equal."""
    print(f"\n{what}: {len(expected)} numbers, expected and MTEB's in %")
    for (task, score), value in expected.items():
        print(f"  {task:<22} {score:<14} {100 * value:7.3f} {100 * there[task, score]:7.3f}")
    wrong = [place for place, value in expected.items() if not abs(there[place] - value) < ROUNDING]
    assert not wrong, f"{what}: MTEB differs in {wrong}"


def main():
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", message="Precision is ill-defined")
    data = make_data()
    print(f"MTEB {mteb.__version__}, {len(KEYS)} pictures, {len(data.captions)} captions")
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder))
        for model in RANDOM:
            here, there = (measured(data, Path(folder, model)) for measured in (measured_here, measured_there))
            check(f"{model}, as here", same(here), there)
            check(f"{model}, other definitions", other_definitions(data, here), there)
        assert not any(same(measured_here(data, Path(folder, ALIKE))).values())
        check("all alike, 0 here", decided_by_order(data), measured_there(data, Path(folder, ALIKE)))


if __name__ == "__main__":
    main()
