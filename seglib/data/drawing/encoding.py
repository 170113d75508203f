"""Encodes a picture into the files and numbers of one record."""

import io

from PIL import Image


def encode(picture):
    """Encodes a `Picture` into the files and numbers of one record of the data set.

    Args:
        picture: What `draw` returned.

    Returns:
        dict with `image` (JPEG bytes), `segmentation_mask` (PNG bytes), `label`, `species`,
        `file_name`, `head_bbox` float32 `[4]` and `instances`, a list of (PNG bytes, box, species).
    """
    return {
        "image": _file(picture.image, "JPEG", quality=92),
        "label": picture.label,
        "species": int(picture.species[picture.main]),
        "file_name": picture.file_name,
        "segmentation_mask": _file(picture.trimap, "PNG", compress_level=3),
        "head_bbox": picture.head_boxes[picture.main],
        "instances": [
            (_file(mask, "PNG", compress_level=3), box, int(species))
            for mask, box, species in zip(
                picture.instances, picture.boxes, picture.species, strict=True
            )
        ],
    }


def _file(array, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()
