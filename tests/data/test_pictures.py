"""Encoded pictures: turned as Pillow turns them, and refused where 8 bits would not do."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from seglib.data import pictures

KINDS = ("JPEG", "PNG", "WEBP", "TIFF")


def encoded(kind, number=1, size=(10, 14), **options):
    # Smooth, so that JPEG's own errors are small.
    rows, columns = np.indices(size)
    pixels = np.stack([20 * rows, 15 * columns, 8 * (rows + columns)], axis=-1).astype("uint8")
    exif = Image.Exif()
    exif[0x0112] = number
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, exif=exif, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(1, 9))
def test_orientations_are_those_of_pillow(kind, number):
    data = encoded(kind, number)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    image = pictures.decode(data)
    assert image.shape[:2] == pictures.size_of(data) == expected.shape[:2]
    np.testing.assert_allclose(image.astype(int), expected, atol=4 if kind == "JPEG" else 0)
    assert pictures.decode(data, (5, 7)).shape == (5, 7, 3)


@pytest.mark.parametrize("kind", ["BMP", "GIF"])
def test_files_without_exif_are_as_stored(kind):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(120, dtype="uint8").reshape(10, 12)).save(buffer, kind)
    assert pictures.size_of(buffer.getvalue()) == (10, 12)
    np.testing.assert_array_equal(
        pictures.decode(buffer.getvalue())[..., 0], np.arange(120).reshape(10, 12)
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_refused(kind):
    """Of 0 … 4095 the upper eight bits are 16 gray levels."""
    buffer = io.BytesIO()
    Image.fromarray(np.arange(0, 4096, 32, dtype="uint16").reshape(8, 16)).save(buffer, kind)
    with pytest.raises(ValueError, match="more than 8 bits per channel.*picture.max()"):
        pictures.decode(buffer.getvalue())


@pytest.mark.parametrize("kind", ["WEBP", "TIFF"])
@pytest.mark.parametrize("left", [0, 3, 11, 30, -9])
def test_a_file_cut_off_is_an_error(kind, left):
    with pytest.raises(ValueError, match="cannot be decoded"):
        pictures.decode(encoded(kind)[:left])
