"""What is measured on the validation split while a run trains: enough to see it go wrong, and to choose by."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.models import DualEncoder
from vlalign.objectives.distributed import gather_plainly
from vlalign.training.data.batches import PairedSet, encode
from vlalign.training.history import Row
from vlalign.training.processes import Processes

# Queries compared with the whole gallery at once.
CHUNK = 1024


@torch.no_grad()
def validate(encoder: DualEncoder, data: PairedSet, *, team: Processes, batch_size: int) -> Row:
    """InfoNCE and R@1 (percent) among all pairs of an image and its first caption; every process does its share."""
    encoder.eval()
    own = team.share(torch.arange(len(data)))
    encoded = [_encode(encoder, data, rows, team.device) for rows in own.split(batch_size)]
    images_ID, texts_ID = (gather_plainly(torch.cat(parts), team.group) for parts in zip(*encoded, strict=True))
    encoder.train()
    scale = encoder.logit_scale.exp()
    i2t_loss, i2t = _direction(images_ID, texts_ID, scale)
    t2i_loss, t2i = _direction(texts_ID, images_ID, scale)
    return {"val_loss": (i2t_loss + t2i_loss) / 2, "val_i2t_r1": i2t, "val_t2i_r1": t2i}


def _encode(encoder: DualEncoder, data: PairedSet, images: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    batch = data.select(images).to(device)
    image, text = encode(encoder, batch)
    return image.embedding_ID.float(), text.embedding_CD.float()


def _direction(queries_ID: Tensor, gallery_ID: Tensor, scale: Tensor) -> tuple[float, float]:
    """Cross-entropy, and percent of the queries whose own partner is the best."""
    loss, hits = 0.0, 0
    own_I = torch.arange(len(queries_ID), device=queries_ID.device)
    for queries, own in zip(queries_ID.split(CHUNK), own_I.split(CHUNK), strict=True):
        logits = scale * queries @ gallery_ID.T
        loss += F.cross_entropy(logits, own, reduction="sum").item()
        hits += int((logits.argmax(1) == own).sum())
    return loss / len(own_I), 100 * hits / len(own_I)
