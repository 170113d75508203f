"""Compares speeds, interleaved in one run, and prints medians and ratios: `make bench`.

Each round calls every candidate once, so that a busy moment of the machine hits all of them alike;
the ratio to the first row of a group is what to read, not the milliseconds.
"""

import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from seglib.data import augment, pipeline, sample
from seglib.losses import CrossEntropy
from seglib.metrics import MeanIoU
from seglib.models import unet, unet_original

ROUNDS = 9
SIZE, BATCH = 128, 16


def main():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, SIZE, SIZE, 3), dtype="uint8")
    masks = rng.integers(0, 3, (BATCH, SIZE, SIZE), dtype="uint8")
    compare(f"training step, {BATCH} x {SIZE} px", training_steps(images, masks))
    compare(f"prediction, {BATCH} x {SIZE} px", predictions(images))
    compare("mean IoU of 16 masks, 512 px, 21 classes, from logits", mean_ious(rng))
    compare("one epoch of 256 drawn pets", epochs())


def compare(title, candidates):
    """Times each candidate once a round and prints the medians, the first one as 1."""
    for call in candidates.values():
        call()  # builds graphs and fills caches
    times = {name: [] for name in candidates}
    for _ in range(ROUNDS):
        for name, call in candidates.items():
            start = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - start))
    medians = {name: statistics.median(values) for name, values in times.items()}
    first = next(iter(medians.values()))
    print(f"\n{title} (median of {ROUNDS})")
    for name, value in medians.items():
        print(f"  {name:<44} {value:9.1f} ms   {value / first:5.2f} x", flush=True)


def models():
    """Returns the U-Nets of chapter 2; random weights cost the same time as trained ones."""
    options = {"weights": None, "input_shape": (SIZE, SIZE, 3)}
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
        return len(pipeline.read(records, (SIZE, SIZE))[0])

    return {
        "decoded anew": decode_again,
        "from the cache": epoch(None),
        "from the cache, flipped": epoch(augment.flip_only()),
        "from the cache, standard augmentation": epoch(augment.standard()),
    }


if __name__ == "__main__":
    main()
