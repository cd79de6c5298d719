"""From token features to regions φ and phrases p (PowerCLIP, section 3)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.objectives.distributed import Group, total, total_plainly
from vlalign.objectives.numerics import precise, without_autocast


def pool_regions(patches_IVD: Tensor, coverage_IRV: Tensor) -> Tensor:
    """φ_r = normalise(Σ_v coverage[r, v] · patch[v]): unit regions, I R D; a region that covers nothing is zero."""
    if coverage_IRV.shape[0] != patches_IVD.shape[0] or coverage_IRV.shape[2] != patches_IVD.shape[1]:
        raise ValueError(
            f"coverage_IRV has shape {tuple(coverage_IRV.shape)}, patches_IVD {tuple(patches_IVD.shape)}: "
            "I and V must agree"
        )
    with without_autocast(patches_IVD):
        patches_IVD = precise(patches_IVD)
        return F.normalize(torch.bmm(coverage_IRV.to(patches_IVD.dtype), patches_IVD), dim=-1)


def pool_phrases(tokens_CLD: Tensor, word_CL: Tensor, member_CPW: Tensor, *, normalise: bool = False) -> Tensor:
    """p_B = Σ_{leaf ∈ B} ψ_leaf with ψ_leaf = normalise(Σ_t mask[leaf, t] · token[t]): phrases, C P D.

    word_CL: the word that owns each token, -1 for none. member_CPW: the words of each phrase. normalise: unit phrases
    in place of the published sums; an empty phrase stays zero.
    """
    if word_CL.shape != tokens_CLD.shape[:2]:
        raise ValueError(
            f"word_CL has shape {tuple(word_CL.shape)}, tokens_CLD {tuple(tokens_CLD.shape)}: C and L must agree"
        )
    if len(member_CPW) != len(tokens_CLD):
        raise ValueError(
            f"member_CPW has shape {tuple(member_CPW.shape)}, tokens_CLD {tuple(tokens_CLD.shape)}: C must agree"
        )
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
    """Subtract the mean of the real vectors (of `mean_D` if given) and normalise; masked vectors become zero.

    Without it nearly all similarities of a trained model are positive, so that the best subset is nearly always all
    regions. group: processes over whose vectors the mean is taken.
    """
    x_NKD = precise(x_NKD)
    weight = torch.ones_like(x_NKD[..., :1]) if mask_NK is None else mask_NK[..., None].to(x_NKD.dtype)
    if mean_D is None:
        whole = total((x_NKD * weight).flatten(0, 1).sum(0), group)
        mean_D = whole / total_plainly(weight.sum(), group).clamp_min(1)
    return F.normalize(x_NKD - mean_D, dim=-1) * weight
