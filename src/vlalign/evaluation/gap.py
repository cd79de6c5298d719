"""How far apart the two modalities lie, and whether they got closer by collapsing."""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from vlalign.objectives.alignment import centre

# Random lines on which clouds are compared.
DIRECTIONS = 128


def linear_classifier() -> Pipeline:
    """Standardised features and logistic regression: what this package means by a linear classifier."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


def uniformity(x_ND: Tensor, *, chunk: int = 1024) -> float:
    """log E exp(-2 |x - x'|^2) over the pairs of distinct samples (Wang & Isola, arXiv 2005.10242, section 4.1.2).

    0 for a collapsed embedding; about -4 for unit vectors spread evenly over a large sphere. Needs N >= 2.
    """
    x_ND = x_ND.double()
    count = len(x_ND)
    total = sum(torch.exp(-2.0 * torch.cdist(rows, x_ND).square()).sum().item() for rows in x_ND.split(chunk))
    return float(torch.tensor((total - count) / (count * (count - 1))).log())


def distribution_distance(x_ND: Tensor, y_ND: Tensor) -> float:
    """√D times the sliced 2-Wasserstein distance of two clouds once both are centred and of unit length again.

    What is left of the modality gap when the centroids are aligned: the second of the two parts of arXiv 2604.00279,
    with a measure of our own. The sliced distance (Bonneel et al., 2015, https://doi.org/10.1007/s10851-014-0506-3) is
    the root of the mean squared difference between sorted projections on random lines. √D gives it the unit of the
    distance between centroids: without the centring, a cloud and itself moved by v would be |v| apart. The scale of
    either cloud does not matter. Two samples of one distribution are not 0 apart, but the less the more points there
    are.

    x_ND, y_ND: equally many points.
    """
    generator = torch.Generator().manual_seed(0)
    lines_SD = F.normalize(torch.randn(DIRECTIONS, x_ND.shape[1], generator=generator), dim=1)
    x_SN, y_SN = ((lines_SD @ centre(cloud[None])[0].T).sort(1).values for cloud in (x_ND, y_ND))
    return float((x_SN - y_SN).square().mean().mul(x_ND.shape[1]).sqrt())


def probe_accuracy(images_ND: Tensor, captions_ND: Tensor) -> float:
    """Accuracy in percent of a linear probe that tells images from captions, on the half it was not trained on.

    Row i of both belongs to one pair and stays in one half, so that the probe cannot remember a pair's content.
    """
    order = torch.randperm(len(images_ND), generator=torch.Generator().manual_seed(0))
    train, test = order[: len(order) // 2], order[len(order) // 2 :]
    probe = linear_classifier().fit(*_modalities(images_ND[train], captions_ND[train]))
    return 100.0 * float(probe.score(*_modalities(images_ND[test], captions_ND[test])))


def _modalities(images_ND: Tensor, captions_ND: Tensor) -> tuple[np.ndarray, np.ndarray]:
    label = torch.arange(2).repeat_interleave(len(images_ND))
    return torch.cat([images_ND, captions_ND]).numpy(), label.numpy()
