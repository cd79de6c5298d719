"""Patch tokens in the joint space, from every kind of image tower that open_clip has.

A patch's token is what the tower's own head (pooling, normalisation, projection) makes of that patch alone. Where the
head is linear, their mean is the head's output for the mean patch; where it attends, it is the value path, as in dense
uses of CLIP.

Suffixes: I images, V patches, H rows, W columns, D embedding, C channels of the tower.
"""

import math

import torch
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from open_clip.timm_model import TimmModel
from open_clip.transformer import AttentionalPooler, VisionTransformer
from torch import Tensor, nn

from vlalign.errors import VlalignError


def check_image_tower(visual: nn.Module) -> None:
    """Raises VlalignError for a tower whose patches `read_image` cannot find."""
    if not isinstance(visual, VisionTransformer | ModifiedResNet | TimmModel):
        raise VlalignError(f"model.tower: image towers of kind {type(visual).__name__} are not read here")
    if isinstance(visual, VisionTransformer):
        if not isinstance(visual.patch_dropout, nn.Identity):
            raise VlalignError("model.tower: vision_cfg.patch_dropout must be 0, since regions need every patch")
        if visual.attn_pool is not None and visual.attn_pool_contrastive is not None:
            raise VlalignError("model.tower: vision_cfg.attentional_pool may be true, but not parallel or cascade")


def read_image(visual: nn.Module, images_I3HW: Tensor) -> tuple[Tensor, Tensor]:
    """What the tower pools, I D, and its patch tokens, I V D."""
    if isinstance(visual, VisionTransformer):
        return _transformer(visual, images_I3HW)
    if isinstance(visual, ModifiedResNet):
        return _resnet(visual, images_I3HW)
    return _timm(visual, images_I3HW)


def patch_grid(visual: nn.Module, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of the patches; raises VlalignError when the tower cannot read pictures of this size."""
    training = visual.training
    visual.eval()
    try:
        with torch.no_grad():
            _, patches_IVD = read_image(visual, torch.zeros(1, 3, *size))
    except (RuntimeError, AssertionError) as error:
        raise VlalignError(
            f"model.tower: the image tower cannot read pictures of {size[0]} x {size[1]} pixels, or pool one patch of "
            f"them ({error!r}); change vision_cfg.image_size or its pooling"
        ) from None
    finally:
        visual.train(training)
    count = patches_IVD.shape[1]
    rows = round(math.sqrt(count * size[0] / size[1]))
    if rows == 0 or count % rows:
        raise VlalignError(f"model.tower: the {count} patches of the image tower form no grid")
    return rows, count // rows


def project(tokens: Tensor, projection: Tensor | nn.Module | None) -> Tensor:
    """By a module, a matrix, or not at all."""
    if projection is None:
        return tokens
    return projection(tokens) if isinstance(projection, nn.Module) else tokens @ projection


def _transformer(visual: VisionTransformer, images: Tensor) -> tuple[Tensor, Tensor]:
    x_IVC = visual.transformer(visual._embeds(images))
    pooled_IC, patches_IVC = visual._pool(x_IVC)
    # The first token is the class token.
    if visual.attn_pool is not None:
        patches_IVC = visual.ln_post(_attended_alone(visual.attn_pool, x_IVC[:, 1:]))
    elif visual.final_ln_after_pool:
        patches_IVC = visual.ln_post(x_IVC[:, 1:])
    return project(pooled_IC, visual.proj), project(patches_IVC, visual.proj)


def _attended_alone(pool: AttentionalPooler, x_IVC: Tensor) -> Tensor:
    """What every query of the pooler gets from one token, where it can attend to nothing else."""
    keys = pool.ln_k(x_IVC).flatten(0, 1)[:, None]
    queries = pool.ln_q(pool.query[:1]).expand(len(keys), 1, -1)
    return pool.attn(queries, keys, keys, need_weights=False)[0].view(*x_IVC.shape[:2], -1)


def _resnet(visual: ModifiedResNet, images: Tensor) -> tuple[Tensor, Tensor]:
    x_ICHW = visual.stem(images)
    for layer in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        x_ICHW = layer(x_ICHW)
    pool: AttentionPool2d = visual.attnpool
    patches_IVC = x_ICHW.flatten(2).mT + pool.positional_embedding[1:].to(x_ICHW.dtype)
    return pool(x_ICHW), pool.c_proj(pool.v_proj(patches_IVC))


def _timm(visual: TimmModel, images: Tensor) -> tuple[Tensor, Tensor]:
    trunk = visual.trunk
    features = trunk.forward_features(images)
    pooled_ID = visual.head(trunk.forward_head(features))
    if features.ndim == 3:
        prefix = getattr(trunk, "num_prefix_tokens", 0)
        patches_IVC = features[:, prefix:]
        # The patch also stands where the head looks for class tokens.
        alone = patches_IVC.flatten(0, 1)[:, None].expand(-1, prefix + 1, -1)
    elif getattr(trunk, "output_fmt", "NCHW") == "NHWC":
        patches_IVC = features.flatten(1, 2)
        alone = patches_IVC.flatten(0, 1)[:, None, None]
    else:
        patches_IVC = features.flatten(2).mT
        alone = patches_IVC.flatten(0, 1)[..., None, None]
    tokens = visual.head(trunk.forward_head(alone))
    return pooled_ID, tokens.view(*patches_IVC.shape[:2], -1)


def has_batch_norm(module: nn.Module) -> bool:
    """Whether the features of a picture depend on the others of its batch while training."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())
