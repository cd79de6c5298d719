import io

import numpy as np
import pytest
from PIL import Image

from vlalign.data.samples import decode_image
from vlalign.errors import VlalignError


def test_bytes_that_are_no_picture_are_an_error():
    with pytest.raises(VlalignError, match="cannot be decoded"):
        decode_image(b"GIF8")


def test_pictures_are_turned_as_their_camera_was_held():
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[0] = 255
    image, stream = Image.fromarray(pixels), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    image.save(stream, "PNG", exif=exif)
    decoded = np.asarray(decode_image(stream.getvalue()))
    assert decoded.shape == (8, 4, 3)
    assert (decoded[:, -1] == 255).all()
    assert (decoded[:, :-1] == 0).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "I;16", "F", "YCbCr"])
def test_every_mode_becomes_rgb(mode):
    stream = io.BytesIO()
    Image.new("RGB", (5, 4), (200, 100, 50)).convert("L" if mode in ("I;16", "F") else mode if mode != "PA" else "P")
    image = Image.new(mode if mode != "PA" else "P", (5, 4))
    image.save(stream, "TIFF" if mode not in ("P", "PA") else "GIF")
    assert (decode_image(stream.getvalue()).mode, decode_image(stream.getvalue()).size) == ("RGB", (5, 4))
