"""Encoded pictures: turned as a viewer shows them, and refused where 8 bits would not hold them."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from seglib.data import pipeline

# JPEG, PNG, BMP and GIF are decoded by TensorFlow, the others by Pillow.
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
JPEG_START, PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
STARTS = (JPEG_START, PNG_START, b"BM", b"GIF8")
ORIENTATION = 0x0112  # the tag in EXIF


def decode(data, size=None):
    """Decodes a picture, turns it by its EXIF orientation, and resizes it if asked.

    Args:
        data: bytes of the encoded file.
        size: `(H, W)`, or `None` to keep the picture's own size.

    Returns:
        uint8 `[H, W, 3]`.

    Raises:
        ValueError: for a picture of more than 8 bits per channel, or one that Pillow cannot read.
        tf.errors.OpError: for one that TensorFlow cannot read.
    """
    check_depth(data)
    if data.startswith(STARTS):
        image = turn(pipeline.decode_image(data).numpy(), orientation(data))
    else:
        image = decode_with_pillow(data)
    return image if size is None else pipeline.resize_image(image, size).numpy()


def decode_with_pillow(data):
    with opened(data) as picture:
        if picture.mode[0] in "IF":
            raise ValueError(TOO_DEEP)
        try:
            return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
        except Exception as error:  # Pillow raises half a dozen kinds for a broken file
            raise ValueError(f"the picture cannot be decoded: {error}.") from error


def size_of(data):
    """Returns `(H, W)` of an encoded picture as `decode` gives it; of JPEG and PNG, undecoded."""
    if data.startswith(PNG_START):
        if len(data) < 33:
            raise ValueError("the picture is cut off after its first bytes.")
        width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    elif data.startswith(JPEG_START):
        height, width, _ = tf.image.extract_jpeg_shape(data).numpy().tolist()
    elif data.startswith(STARTS):
        height, width, _ = pipeline.decode_image(data).shape
    else:
        return decode_with_pillow(data).shape[:2]
    return (width, height) if orientation(data) >= 5 else (height, width)


TOO_DEEP = (
    "the picture has more than 8 bits per channel, of which 8 would be kept, whatever its range. "
    "Scale it to 0 … 255 first, such as (picture / picture.max() * 255).astype('uint8')."
)


def check_depth(data):
    """Raises a ValueError for a PNG file of 16 bits per channel."""
    if data.startswith(PNG_START) and data[24:25] == b"\x10":
        raise ValueError(TOO_DEEP)


def orientation(data):
    """Returns a picture's EXIF orientation: 1 as stored, 2 to 8 for flips and quarter turns."""
    if not any(sign in data for sign in (b"Exif", b"eXIf", b"tiff:Orientation")):
        return 1  # Pillow would decode all of a PNG file to look for it
    try:
        with opened(data) as picture:
            found = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # of Pillow, for a broken file
        return 1  # whoever decodes the picture says what is wrong with it
    return found if found in range(1, 9) else 1


def turn(image, number):
    """Turns a picture `[H, W, …]`, or a mask, by an EXIF orientation; 5 to 8 swap its sides."""
    if number >= 5:
        image = image.swapaxes(0, 1)
    if number in (3, 4, 7, 8):
        image = image[::-1]
    if number in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def opened(data):
    """Opens a picture with Pillow, or raises a ValueError."""
    try:
        return Image.open(io.BytesIO(data))
    except Exception as error:  # UnidentifiedImageError's message is an address in memory
        raise ValueError(f"the picture cannot be decoded: it starts with {data[:8]!r}.") from error
