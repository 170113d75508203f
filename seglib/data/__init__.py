"""Pictures and label maps as `tf.data` pipelines.

`pets` reads the real Oxford-IIIT Pets, `sample` draws pets of the same schema, `augment`
transforms image and mask together.
"""

from seglib.data import augment, pets, sample

__all__ = ["augment", "pets", "sample"]
