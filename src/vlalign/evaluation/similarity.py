"""From the features of a split to the similarities of each phrase with its image's regions, boxes and patches."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.evaluation.features import DenseFeatures
from vlalign.evaluation.referents import PhraseScores
from vlalign.objectives.alignment import centre, pool_regions


@dataclass(frozen=True)
class Centres:
    """Means of unit-norm features over a split, each of shape [D]."""

    regions: Tensor
    phrases: Tensor
    patches: Tensor


def region_features(dense: DenseFeatures) -> Tensor:
    """Unit-norm object vectors [I, R, D]; rows of absent objects mean nothing."""
    return pool_regions(dense.patches_IVD, dense.coverage_IRV)


def feature_centres(dense: DenseFeatures) -> Centres:
    """Means over all objects, all phrases and all patches of a split."""
    return Centres(
        regions=region_features(dense)[dense.objects_IR].mean(0),
        phrases=dense.phrases_ND.mean(0),
        patches=F.normalize(dense.patches_IVD, dim=-1).mean((0, 1)),
    )


def phrase_scores(
    dense: DenseFeatures,
    *,
    centres: Centres | None = None,
    boxes: tuple[Tensor, Tensor] | None = None,
    chunk: int = 2048,
) -> PhraseScores:
    """Similarities of the N phrases with the contents of their own images.

    centres: subtracted from regions (boxes included), phrases and patches, which are then normalised again; raw
    features when None. boxes: coverage_IBV, the share of each patch that a box covers, and mask_IB, bool, which boxes
    exist. chunk: phrases compared at once; bounds memory at chunk x V x D numbers.
    """
    image_N = torch.tensor([phrase.image for phrase in dense.phrases], dtype=torch.long)
    referents_NR = torch.zeros(len(image_N), dense.objects_IR.shape[1], dtype=torch.bool)
    for row, phrase in zip(referents_NR, dense.phrases, strict=True):
        row[[instance - 1 for instance in phrase.instances]] = True
    boxes_IBV, box_mask_IB = (dense.coverage_IRV[:, :0], dense.objects_IR[:, :0]) if boxes is None else boxes
    phrases_ND = _centred(dense.phrases_ND[None], centres.phrases if centres else None)[0]
    regions_IRD = _centred(region_features(dense), centres.regions if centres else None)
    boxes_IBD = _centred(pool_regions(dense.patches_IVD, boxes_IBV), centres.regions if centres else None)
    patches_IVD = _centred(F.normalize(dense.patches_IVD, dim=-1), centres.patches if centres else None)

    def similarities(features_IKD: Tensor) -> Tensor:
        chunks = zip(image_N.split(chunk), phrases_ND.split(chunk), strict=True)
        return torch.cat([torch.einsum("nkd,nd->nk", features_IKD[image], phrase) for image, phrase in chunks])

    return PhraseScores(
        regions_NR=similarities(regions_IRD),
        objects_NR=dense.objects_IR[image_N],
        referents_NR=referents_NR,
        patches_NV=similarities(patches_IVD),
        coverage_NV=torch.einsum("nrv,nr->nv", dense.coverage_IRV[image_N], referents_NR.float()),
        boxes_NB=similarities(boxes_IBD),
        box_mask_NB=box_mask_IB[image_N],
    )


def _centred(features_NKD: Tensor, mean_D: Tensor | None) -> Tensor:
    return features_NKD if mean_D is None else centre(features_NKD, mean_D=mean_D)
