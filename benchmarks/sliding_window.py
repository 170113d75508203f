"""Predicts a picture of 4096 x 4096 pixels in windows; prints time and peak memory: `make bench`.

The bar is 4 GiB for the whole process, TensorFlow included. The picture lies on disk and comes as a
memmap, so only what the windows need is in memory; pages of it that the system caches count too.
"""

import os
import pathlib
import resource
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from seglib.inference import predict_windows
from seglib.models import unet

SIZE = 4096
BAR = 4.0  # GiB


def main():
    # Random weights cost the same memory and time as trained ones.
    model = unet(3, backbone="mobilenet_v2", weights=None, input_shape=(None, None, 3))
    with tempfile.TemporaryDirectory() as folder:
        image = draw(pathlib.Path(folder) / "picture.npy")
        before = peak()
        start = time.perf_counter()
        labels = predict_windows(model, image, window=512, overlap=128, batch_size=4)
        seconds = time.perf_counter() - start
    print(f"{SIZE} x {SIZE} px in windows of 512, MobileNetV2 U-Net, labels {labels.dtype}")
    print(f"  {seconds:.0f} s, {SIZE * SIZE / seconds / 1e6:.2f} megapixels a second")
    print(f"  peak memory {peak():.2f} GiB, {before:.2f} before; the bar is {BAR} GiB", flush=True)
    if peak() >= BAR:
        raise SystemExit(f"The peak of {peak():.2f} GiB is above the bar of {BAR} GiB.")


def draw(path):
    """Writes a picture of noise in stripes and returns it as a memmap."""
    rng = np.random.default_rng(0)
    image = np.lib.format.open_memmap(path, "w+", dtype="uint8", shape=(SIZE, SIZE, 3))
    for top in range(0, SIZE, 256):
        image[top : top + 256] = rng.integers(0, 256, (256, SIZE, 3), dtype="uint8")
    image.flush()
    del image
    return np.load(path, mmap_mode="r")


def peak():
    """Returns the most memory that this process has held, in GiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2 ** (30 if sys.platform == "darwin" else 20)  # bytes there, KiB elsewhere


if __name__ == "__main__":
    main()
