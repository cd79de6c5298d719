import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from vlalign.data.samples import decode_image
from vlalign.errors import VlalignError


def test_bytes_that_are_no_picture_are_an_error():
    with pytest.raises(VlalignError, match="cannot be decoded"):
        decode_image(b"GIF8")


@pytest.mark.parametrize("held", range(1, 9))
def test_pictures_are_turned_as_their_camera_was_held(held):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 3), np.uint8)
    image, stream = Image.fromarray(pixels), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = held
    image.save(stream, "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(stream.getvalue())))
    assert np.array_equal(np.asarray(decode_image(stream.getvalue())), np.asarray(expected))


def test_sixteen_bits_of_grey_keep_their_range():
    stream = io.BytesIO()
    Image.fromarray(np.array([[0, 30_000, 65_535]], np.uint16)).save(stream, "PNG")
    assert np.asarray(decode_image(stream.getvalue())).tolist() == [[[0] * 3, [117] * 3, [255] * 3]]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "I;16", "F", "YCbCr"])
def test_every_mode_becomes_rgb(mode):
    stream = io.BytesIO()
    image = Image.new(mode if mode != "PA" else "P", (5, 4))
    image.save(stream, "TIFF" if mode not in ("P", "PA") else "GIF")
    assert (decode_image(stream.getvalue()).mode, decode_image(stream.getvalue()).size) == ("RGB", (5, 4))
