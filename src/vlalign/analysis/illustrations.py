"""What trained runs see in pictures: the similarity of phrases with patches and with regions."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.analysis.named_sets import EXPONENT, NamedSets, best_subsets, named_sets
from vlalign.annotate.phrases.annotation import ParsedCaption, PhraseFile
from vlalign.annotate.regions.annotation import RegionFile
from vlalign.data.samples import decode_image, decode_instances
from vlalign.data.shards.split import Split, read_split
from vlalign.evaluation.benchmark import TUNING_SPLIT
from vlalign.evaluation.features import DenseFeatures, SplitFeatures, encode_images, encode_phrases
from vlalign.evaluation.phrases import GoldPhrase
from vlalign.evaluation.run import Execution, store_for
from vlalign.evaluation.workbench import Workbench
from vlalign.models import DualEncoder, load
from vlalign.models.pictures import View, coverage, cut_masks, fit, middle
from vlalign.objectives.alignment import centre, pool_regions
from vlalign.params import PhraseChoice
from vlalign.training.data.caption_rows import choose_phrases

# Where referents are known, the first images of each stratum with a caption of at least two phrases are shown.
IMAGES_PER_STRATUM = 2
# Elsewhere, the first with a first caption of at least two phrases. Regions of each, the largest.
IMAGES, REGIONS = 4, 8
PHRASES = PhraseChoice(count=4)
# Of a shown picture's side, whatever the encoder sees: a panel is not much wider, and photographs take room.
PIXELS = 192


@dataclass(frozen=True)
class ShownRun:
    """A trained run with the split that it is shown on. is_compared: whether what it sees in pictures is shown.
    is_subject: whether it is the one that figures of a single run show.
    """

    name: str
    directory: Path
    bench: Workbench
    split: str
    is_compared: bool
    is_subject: bool

    @property
    def features(self) -> SplitFeatures:
        """Of the split, encoded once; those of patches and phrases only where referents are known and is_compared."""
        return self.bench.split(self.split)

    @property
    def tuning(self) -> DenseFeatures | None:
        """Of patches and phrases of the split that grounding is tuned on, where there are any."""
        return self.bench.split(TUNING_SPLIT).dense if self.bench.has("phrases", TUNING_SPLIT) else None

    @cached_property
    def named(self) -> NamedSets | None:
        """What phrases name; None where no referents are known, or its adapters map no tokens."""
        dense = self.features.dense
        if dense is None or not dense.phrases or not self.bench.encoder.has_joint_tokens:
            return None
        return named_sets(dense, self.tuning)


@dataclass(frozen=True)
class SceneSimilarity:
    """One picture and what a model makes of its phrases.

    image: H x W x 3 uint8. masks: R H W bool. patch_similarity: P V, the patches row by row over `grid` (rows,
    columns). region_similarity: P R, -inf for masks outside of what the model sees. named: for each phrase the indices
    of the masks that it names to the model, the best subset. exponent: p of that subset. referents: those that it
    means; None where nobody knows them.
    """

    image: np.ndarray
    masks: np.ndarray
    phrases: list[str]
    patch_similarity: np.ndarray
    grid: tuple[int, int]
    region_similarity: np.ndarray
    named: list[set[int]]
    exponent: float
    referents: list[set[int]] | None


def shown_runs(
    run_dirs: Mapping[str, Path],
    *,
    data: Path,
    annotations: Path,
    split: str,
    compared: Sequence[str],
    features: Path | None = None,
) -> Iterator[ShownRun]:
    """Runs by their name, each loaded when it is its turn; `compared` names those of which pictures are shown, the
    subject of figures of a single run last. features: folder of what evaluation has kept of frozen towers.
    """
    # Patches of a whole split are held only where referents are known, which is where splits are small.
    known = any("phrases" in sample.meta for sample in islice(read_split(data / split), 1))
    for name, directory in run_dirs.items():
        encoder = load(directory)
        store = store_for(encoder, Execution(features=features))
        bench = Workbench(encoder, data, annotations, dense=known and name in compared, store=store)
        yield ShownRun(name, directory, bench, split, name in compared, is_subject=name in compared[-1:])


def scene_similarities(run: ShownRun) -> list[SceneSimilarity]:
    """Of the first pictures of the split, the same for every run."""
    features, data = run.features, run.bench.data / run.split
    if features.dense is not None and features.dense.phrases:
        return with_referents(features, features.dense, data, grid=run.bench.encoder.grid, found=run.named)
    assert run.bench.annotations is not None
    return with_found_regions(run.bench.encoder, data, run.bench.annotations)


def with_referents(
    features: SplitFeatures,
    dense: DenseFeatures,
    split: Path,
    *,
    grid: tuple[int, int],
    found: NamedSets | None = None,
) -> list[SceneSimilarity]:
    """The chosen images with the similarities of their first caption's phrases; found: what phrases name, where that is
    known already.
    """
    chosen = _choose(features, dense)
    shown = {features.keys[row] for row in chosen}
    pictures = {sample.key: sample for sample in read_split(split) if sample.key in shown}
    found = found or named_sets(dense)
    result = []
    for row, phrases in chosen.items():
        sample = pictures[features.keys[row]]
        assert sample.instances is not None
        labels = decode_instances(sample.instances)
        objects = [int(index) + 1 for index in dense.objects_IR[row].nonzero()[:, 0]]
        places = [instance - 1 for instance in objects]
        result.append(
            SceneSimilarity(
                image=np.asarray(decode_image(sample.image)),
                masks=np.stack([labels == instance for instance in objects]),
                phrases=[dense.phrases[index].text for index in phrases],
                patch_similarity=found.scores.patches_NV[phrases].numpy(),
                grid=grid,
                region_similarity=found.scores.regions_NR[phrases][:, places].numpy(),
                named=_indices(found.named_NR[phrases][:, places]),
                exponent=found.exponent,
                referents=_indices(found.scores.referents_NR[phrases][:, places]),
            )
        )
    return result


def _indices(chosen_PR: Tensor) -> list[set[int]]:
    return [set(row.nonzero()[:, 0].tolist()) for row in chosen_PR]


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


def with_found_regions(encoder: DualEncoder, split: Path, annotations: Path) -> list[SceneSimilarity]:
    """The first pictures of a split with the phrases of their first captions. Features are centred by the means of
    what is shown, without which all regions are similar to all phrases.

    annotations: folder with `phrases/<split>`, and `regions/<split>` if there are any.
    """
    data = Split(split)
    phrases = data.annotations(annotations / "phrases" / split.name, PhraseFile, rule="phrases")
    folder = annotations / "regions" / split.name
    regions = data.annotations(folder, RegionFile, rule="regions") if (folder / "manifest.json").is_file() else None
    found: list[_Seen] = []
    for image in range(len(data)):
        parsed, row = phrases.find(image)
        entry = parsed.caption(row, 0)
        spans = choose_phrases(entry, PHRASES, present=set(range(len(entry.words))))
        if len(spans) >= 2:
            masks_RHW = torch.zeros(0, 1, 1, dtype=torch.bool)
            if regions is not None:
                file, place = regions.find(image)
                masks_RHW = torch.from_numpy(file[place].masks(REGIONS))
            found.append(_see(encoder, data, image, entry, spans, masks_RHW))
        if len(found) == IMAGES:
            break
    return list(_scenes(found, encoder.grid))


@dataclass(frozen=True)
class _Seen:
    """One picture as `SceneSimilarity` has it, with the unit features of all that is shown of it; zero for masks
    outside of what the model sees.
    """

    image: np.ndarray
    masks: np.ndarray
    phrases: list[str]
    phrases_PD: Tensor
    patches_VD: Tensor
    regions_RD: Tensor


def _scenes(seen: Sequence[_Seen], grid: tuple[int, int]) -> Iterator[SceneSimilarity]:
    """The similarities of what was seen, centred over all of it."""
    if not seen:
        return
    names = ("phrases_PD", "patches_VD", "regions_RD")
    every = {name: [getattr(one, name) for one in seen] for name in names}
    centred = {
        name: centre(torch.cat(rows)[None])[0].split([len(some) for some in rows]) for name, rows in every.items()
    }
    for number, one in enumerate(seen):
        phrases_PD, patches_VD, regions_RD = (centred[name][number] for name in names)
        similarity_PR = (phrases_PD @ regions_RD.T).masked_fill((one.regions_RD == 0).all(1), -torch.inf)
        yield SceneSimilarity(
            image=one.image,
            masks=one.masks,
            phrases=one.phrases,
            patch_similarity=(phrases_PD @ patches_VD.T).numpy(),
            grid=grid,
            region_similarity=similarity_PR.numpy(),
            named=best_subsets(similarity_PR),
            exponent=EXPONENT,
            referents=None,
        )


def _see(
    encoder: DualEncoder, data: Split, image: int, entry: ParsedCaption, spans: list[tuple[int, int]], masks_RHW: Tensor
) -> _Seen:
    shard, row = data.locate(image)
    sample = data.open(shard).sample(row)
    picture, words = decode_image(sample.image), entry.words
    _, _, patches_IVD = encode_images(encoder, [sample], keep_patches=True)
    phrases = [GoldPhrase(0, 0, "", (), tuple(range(*span))) for span in spans]
    _, phrases, phrases_PD, _ = encode_phrases(encoder, [entry.caption], [entry], phrases)
    _, seen_RHW = View(encoder)(picture, random.Random(0), masks_RHW)
    regions_IRD = pool_regions(patches_IVD, coverage(seen_RHW, encoder.grid)[None])
    how = encoder.preprocess["resize_mode"]
    return _Seen(
        image=fit(picture, PIXELS, resize_mode=how).permute(1, 2, 0).numpy(),
        masks=cut_masks(masks_RHW, picture.size, middle(picture.size, resize_mode=how), PIXELS).numpy(),
        phrases=[entry.caption[words[phrase.words[0]].start : words[phrase.words[-1]].end] for phrase in phrases],
        phrases_PD=phrases_PD,
        patches_VD=F.normalize(patches_IVD[0], dim=-1),
        regions_RD=regions_IRD[0],
    )
