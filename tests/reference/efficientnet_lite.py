"""EfficientNet-Lite0, step by step, on weights under the names of `efficientnet_lite_pytorch`."""

import torch
import torch.nn.functional as F

# Of each block; TensorFlow pads before a stride, which timm's other class does not.
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
EPSILON = 1e-3


def convolved(x_ICHW, weight, *, stride=1, groups=1):
    """As TensorFlow's `SAME`: what is left over of the padding lies behind."""
    size, kernel = x_ICHW.shape[-1], weight.shape[-1]
    padding = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    before, after = padding // 2, padding - padding // 2
    return F.conv2d(F.pad(x_ICHW, (before, after, before, after)), weight, stride=stride, groups=groups)


def normalised(x_ICHW, state, name):
    mean, variance, weight, bias = (
        state[f"{name}.{key}"].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
    )
    return (x_ICHW - mean) / torch.sqrt(variance + EPSILON) * weight + bias


def block(x_ICHW, state, number):
    name, y = f"_blocks.{number}", x_ICHW
    if number > 0:
        y = normalised(convolved(y, state[f"{name}._expand_conv.weight"]), state, f"{name}._bn0").clamp(0, 6)
    y = convolved(y, state[f"{name}._depthwise_conv.weight"], stride=STRIDES[number], groups=y.shape[1])
    y = normalised(y, state, f"{name}._bn1").clamp(0, 6)
    y = normalised(convolved(y, state[f"{name}._project_conv.weight"]), state, f"{name}._bn2")
    return x_ICHW + y if y.shape == x_ICHW.shape else y


def features(x_I3HW, state):
    """What the classifier pools, I C H W."""
    x = normalised(convolved(x_I3HW, state["_conv_stem.weight"], stride=2), state, "_bn0").clamp(0, 6)
    for number in range(len(STRIDES)):
        x = block(x, state, number)
    return normalised(convolved(x, state["_conv_head.weight"]), state, "_bn1").clamp(0, 6)
