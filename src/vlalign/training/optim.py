"""AdamW with the usual parameter groups, and the learning rate of every step."""

import math

import torch
from torch import nn

from vlalign.params import TrainParams

# The objective's own parameters are single numbers: at the rate of the weights they would hardly move in a short run.
TEMPERATURE_RATE = 10.0
# In the names of open_clip's, timm's and Hugging Face's parameters.
EMBEDDINGS = ("embedding", "pos_embed", "bias_table", "cls_token", "cls_emb", "reg_token", "query", "latent")


def optimizer(towers: nn.Module, objective: nn.Module, params: TrainParams) -> torch.optim.AdamW:
    """Weight decay on matrices alone: gains, biases, temperatures and embeddings are left out. Locked parameters are in
    no group.

    Every group has a `scale`: its learning rate as a multiple of the schedule's.
    """
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in towers.named_parameters():
        if not parameter.requires_grad:
            continue
        matrix = parameter.ndim >= 2 and not any(part in name for part in EMBEDDINGS)
        (decayed if matrix else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": params.weight_decay, "scale": 1.0},
        {"params": free, "weight_decay": 0.0, "scale": 1.0},
        {"params": list(objective.parameters()), "weight_decay": 0.0, "scale": TEMPERATURE_RATE},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=params.learning_rate, betas=params.betas, eps=params.epsilon, fused=True)


def learning_rate(step: int, params: TrainParams) -> float:
    """Linear warm-up over `warmup` of the steps, then a cosine to zero."""
    warmup = params.warmup * params.steps
    if step < warmup:
        return params.learning_rate * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1.0, params.steps - warmup)
    return params.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
