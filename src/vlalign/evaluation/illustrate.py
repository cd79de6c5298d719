"""Pictures of what trained runs have learnt: regions and phrases of a few images, and both modalities in the plane."""

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import torch.nn.functional as F

from vlalign.data.samples import decode_image, decode_instances
from vlalign.data.splits import read_split
from vlalign.evaluation.features import DenseFeatures, SplitFeatures
from vlalign.evaluation.regions_drawn import region_drawings
from vlalign.evaluation.workbench import Workbench
from vlalign.models import load
from vlalign.objectives.alignment import pool_regions
from vlalign.records import stamps, write_record
from vlalign.reporting.figures import SceneDrawing, draw_embeddings, draw_similarity
from vlalign.reporting.results import weights_by_place

# The images that are drawn: the first of each stratum with a caption of at least two phrases.
IMAGES_PER_STRATUM = 2
# What vouches for the figures.
RECORD = "illustrations.json"


def illustrate(
    run_dirs: Mapping[str, Path], *, data: Path, annotations: Path, split: str, compared: tuple[str, ...], output: Path
) -> None:
    """Write `similarity.svg` and `embeddings.svg` into the folder `output`.

    run_dirs: a run's folder by its name, in the order of the panels. compared: the runs whose similarities are drawn.
    """
    points, scenes = {}, []
    # Patches of a whole split are held only where referents are known, which is where splits are small.
    known = any("phrases" in sample.meta for sample in islice(read_split(data / split), 1))
    for name, directory in run_dirs.items():
        encoder = load(directory)
        features = Workbench(encoder, data, annotations, dense=known and name in compared).split(split)
        images, captions = features.pairs()
        points[name] = (images.numpy(), captions.numpy())
        if features.dense is not None:
            scenes += drawings(features, features.dense, data / split, label=name, grid=encoder.grid)
        elif name in compared:
            scenes += region_drawings(encoder, data / split, annotations, label=name)
    # Runs stand side by side for the same picture.
    shown = len(scenes) // max(1, sum(name in compared for name in run_dirs))
    draw_similarity([scene for row in range(shown) for scene in scenes[row::shown]], output / "similarity.svg")
    draw_embeddings(points, output / "embeddings.svg")
    names = ["similarity.svg", "embeddings.svg"]
    write_record(output / RECORD, {"weights": weights_by_place(run_dirs.values()), "files": stamps(output, names)})


def drawings(
    features: SplitFeatures, dense: DenseFeatures, split: Path, *, label: str, grid: tuple[int, int]
) -> list[SceneDrawing]:
    """The chosen images with the similarities of their first caption's phrases."""
    chosen = _choose(features, dense)
    shown = {features.keys[row] for row in chosen}
    pictures = {sample.key: sample for sample in read_split(split) if sample.key in shown}
    regions_IRD = pool_regions(dense.patches_IVD, dense.coverage_IRV)
    result = []
    for row, phrases in chosen.items():
        sample = pictures[features.keys[row]]
        assert sample.instances is not None
        labels = decode_instances(sample.instances)
        objects = [int(index) + 1 for index in dense.objects_IR[row].nonzero()[:, 0]]
        vectors_PD = dense.phrases_ND[phrases]
        result.append(
            SceneDrawing(
                image=np.asarray(decode_image(sample.image)),
                masks=np.stack([labels == instance for instance in objects]),
                phrases=[dense.phrases[index].text for index in phrases],
                patch_similarity=(vectors_PD @ F.normalize(dense.patches_IVD[row], dim=-1).T).numpy(),
                grid=grid,
                region_similarity=(vectors_PD @ regions_IRD[row, [instance - 1 for instance in objects]].T).numpy(),
                referents=[{objects.index(instance) for instance in dense.phrases[i].instances} for i in phrases],
                label=label,
            )
        )
    return result


def _choose(features: SplitFeatures, dense: DenseFeatures) -> dict[int, list[int]]:
    """Image row -> phrase indices of its first caption, for the first fitting images of each stratum."""
    by_caption: dict[int, list[int]] = {}
    for index, phrase in enumerate(dense.phrases):
        by_caption.setdefault(phrase.caption, []).append(index)
    chosen: dict[int, list[int]] = {}
    count: dict[str | None, int] = {}
    for caption, phrases in by_caption.items():
        image = int(features.caption_image_C[caption])
        stratum = features.strata[image]
        if image not in chosen and len(phrases) >= 2 and count.get(stratum, 0) < IMAGES_PER_STRATUM:
            chosen[image] = phrases
            count[stratum] = count.get(stratum, 0) + 1
    return chosen
