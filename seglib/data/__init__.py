"""Pictures and label maps as `tf.data` pipelines.

`pets` reads the real Oxford-IIIT Pets and `sample` draws pets of the same schema. Your own data
comes through `coco` (annotations in COCO's JSON), `folder` (a mask for each picture) and `tfrecord`
(shards); all give the same elements. `scenes` gives several pets a picture, each with a mask of its
own. `label_maps` knows VOC's and Cityscapes' labels, `augment` transforms image and mask together.
"""

import importlib

__all__ = ["augment", "coco", "folder", "label_maps", "pets", "sample", "scenes", "tfrecord"]


def __getattr__(name):
    # On first use, because `drawing` runs in processes that have no need of TensorFlow.
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
