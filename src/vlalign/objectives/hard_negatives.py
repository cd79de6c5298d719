"""InfoNCE of images against captions with hard negatives among them (NegCLIP, arXiv 2210.01936)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.objectives.distributed import Group, gather, gather_plainly, shared, total_plainly
from vlalign.objectives.numerics import check_shapes, mismatch, precise, without_autocast

AGAINST = ("batch", "own")


def hard_negative_loss(
    images_ID: Tensor,
    captions_ID: Tensor,
    twins_ID: Tensor,
    *,
    twin_mask: Tensor | None = None,
    scale: float | Tensor = 1.0,
    against: str = "batch",
    group: Group = None,
) -> Tensor:
    """How hard it is to find an image's caption c_i among captions and their twins t_j, each false where c_j is true:

        batch: −mean_i log exp(σ⟨x_i, c_i⟩) / (Σ_j exp(σ⟨x_i, c_j⟩) + Σ_{j has a twin} exp(σ⟨x_i, t_j⟩))
        own:   −mean over i with a twin of log exp(σ⟨x_i, c_i⟩) / (exp(σ⟨x_i, c_i⟩) + exp(σ⟨x_i, t_i⟩))

    `batch` is the direction from images to captions of NegCLIP (Yuksekgonul et al., arXiv 2210.01936, section 4). There
    is no other direction, since no image of a twin is known. `own` is 0 where nothing has a twin.

    Args:
        images_ID: unit embeddings; image i belongs to caption i and to its twin.
        captions_ID: unit embeddings.
        twins_ID: unit embeddings; those of captions without a twin may be anything.
        twin_mask: bool I, which captions have one; all of them if None.
        scale: σ, the inverse temperature.
        against: `batch` or `own`.
        group: processes that hold a part of the pairs each; see `vlalign.objectives.distributed`.

    Raises ValueError naming the argument at fault and its value or shape.
    """
    if against not in AGAINST:
        raise ValueError(f"against is {against!r}; it must be one of {', '.join(AGAINST)}")
    for name, other in (("captions_ID", captions_ID), ("twins_ID", twins_ID)):
        check_shapes(images_ID, other)
        if len(other) != len(images_ID):
            raise mismatch("I must agree", images_ID=images_ID, **{name: other})
    has_twin = _checked(twin_mask, twins_ID)
    with without_autocast(images_ID):
        images_ID, captions_ID, twins_ID = (precise(x) for x in (images_ID, captions_ID, twins_ID))
        # What stands in the place of a twin may hold anything, NaN included.
        twins_ID = twins_ID.masked_fill(~has_twin[:, None], 0)
        own = (images_ID * captions_ID).sum(1) * scale
        if against == "own":
            # log(1 + exp(false − true))
            each = F.softplus((images_ID * twins_ID).sum(1) * scale - own)
            count = total_plainly(has_twin.sum(), group).clamp_min(1)
            return shared(each.masked_fill(~has_twin, 0).sum() / count, group)
        captions_CD, all_twins_CD = gather(captions_ID, group), gather(twins_ID, group)
        real_C = gather_plainly(has_twin, group)
        to_captions_IC, to_twins_IC = images_ID @ captions_CD.T * scale, images_ID @ all_twins_CD.T * scale
        logits = torch.cat((to_captions_IC, to_twins_IC.masked_fill(~real_C, -torch.inf)), dim=1)
        return shared((logits.logsumexp(1) - own).sum() / len(captions_CD), group)


def _checked(mask: Tensor | None, twins_ID: Tensor) -> Tensor:
    if mask is None:
        return torch.ones(len(twins_ID), dtype=torch.bool, device=twins_ID.device)
    if mask.shape != twins_ID.shape[:1] or mask.dtype != torch.bool:
        raise ValueError(f"twin_mask has shape {tuple(mask.shape)} and dtype {mask.dtype}; expected bool I")
    return mask
