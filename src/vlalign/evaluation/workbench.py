"""A dataset as one encoder sees it: every split is encoded at most once, when the first benchmark asks for it."""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlalign.annotate.phrases.annotation import ParsedCaption, read_phrases
from vlalign.annotate.regions.boxes import random_boxes
from vlalign.data.shards.class_files import class_file
from vlalign.data.shards.index import index_path, open_index
from vlalign.data.shards.split import read_manifest
from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import AbsentError, Kind, UnmeasurableError, manifest_of
from vlalign.evaluation.features import BATCH_SIZE, SplitFeatures, encode_split, encode_texts, split_images
from vlalign.evaluation.hard_negatives import CompositionItem, read_category
from vlalign.evaluation.prompts import (
    check_labels,
    fill_templates,
    read_classnames,
    read_templates,
    zeroshot_classifier,
)
from vlalign.evaluation.store import FeatureStore
from vlalign.models import DualEncoder
from vlalign.records import check_record, read_record

# Boxes of an image among which phrases are grounded.
BOXES = 16
# Embeddings whose numbers differ by less are equal: two orders of the same sums.
SAME = 1e-5
TEMPLATES = "zeroshot_classification_templates.txt"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Classes:
    """The names of a split's classes, the templates of their prompts, and the file that has the names."""

    names: tuple[str, ...]
    templates: tuple[str, ...]
    file: Path


@dataclass(frozen=True)
class Prompts:
    """Class prompts, class by class; row i of `embeddings_CD` is a prompt of class `labels_C[i]`."""

    classnames: tuple[str, ...]
    embeddings_CD: Tensor
    labels_C: Tensor


@dataclass
class Workbench:
    """The splits of `data` through `encoder`.

    encoder: in eval mode. data: dataset folder with `<split>`, `zeroshot/<split>` and `composition/<split>`.
    annotations: folder with `phrases/<split>`; None where there is none. dense: keep what grounding needs when a
    retrieval split is encoded. batch_size: images or captions per forward pass. workers: threads that decode pictures
    ahead. precision: of the towers, fp32 or bf16. templates: of prompts, in the place of those of the data. store:
    holds embeddings that were computed before.
    """

    encoder: DualEncoder
    data: Path
    annotations: Path | None = None
    dense: bool = True
    batch_size: int = BATCH_SIZE
    workers: int = 0
    precision: str = "fp32"
    templates: tuple[str, ...] = ()
    store: FeatureStore | None = None
    _splits: dict[str, SplitFeatures] = field(default_factory=dict, repr=False)
    _classes: dict[str, Classes] = field(default_factory=dict, repr=False)
    _prompts: dict[str, Prompts] = field(default_factory=dict, repr=False)
    _own: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def has(self, kind: Kind, split: str) -> bool:
        """Whether there are data of a kind of a split."""
        path = manifest_of(kind, split, data=self.data, annotations=self.annotations)
        return path is not None and path.is_file()

    def split(self, name: str) -> SplitFeatures:
        """Features of the retrieval split `name`; raises AbsentError when it or its captions are missing."""
        annotation = None
        if self.annotations and self.dense and name not in self._splits and self.has("phrases", name):
            annotation = read_phrases(self.annotations / "phrases" / name)
        with self.encoder.keeping_own() as own:
            features = self._encoded(name, annotation=annotation)
        # Nothing is kept of a split that was encoded before, or whose embeddings a store holds.
        if own["images"] and own["texts"]:
            self._own[name] = torch.cat(own["images"]), torch.cat(own["texts"])
        if not features.captions:
            raise AbsentError(f"{self.data / name} has no captions; give every sample a .txt")
        return features

    def in_open_clip(self, name: str) -> tuple[Tensor, Tensor] | None:
        """Unit embeddings of images and captions of the retrieval split `name` that open_clip's own pooling gives; None
        where they are those of `split`, or not known.
        """
        features = self.split(name)
        ours, own = (features.images_ID, features.captions_CD), self._own.get(name)
        if own is None or any(len(one) != len(other) for one, other in zip(ours, own, strict=True)):
            return None
        same = all(torch.allclose(one, other, atol=SAME) for one, other in zip(ours, own, strict=True))
        return None if same else own

    def labelled(self, name: str) -> tuple[Tensor, Tensor]:
        """Embeddings [N, D] and labels [N] (long) of `zeroshot/<name>`; raises AbsentError when there are none."""
        labels = self.labels(name)
        return self._encoded(f"zeroshot/{name}").images_ID, torch.tensor(labels)

    def labels(self, name: str) -> list[int]:
        """The labels of `zeroshot/<name>`, without encoding it; raises AbsentError where a sample has none."""
        directory = self._directory(f"zeroshot/{name}")
        indices = (open_index(index_path(directory, shard["name"]))[0] for shard in read_manifest(directory)["shards"])
        labels = [label for rows in indices for label in rows.column("label").to_pylist()]
        if None in labels or not labels:
            raise AbsentError(f"{directory} has samples without a class; give every sample a .cls")
        return labels

    def classes(self, split: str) -> Classes:
        """What CLIP_benchmark's two files say; raises AbsentError for a missing one, and VlalignError for a bad one."""
        if split not in self._classes:
            names = self._class_file(split, "classnames.txt")
            templates = self.templates or tuple(read_templates(self._class_file(split, TEMPLATES)))
            self._classes[split] = Classes(tuple(read_classnames(names)), templates, names)
        return self._classes[split]

    def check_classes(self, *splits: str) -> None:
        """Raises VlalignError when samples of a split of `zeroshot` have classes that the last one has no names for."""
        classes = self.classes(splits[-1])
        for split in splits:
            check_labels(self.labels(split), classes.names, data=self.data / "zeroshot" / split, names=classes.file)

    def same_classes(self, split: str, other: str) -> None:
        """Raises UnmeasurableError when a class of `zeroshot/<other>` has another name than in `zeroshot/<split>`."""
        ours, theirs = self.classes(split), self.classes(other)
        for label, (one, another) in enumerate(zip(ours.names, theirs.names, strict=False)):
            if one != another:
                raise UnmeasurableError(f"class {label} is {one!r} in {ours.file}, but {another!r} in {theirs.file}")

    def prompts(self, split: str) -> Prompts:
        """Every class name of `zeroshot/<split>` in every template; see `classes` for what it raises."""
        if split not in self._prompts:
            classes = self.classes(split)
            prompts = fill_templates(classes.names, classes.templates)
            embeddings_CD = self._texts(prompts)
            labels_C = torch.arange(len(classes.names)).repeat_interleave(len(classes.templates))
            self._prompts[split] = Prompts(classes.names, embeddings_CD, labels_C)
        return self._prompts[split]

    def classifier(self, split: str) -> Tensor:
        """Unit-norm class vectors [K, D] of `zeroshot/<split>`; see `zeroshot_classifier`."""
        prompts = self.prompts(split)
        return zeroshot_classifier(prompts.embeddings_CD, len(prompts.classnames))

    def boxes(self, name: str) -> tuple[Tensor, Tensor]:
        """Coverage_IBV and mask_IB of random boxes of split `name`, which depend on the images' keys alone."""
        draws = (random.Random(f"evaluation/{key}") for key in self.split(name).keys)
        coverage_IBV = torch.stack([random_boxes(draw, BOXES, self.encoder.grid) for draw in draws])
        return coverage_IBV, torch.ones(coverage_IBV.shape[:2], dtype=torch.bool)

    def composition(
        self, name: str
    ) -> tuple[Mapping[str, Sequence[CompositionItem]], Mapping[str, Tensor], Mapping[str, Tensor]]:
        """Items by category, and unit-norm embeddings [D] by image key and by caption, of `composition/<name>`."""
        directory = self._directory(f"composition/{name}")
        named = read_record(directory / "manifest.json").get("files", {})
        files = [directory / name for name in sorted(named) if name.endswith(".json")]
        if not any(map(read_category, files)):
            raise AbsentError(f"{directory} has no category file <category>.json with items")
        with self._arithmetic():
            samples, images_ID = split_images(self.encoder, directory, **self._how())
        # Packed images have running numbers for keys, and their paths in the source beside them.
        keys = {path: sample.key for sample in samples if isinstance(path := sample.meta.get("path"), str)}
        categories = {path.stem: items for path in files if (items := read_category(path, keys))}
        texts = [text for items in categories.values() for i in items for text in (i.caption, i.negative_caption)]
        texts = list(dict.fromkeys(texts))
        captions_CD = self._texts(texts)
        images = {sample.key: row for sample, row in zip(samples, images_ID, strict=True)}
        return categories, images, dict(zip(texts, captions_CD, strict=True))

    def _encoded(self, name: str, *, annotation: Mapping[str, list[ParsedCaption]] | None = None) -> SplitFeatures:
        if name not in self._splits:
            folder = self._directory(name)
            with self._arithmetic():
                self._splits[name] = encode_split(self.encoder, folder, annotation=annotation, **self._how())
            # A split that lost a shard would be measured without a word.
            path, found = folder / "nshards.txt", len(list(folder.glob("*.tar")))
            if path.is_file() and int(path.read_text()) != found:
                raise VlalignError(
                    f"{path} promises {path.read_text().strip()} shards, but {found} are there; make the split again"
                )
        return self._splits[name]

    def _texts(self, texts: list[str]) -> Tensor:
        with self._arithmetic():
            return encode_texts(self.encoder, texts, batch_size=self.batch_size, store=self.store)

    def _how(self) -> dict[str, Any]:
        return {"batch_size": self.batch_size, "workers": self.workers, "store": self.store}

    def _arithmetic(self) -> torch.autocast:
        device = next(self.encoder.parameters()).device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def _directory(self, name: str) -> Path:
        directory = self.data / name
        if not (directory / "manifest.json").is_file():
            raise AbsentError(f"{directory} has no manifest.json; make this split or leave its benchmark out")
        check_record(directory / "manifest.json")
        return directory

    def _class_file(self, split: str, name: str) -> Path:
        folder = self._directory(f"zeroshot/{split}")
        try:
            return class_file(folder, name)
        except VlalignError as error:
            raise AbsentError(str(error)) from None
