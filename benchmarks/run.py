"""Compares the speed of models, metrics and the input pipeline: `make bench`."""

import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from benchmarks.timing import compare
from seglib.data import augment, pets, sample
from seglib.losses import CrossEntropy
from seglib.metrics import MeanIoU
from seglib.models import unet, unet_original

SIZE, BATCH = 128, 16


def main():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype="uint8")
    masks = rng.integers(0, 3, (BATCH, SIZE, SIZE), dtype="uint8")
    compare(f"training step, {BATCH} x {SIZE} px", training_steps(images, masks))
    compare(f"prediction, {BATCH} x {SIZE} px", predictions(images))
    compare("mean IoU of 16 masks, 512 px, 21 classes, from logits", mean_ious(rng))
    compare("one epoch of 256 drawn pets", epochs())


def models():
    """Returns the U-Nets of chapter 2; random weights cost the same time as trained ones."""
    options = {"backbone": "mobilenet_v2", "weights": None, "input_shape": (SIZE, SIZE, 3)}
    fine_tuned = unet(freeze_backbone=True, **options)
    fine_tuned.unfreeze_backbone("block_3_expand")
    found = {
        "tutorial's decoder, frozen": unet(decoder="tutorial", freeze_backbone=True, **options),
        "light decoder, frozen": unet(freeze_backbone=True, **options),
        "light decoder, fine-tuned from block 3": fine_tuned,
        "original U-Net, quarter width": unet_original(filters=16, input_shape=(SIZE, SIZE, 3)),
    }
    for model in found.values():
        model.compile("adam", CrossEntropy())
    return found


def training_steps(images, masks):
    return {
        name: lambda model=model: model.train_on_batch(images, masks)
        for name, model in models().items()
    }


def predictions(images):
    return {
        name: lambda model=model: model.predict_on_batch(images)
        for name, model in models().items()
        if "fine-tuned" not in name  # predicts as the frozen one does
    }


def mean_ious(rng):
    logits = keras.ops.convert_to_tensor(rng.normal(size=(16, 512, 512, 21)).astype("float32"))
    labels = keras.ops.convert_to_tensor(rng.integers(0, 21, (16, 512, 512)).astype("int32"))
    ours = MeanIoU(21)
    theirs = keras.metrics.MeanIoU(21, sparse_y_pred=False)
    return {
        "keras.metrics.MeanIoU": lambda: theirs.update_state(labels, logits),
        "seglib.metrics.MeanIoU": lambda: ours.update_state(labels, logits),
    }


def epochs():
    folder = tempfile.mkdtemp()
    path = sample.prepare(train=256, test=16, cache_dir=folder)

    def epoch(change):
        data = sample.load("trainval", augment=change, data_dir=path, batch_size=BATCH)
        return lambda: sum(len(images) for images, _ in data)

    def decode_again():
        records = sample.records("trainval", data_dir=path)
        return len(pets.Source(records).read((SIZE, SIZE))[0])

    return {
        "decoded anew": decode_again,
        "from the cache": epoch(None),
        "from the cache, flipped": epoch(augment.flip_only()),
        "from the cache, standard augmentation": epoch(augment.standard()),
    }


if __name__ == "__main__":
    main()
