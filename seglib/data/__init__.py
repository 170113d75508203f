"""Pictures and label maps as `tf.data` pipelines.

`pets` reads the real Oxford-IIIT Pets, `sample` draws pets of the same schema, `augment`
transforms image and mask together.
"""

import importlib

__all__ = ["augment", "pets", "sample"]


def __getattr__(name):
    # On first use, because `drawing` runs in processes that have no need of TensorFlow.
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
