"""Adapters: small trained modules that map what frozen towers give into a joint space (CS-Aligner).

Suffixes: N images or captions, L tokens, W channels of the tower, D joint space.
"""

import itertools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vlalign.errors import VlalignError
from vlalign.params import AdapterParams


class TowerFeatures(NamedTuple):
    """What a tower gives before anything is adapted or normalised: pooled N W, its tokens N L W, and which of these are
    real, N L. A tower whose tokens nobody needs may come with none of them (L is 0).
    """

    pooled_NW: Tensor
    tokens_NLW: Tensor
    mask_NL: Tensor

    @classmethod
    def without_tokens(cls, pooled_NW: Tensor) -> "TowerFeatures":
        """Pooled features alone."""
        count, width = pooled_NW.shape
        return cls(pooled_NW, pooled_NW.new_empty(count, 0, width), pooled_NW.new_empty(count, 0, dtype=torch.bool))

    def packed(self) -> Tensor:
        """As one tensor N (1 + L) (W + 1) for files and batches: the pooled features first, then the tokens; the last
        channel is 1 where a row is real.
        """
        rows = torch.cat((self.pooled_NW[:, None], self.tokens_NLW), 1)
        real = torch.cat((self.mask_NL.new_ones(len(rows), 1), self.mask_NL), 1)
        return torch.cat((rows, real[..., None].to(rows.dtype)), 2)


def unpacked(packed: Tensor) -> TowerFeatures:
    """What `TowerFeatures.packed` has put together."""
    return TowerFeatures(packed[:, 0, :-1], packed[:, 1:, :-1], packed[:, 1:, -1] > 0)


class Adapter(nn.Module):
    """A linear map of the pooled features, or none where the joint space has their width, plus what is learnt beside
    it, which starts at zero: towers that are aligned already begin as they are.
    """

    def __init__(self, width: int, params: AdapterParams) -> None:
        super().__init__()
        joint = params.dimension
        self.skip = nn.Identity() if width == joint else nn.Linear(width, joint, bias=False)

    def forward(self, found: TowerFeatures) -> tuple[Tensor, Tensor]:
        """Pooled N D and tokens N L D, not normalised."""
        raise NotImplementedError


class MLPAdapter(Adapter):
    """An MLP, the same for the pooled features and for every token."""

    def __init__(self, width: int, params: AdapterParams) -> None:
        super().__init__(width, params)
        sizes = [width, *[params.hidden] * params.layers]
        hidden = [
            part
            for before, after in itertools.pairwise(sizes)
            for part in (nn.Linear(before, after), nn.GELU(), nn.Dropout(params.dropout))
        ]
        self.mlp = nn.Sequential(nn.LayerNorm(width), *hidden, _zero(nn.Linear(sizes[-1], params.dimension)))

    def forward(self, found: TowerFeatures) -> tuple[Tensor, Tensor]:
        """See Adapter."""
        return self._map(found.pooled_NW), self._map(found.tokens_NLW)

    def _map(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.mlp(x)


class TransformerAdapter(Adapter):
    """Layers of a Transformer over the tokens, whose mean over the real ones joins the pooled features."""

    def __init__(self, width: int, params: AdapterParams) -> None:
        super().__init__(width, params)
        layer = nn.TransformerEncoderLayer(
            params.hidden, params.heads, 2 * params.hidden, params.dropout, "gelu", batch_first=True, norm_first=True
        )
        self.enter = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, params.hidden))
        self.layers = nn.TransformerEncoder(layer, params.layers, enable_nested_tensor=False)
        self.leave = _zero(nn.Linear(params.hidden, params.dimension))

    def forward(self, found: TowerFeatures) -> tuple[Tensor, Tensor]:
        """See Adapter."""
        tokens_NLH = self.layers(self.enter(found.tokens_NLW), src_key_padding_mask=~found.mask_NL)
        tokens_NLD = self.leave(tokens_NLH)
        weight_NL1 = found.mask_NL[..., None].to(tokens_NLD.dtype)
        mean_ND = (tokens_NLD * weight_NL1).sum(1) / weight_NL1.sum(1).clamp(min=1)
        return self.skip(found.pooled_NW) + mean_ND, self.skip(found.tokens_NLW) + tokens_NLD


class CentredAdapter(Adapter):
    """Unit features without the mean of their modality: the training-free calibration of GR-CLIP (arXiv 2507.19054).

    `mean_W` is what `fit` has found; zero before that.
    """

    def __init__(self, width: int, params: AdapterParams) -> None:
        super().__init__(width, params.model_copy(update={"dimension": width}))
        self.register_buffer("mean_W", torch.zeros(width))

    def fit(self, pooled_NW: Tensor) -> None:
        """Take the mean of the unit features of a training set."""
        self.mean_W = F.normalize(pooled_NW, dim=-1).mean(0)

    def forward(self, found: TowerFeatures) -> tuple[Tensor, Tensor]:
        """See Adapter."""
        return self._map(found.pooled_NW), self._map(found.tokens_NLW)

    def _map(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) - self.mean_W


class NoAdapter(Adapter):
    """What the tower gives, as it is."""

    def forward(self, found: TowerFeatures) -> tuple[Tensor, Tensor]:
        """See Adapter."""
        return found.pooled_NW, found.tokens_NLW


KINDS: dict[str, type[Adapter]] = {"mlp": MLPAdapter, "transformer": TransformerAdapter, "centred": CentredAdapter}


class Adapters(nn.Module):
    """One adapter for each tower, or for the text tower alone.

    Args:
        image_width, text_width: channels of what the towers give.
        params: of both adapters.

    Raises:
        VlalignError: when towers of different widths would have to share a space without a map, or an image tower that
            stays as it is has another width than the joint space.
    """

    def __init__(self, image_width: int, text_width: int, params: AdapterParams) -> None:
        super().__init__()
        if params.kind == "centred" and image_width != text_width:
            raise VlalignError(
                f"model.adapters.kind: centred adapters map nothing, but the image tower gives {image_width} numbers "
                f"and the text tower {text_width}; choose mlp, or towers with a joint space"
            )
        if params.sides == "text" and image_width != params.dimension:
            raise VlalignError(
                f"model.adapters.dimension is {params.dimension}, but with `sides: text` the joint space is that of "
                f"the image tower, which gives {image_width} numbers; set dimension to {image_width}"
            )
        self.params, self.widths = params, {"image": image_width, "caption": text_width}
        adapter = KINDS[params.kind]
        self.image: Adapter = (NoAdapter if params.sides == "text" else adapter)(image_width, params)
        self.text: Adapter = adapter(text_width, params)


def _zero(linear: nn.Linear) -> nn.Linear:
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
