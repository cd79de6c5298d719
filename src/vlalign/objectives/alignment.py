"""From token features to regions φ and phrases p (PowerCLIP, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.objectives.distributed import Group, total, total_plainly
from vlalign.objectives.numerics import check_dimensions, checked_mask, mismatch, precise, without_autocast


def pool_regions(patches_IVD: Tensor, coverage_IRV: Tensor) -> Tensor:
    """φ_r = normalise(Σ_v coverage[r, v] · patch[v]): unit regions, I R D; a region that covers nothing is zero."""
    check_dimensions(patches_IVD=patches_IVD, coverage_IRV=coverage_IRV)
    if coverage_IRV.shape[::2] != patches_IVD.shape[:2]:
        raise mismatch("I and V must agree", coverage_IRV=coverage_IRV, patches_IVD=patches_IVD)
    with without_autocast(patches_IVD):
        patches_IVD = precise(patches_IVD)
        return F.normalize(torch.bmm(coverage_IRV.to(patches_IVD.dtype), patches_IVD), dim=-1)


def pool_phrases(tokens_CLD: Tensor, word_CL: Tensor, member_CPW: Tensor, *, normalise: bool = False) -> Tensor:
    """p_B = Σ_{leaf ∈ B} ψ_leaf with ψ_leaf = normalise(Σ_t mask[leaf, t] · token[t]): phrases, C P D.

    word_CL: the word that owns each token, -1 for none. member_CPW: the words of each phrase. normalise: unit phrases
    in place of the published sums; an empty phrase stays zero.
    """
    check_dimensions(tokens_CLD=tokens_CLD, member_CPW=member_CPW)
    if word_CL.shape != tokens_CLD.shape[:2]:
        raise mismatch("C and L must agree", word_CL=word_CL, tokens_CLD=tokens_CLD)
    if len(member_CPW) != len(tokens_CLD):
        raise mismatch("C must agree", member_CPW=member_CPW, tokens_CLD=tokens_CLD)
    with without_autocast(tokens_CLD):
        tokens_CLD = precise(tokens_CLD)
        words = torch.arange(member_CPW.shape[2], device=word_CL.device)
        owned_CWL = (word_CL[:, None, :] == words[None, :, None]).to(tokens_CLD.dtype)
        leaves_CWD = F.normalize(torch.bmm(owned_CWL, tokens_CLD), dim=-1)
        phrases_CPD = torch.bmm(member_CPW.to(tokens_CLD.dtype), leaves_CWD)
        return F.normalize(phrases_CPD, dim=-1) if normalise else phrases_CPD


def centre(
    x_NKD: Tensor, mask_NK: Tensor | None = None, *, mean_D: Tensor | None = None, group: Group = None
) -> Tensor:
    """Subtract the mean of the real vectors (of `mean_D` if given) and normalise; masked vectors become zero, and what
    is zero, since it covers nothing, stays so.

    Without it nearly all similarities of a trained model are positive, so that the best subset is nearly always all
    regions. Vectors that all but equal the mean keep their small difference: normalised, it would be rounding noise.

    Args:
        x_NKD: regions or phrases.
        mask_NK: True for real ones.
        mean_D: for one pair at a time, or to apply the mean of other data.
        group: processes over whose vectors the mean is taken.

    Raises ValueError naming the argument at fault and its shape.
    """
    check_dimensions(x_NKD=x_NKD)
    x_NKD = precise(x_NKD)
    real = checked_mask(mask_NK, x_NKD, "mask_NK")[..., None] & (x_NKD != 0).any(-1, keepdim=True)
    # A masked vector may hold anything, NaN included.
    x_NKD = x_NKD.masked_fill(~real, 0)
    if mean_D is None:
        mean_D = total(x_NKD.flatten(0, 1).sum(0), group) / total_plainly(real.sum(), group).clamp_min(1)
    centred = (x_NKD - mean_D) * real
    smallest = torch.finfo(x_NKD.dtype).eps ** 0.5 * x_NKD.detach().norm(dim=-1, keepdim=True)
    length: Tensor = centred.norm(dim=-1, keepdim=True).maximum(smallest)
    return centred / length.clamp_min(1e-12)
