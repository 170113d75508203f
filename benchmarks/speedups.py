"""Times what each saving of the book buys: the same work without it and with it, in turn.

`make bench BENCHMARK=speedups` measures and writes results/speedups.json, from which
chapter 9 renders its table. All weights are random, which takes the same time, and all pictures are
drawn, so it needs neither network nor data.
"""

import functools
import io
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf
from PIL import Image

from benchmarks.timing import ROUNDS, medians
from measured import machine, store, tables
from seglib.core.precision import dtype_policy
from seglib.data import pets, sample
from seglib.losses import CrossEntropy
from seglib.metrics import MeanIoU
from seglib.models import deeplab_v3_plus, fcn8, levels_for, unet

NUM_CLASSES = 3
PHOTOGRAPH = (375, 500)  # the usual size of the Pets' photographs
PHOTOGRAPHS = 64
DECODED = (128, 128)
STEPS = 8  # batches of a short epoch
EVALUATED = 64  # pictures


def main(rounds=ROUNDS):
    runs = [measure(*comparison, rounds) for group in GROUPS for comparison in group()]
    result = {
        "kind": "savings",
        "task": "the same work without and with each saving",
        "data": {"name": "drawn pets", "train": 0, "test": 0, "note": "random weights"},
        **machine.stamp(),
        "runs": runs,
    }
    store.save("speedups", result)
    print(tables.markdown_table(result))


def measure(saving, work, before, after, rounds):
    """Times two named calls in turn; returns the entry of the results file."""
    found = medians(dict((before, after)), rounds)
    (was, slow), (now, fast) = found.items()
    print(f"{saving}: {slow:.1f} to {fast:.1f} ms", flush=True)
    return {
        "saving": saving,
        "work": work,
        "before": was,
        "after": now,
        "before_ms": round(slow, 2),
        "after_ms": round(fast, 2),
    }


def batch(count, size):
    """Returns drawn pictures and their label maps, both uint8."""
    images, masks = next(iter(sample.load("trainval", image_size=size, batch_size=count)))
    return images.numpy(), masks.numpy()


def step(build, data, *, policy="float32", jit_compile=False):
    """Returns a call that trains a new model on one batch."""
    with dtype_policy(policy):
        model = build()
    model.compile("adam", CrossEntropy(), jit_compile=jit_compile)
    return functools.partial(model.train_on_batch, *data)


def backbone_of(model):
    """Returns what is before a model's decoder: from pictures to the backbone's levels."""
    return keras.Model(model.backbone.input, levels_for(model.decoder, model.backbone.output))


def prediction(build, data, *, policy="float32", jit_compile=False):
    """Returns a call that predicts one batch."""
    with dtype_policy(policy):
        model = build()
    model.compile(jit_compile=jit_compile)
    return functools.partial(model.predict_on_batch, data[0])


def of_unet():
    data = batch(8, 128)
    options = {"backbone": "mobilenet_v2", "weights": None, "input_shape": (128, 128, 3)}
    options["freeze_backbone"] = True
    light = functools.partial(unet, NUM_CLASSES, **options)
    tutorial = functools.partial(unet, NUM_CLASSES, decoder="tutorial", **options)
    trained = functools.partial(unet, NUM_CLASSES, **options | {"freeze_backbone": False})
    work = "U-Net, MobileNetV2, training step, 8 x 128 px"
    yield (
        "light decoder",
        work,
        ("the tutorial's", step(tutorial, data)),
        ("light", step(light, data)),
    )
    yield "frozen backbone", work, ("trained", step(trained, data)), ("frozen", step(light, data))
    yield from switches(light, data, work, "U-Net, MobileNetV2, prediction, 8 x 128 px")


def of_fcn():
    data = batch(4, 224)
    options = {"backbone": "vgg16", "weights": None, "input_shape": (224, 224, 3)}
    options["freeze_backbone"] = True
    wide = functools.partial(fcn8, NUM_CLASSES, filters=4096, **options)
    narrow = functools.partial(fcn8, NUM_CLASSES, **options)
    yield (
        "narrow head",
        "FCN-8, VGG16 frozen, training step, 4 x 224 px",
        ("4096 channels", step(wide, data)),
        ("256 channels", step(narrow, data)),
    )


def of_deeplab():
    data = batch(2, 256)
    options = {"backbone": "resnet50", "weights": None, "input_shape": (256, 256, 3)}
    whole = functools.partial(deeplab_v3_plus, NUM_CLASSES, separable=False, **options)
    separable = functools.partial(deeplab_v3_plus, NUM_CLASSES, **options)
    work = "DeepLabV3+, ResNet-50, training step, 2 x 256 px"
    yield (
        "separable convolutions",
        work,
        ("whole", step(whole, data)),
        ("separable", step(separable, data)),
    )
    yield from switches(separable, data, work, "DeepLabV3+, ResNet-50, prediction, 2 x 256 px")


def switches(build, data, training, predicting):
    """16 bits and XLA, each alone, for a training step and a prediction."""
    for call, work in ((step, training), (prediction, predicting)):
        plain = call(build, data)
        half = call(build, data, policy="mixed_bfloat16")
        compiled = call(build, data, jit_compile=True)
        yield "mixed_bfloat16", work, ("float32", plain), ("bfloat16", half)
        yield "jit_compile", work, ("operation by operation", plain), ("XLA", compiled)


def of_loss():
    """The cross-entropy of each pixel and its gradient, by Keras's operation and as one kernel."""
    _, masks = batch(8, 128)
    logits = tf.random.stateless_normal((*masks.shape, NUM_CLASSES), (0, 0))

    def gradient(loss):
        def call():
            with tf.GradientTape() as tape:
                tape.watch(logits)
                value = loss(masks, logits)
            return tape.gradient(value, logits)

        return tf.function(call, autograph=False)

    theirs = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    yield (
        "fused cross-entropy",
        "value and gradient, 8 x 128 x 128 x 3",
        ("Keras's", gradient(theirs)),
        ("one kernel that also ignores 255", gradient(CrossEntropy())),
    )


def of_fit():
    """Several steps in one call of the graph, which saves the way back to Python between them."""
    images, masks = batch(8 * STEPS, 64)
    data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(8).cache()

    def epoch(steps):
        model = unet(NUM_CLASSES, backbone="small", weights=None, input_shape=(64, 64, 3))
        model.compile("adam", CrossEntropy(), steps_per_execution=steps)
        return functools.partial(model.fit, data, verbose=0, shuffle=False)

    yield (
        "steps_per_execution",
        f"small U-Net, {STEPS} steps of 8 x 64 px",
        ("1 step a call", epoch(1)),
        (f"{STEPS} steps a call", epoch(STEPS)),
    )


def of_data():
    """Decoding a JPEG at a fraction of its size, and not decoding again."""
    files = photographs()

    def read(data):
        return lambda: [0 for _ in data]

    before, after = ("{} x {} px".format(*size) for size in (PHOTOGRAPH, DECODED))
    work = f"{PHOTOGRAPHS} JPEG files of {before} to {after}"
    yield (
        "reduced-scale JPEG decoding",
        work,
        ("whole", read(files.map(decode_whole))),
        ("reduced", read(files.map(decode_reduced))),
    )
    cached = files.map(decode_whole).cache()
    yield (
        "cache of uint8 pictures",
        work,
        ("decoded each epoch", read(files.map(decode_whole))),
        ("from the cache", read(cached)),
    )


def photographs():
    """Returns encoded pairs as large as the Pets' as a `tf.data.Dataset` of records."""
    images, masks = batch(PHOTOGRAPHS, PHOTOGRAPH[0])
    pairs = [encoded(image, mask) for image, mask in zip(images, masks, strict=True)]
    return tf.data.Dataset.from_tensor_slices(
        {name: [pair[name] for pair in pairs] for name in pairs[0]}
    )


def decode_whole(example):
    return pets.decode_example(example, DECODED)


def decode_reduced(example):
    """As `decode_whole`, but the JPEG is decoded at the smallest size that covers the result."""
    smallest = min(have / wanted for have, wanted in zip(PHOTOGRAPH, DECODED, strict=True))
    ratio = max(ratio for ratio in (1, 2, 4, 8) if ratio <= smallest)
    image = tf.image.resize(tf.io.decode_jpeg(example["image"], 3, ratio=ratio), DECODED)
    mask = pets.decode_mask(example["segmentation_mask"], DECODED, example["image"])
    return tf.cast(tf.round(image), tf.uint8), mask


def encoded(image, mask):
    """A pair as it lies in the Pets' files: a JPEG, and a PNG with labels from 1."""
    files = {}
    for name, array, kind in (("image", image, "JPEG"), ("segmentation_mask", mask + 1, "PNG")):
        file = io.BytesIO()
        resample = Image.Resampling.BILINEAR if kind == "JPEG" else Image.Resampling.NEAREST
        Image.fromarray(array).resize(PHOTOGRAPH[::-1], resample).save(file, kind, quality=92)
        files[name] = file.getvalue()
    return files


def of_frozen():
    """A frozen backbone says the same in each epoch, if the pictures are not augmented."""
    images, masks = batch(8, 128)
    options = {"backbone": "mobilenet_v2", "weights": None, "input_shape": (128, 128, 3)}
    options["freeze_backbone"] = True
    build = functools.partial(unet, NUM_CLASSES, **options)
    features = backbone_of(build()).predict_on_batch(images)
    yield (
        "frozen features computed once",
        "U-Net, MobileNetV2 frozen, training step, 8 x 128 px",
        ("in each step", step(build, (images, masks))),
        ("once, then the decoder alone", step(lambda: build().after_backbone(), (features, masks))),
    )


def of_evaluation():
    """The mean IoU of a data set: all predictions, then a metric, or both in one graph."""
    images, masks = batch(EVALUATED, 128)
    data = tf.data.Dataset.from_tensor_slices((images, masks)).batch(16).cache()
    pictures = data.map(lambda image, mask: image)
    model = unet(NUM_CLASSES, backbone="small", weights=None, input_shape=(128, 128, 3))
    theirs = keras.metrics.MeanIoU(NUM_CLASSES)

    def predicted():
        theirs.reset_state()
        theirs.update_state(masks, model.predict(pictures, verbose=0).argmax(axis=-1))
        return float(theirs.result())

    model.compile(metrics=[MeanIoU(NUM_CLASSES)], loss=CrossEntropy())
    yield (
        "evaluation as one compiled pass",
        f"small U-Net, {len(images)} pictures of 128 px in batches of 16",
        ("predict, then keras.metrics.MeanIoU", predicted),
        ("evaluate", functools.partial(model.evaluate, data, verbose=0)),
    )


GROUPS = (
    of_data,
    of_loss,
    of_unet,
    of_frozen,
    of_fcn,
    of_deeplab,
    of_fit,
    of_evaluation,
)

if __name__ == "__main__":
    main()
