"""Times where the time of each work goes: stage by stage, and the whole beside their sum.

`make bench BENCHMARK=stages` measures and writes results/stages.json, from which
chapter 9 renders its table. All weights are random, which takes the same time, and all pictures are
drawn, so it needs neither network nor data.

Each stage is a graph of its own, and one runs after the other. The whole is what a reader calls,
such as `model.evaluate`, so it differs from the sum a little: there one graph holds all stages, a
data set prepares the next batch meanwhile, and Keras does some bookkeeping.
"""

import functools
import json
import os
import statistics
import subprocess
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from benchmarks.speedups import (
    DECODED,
    NUM_CLASSES,
    PHOTOGRAPH,
    PHOTOGRAPHS,
    backbone_of,
    batch,
    photographs,
)
from measured import machine, store
from seglib.core.constants import IGNORE_LABEL
from seglib.data import augment, pets, pipeline, sample
from seglib.losses import CrossEntropy
from seglib.metrics import MeanIoU
from seglib.models import deeplab_v3_plus, fcn8, unet

ROUNDS = 5
WHOLE = "whole"
# Title, builder and its options, pictures in a batch and their size.
MODELS = (
    ("U-Net, MobileNetV2", unet, {"backbone": "mobilenet_v2", "freeze_backbone": True}, 8, 128),
    ("FCN-8, VGG16", fcn8, {"backbone": "vgg16"}, 4, 224),
    ("DeepLabV3+, ResNet-50", deeplab_v3_plus, {"backbone": "resnet50"}, 2, 256),
)
# What the first cells of a chapter do.
START_UP = {
    "importing TensorFlow and Keras": """
from seglib.chapters import notebook
with notebook.quiet():
    import keras, tensorflow
""",
    "importing seglib": """
from seglib import callbacks, losses, metrics, models, plot
from seglib.chapters import profiles
from seglib.data import augment, sample
""",
    "reading the pictures": "data = sample.load('train', image_size=128, batch_size=8)",
    "first batch": "images, masks = next(iter(data))",
    "building the model": """
options = {"weights": None, "input_shape": (128, 128, 3), "freeze_backbone": True}
model = models.unet(3, **options)
model.compile("adam", losses.CrossEntropy())
""",
    "first training step": "model.train_on_batch(images, masks)",
    "second training step": "model.train_on_batch(images, masks)",
}
# What else is printed must not be taken for a stage.
CHILD = """
import json, sys
say, sys.stdout = sys.stdout, sys.stderr
print("starting Python", file=say, flush=True)
names = {}
for stage, code in json.loads(sys.argv[1]).items():
    exec(code, names)
    print(stage, file=say, flush=True)
"""


def main(rounds=ROUNDS):
    tf.get_logger().setLevel("ERROR")  # each model is a function of its own, so each is traced
    often = {of_start_up: min(rounds, 3)}  # it takes long
    runs = [
        run
        for group in GROUPS
        for work in group()
        for run in measure(*work, often.get(group, rounds))
    ]
    result = {
        "kind": "stages",
        "task": "where the time of each work goes",
        "data": {"name": "drawn pets", "train": 0, "test": 0, "note": "random weights"},
        **machine.stamp(),
        "runs": runs,
    }
    store.save("stages", result)


def measure(work, staged, whole, rounds):
    """Times a work stage by stage and as a whole, in turn; returns entries of the results file.

    Args:
        work: its title.
        staged: a call that does it as a generator, which yields a stage's name when that is done.
        whole: a call that does it.
        rounds: how often each is timed.
    """

    def once():
        return laps(staged()) | laps(alone(whole))

    once()  # builds graphs and fills caches
    found = [once() for _ in range(rounds)]
    times = {stage: statistics.median(one[stage] for one in found) for stage in found[0]}
    report(f"{work} (median of {rounds})", times)
    return [{"work": work, "stage": stage, "ms": round(ms, 2)} for stage, ms in times.items()]


def report(title, times):
    """Prints the milliseconds of each stage, their sum, and the shares of the whole."""
    print(f"\n{title}")
    total = sum(ms for stage, ms in times.items() if stage != WHOLE)
    for stage, ms in (times | {"sum of the stages": total}).items():
        print(f"  {stage:<44} {ms:9.1f} ms   {ms / times[WHOLE]:6.1%}", flush=True)


def laps(work):
    """Returns the milliseconds of each stage that a generator yields, in the order of the first."""
    spent, start = {}, time.perf_counter()
    for stage in work:
        tf.test.experimental.sync_devices()  # a GPU may still be at work
        now = time.perf_counter()
        spent[stage] = spent.get(stage, 0.0) + 1000 * (now - start)
        start = time.perf_counter()
    return spent


def alone(call):
    """A work of one stage."""
    call()
    yield WHOLE


def compiled(function):
    return tf.function(function, autograph=False)


def of_start_up():
    """The first cells of a chapter in a fresh process, without the notebook's own program."""
    sample.prepare()  # the drawing is done once, and not timed
    command = [sys.executable, "-c", CHILD, json.dumps(START_UP)]

    def staged():
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            for line in child.stdout:
                yield line.strip()
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, command)
        yield "ending Python"

    whole = functools.partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)
    yield "start of a notebook with a U-Net, MobileNetV2, 8 x 128 px", staged, whole


def of_reading():
    """What is done once with each file, before the first epoch."""
    files = photographs()

    def decode(function):
        pictures = files.map(function, num_parallel_calls=tf.data.AUTOTUNE)
        return np.concatenate(list(pictures.batch(64).as_numpy_iterator()))

    def staged():
        images = decode(lambda x: pipeline.decode_image(x["image"], DECODED))
        yield "pictures: decoding and resizing"
        masks = decode(lambda x: pets.decode_mask(x["segmentation_mask"], DECODED, x["image"]))
        yield "label maps: decoding, checking and resizing"
        kept = tf.Variable(images), tf.Variable(masks)
        yield "copying into memory"
        return kept

    options = {"shuffle": False, "augment": None, "seed": 0}
    whole = functools.partial(
        pipeline.build, pets.Source(files), image_size=DECODED, batch_size=PHOTOGRAPHS, **options
    )
    before, after = ("{} x {} px".format(*size) for size in (PHOTOGRAPH, DECODED))
    yield f"reading {PHOTOGRAPHS} JPEG files of {before} to {after}", staged, whole


def of_epoch(size=128, count=32):
    """What is done in each epoch with each batch."""
    recipe = augment.standard()
    found = pets.Source(sample.records("train")).read((size, size))
    images, masks = (tf.Variable(part, trainable=False) for part in found)
    order = pipeline.epochs(
        lambda *index_and_seed: index_and_seed,
        len(found[0]),
        batch_size=count,
        shuffle=True,
        seed=0,
    )
    take = compiled(lambda index: (images.sparse_read(index), masks.sparse_read(index)))
    seeds = compiled(lambda seed: tf.unstack(tf.random.split(seed, 2)))
    draw = compiled(lambda some, seed: recipe.matrices(*tf.unstack(tf.shape(some)), seed))
    move = compiled(functools.partial(augment.warp, fill=127.0))
    place = compiled(functools.partial(augment.warp, fill=IGNORE_LABEL, nearest=True))
    color = compiled(recipe.change_color)

    def staged():
        done = []
        for index, seed in order:
            yield "order of the pictures"
            some_images, some_masks = take(index)
            yield "copying from memory"
            of_geometry, of_color = seeds(seed)
            transforms = draw(some_masks, of_geometry)
            yield "drawing the transforms"
            some_images = move(some_images, transforms)
            yield "warping the pictures"
            some_masks = place(some_masks[..., None], transforms)[..., 0]
            yield "warping the label maps"
            done.append((color(some_images, of_color), some_masks))
            yield "changing the colors"
        yield "order of the pictures"  # the data set ends
        return done

    data = sample.load("train", image_size=size, batch_size=count, augment=recipe)
    work = f"epoch of {len(found[0])} drawn pets of {size} px, augmented, in batches of {count}"
    yield work, staged, functools.partial(list, data)


def of_training():
    for title, build, options, count, size in MODELS:
        model = build(NUM_CLASSES, weights=None, input_shape=(size, size, 3), **options)
        frozen = "" if model.backbone.trainable_variables else " frozen"
        work = f"{title}{frozen}, training step, {count} x {size} px"
        yield work, *training_step(model, batch(count, size))


def training_step(model, data):
    """Returns a training step as a generator of stages and as Keras does it."""
    images, masks = data
    loss = CrossEntropy()
    model.compile("adam", loss)
    deep = model.backbone.trainable_variables
    variables = deep + model.decoder.trainable_variables + model.head.trainable_variables
    model.optimizer.build(variables)
    backbone, decoder, head = parts(model, training=True)
    value_of = compiled(loss)
    update = compiled(lambda gradients: model.optimizer.apply(gradients, variables))

    def staged():
        # The tape makes a graph keep what its gradients need: a frozen backbone goes without.
        with tf.GradientTape(watch_accessed_variables=bool(deep)) as below:
            features = backbone(images)
        yield "backbone, forward"
        with tf.GradientTape() as above:
            if deep:
                above.watch(features)
            logits = head(decoder(features))
            yield "decoder and head, forward"
            value = value_of(masks, logits)
            yield "loss, forward"
        upper, wanted = above.gradient(value, [variables[len(deep) :], features])
        yield "loss, decoder and head, backward"
        lower = []
        if deep:
            used = [level for level in features if wanted[level] is not None]
            lower = below.gradient(
                [features[level] for level in used],
                deep,
                output_gradients=[wanted[level] for level in used],
            )
            yield "backbone, backward"
        update([*lower, *upper])
        yield "optimizer"

    return staged, functools.partial(model.train_on_batch, images, masks)


def parts(model, *, training):
    """Returns a model's backbone, decoder and head as graphs, for sizes that need no padding."""
    backbone = backbone_of(model)
    return (
        compiled(lambda images: backbone(images, training=training)),
        compiled(lambda features: model.decoder(features, training=training)),
        compiled(model.head),
    )


def of_prediction():
    for title, build, options, count, size in MODELS:
        model = build(NUM_CLASSES, weights=None, input_shape=(size, size, 3), **options)
        images, _ = batch(count, size)
        yield f"{title}, prediction, {count} x {size} px", *prediction(model, images)


def prediction(model, images):
    """Returns a prediction of label maps as a generator of stages and as Keras does it."""
    backbone, decoder, head = parts(model, training=False)

    def staged():
        features = backbone(images)
        yield "backbone"
        maps = decoder(features)
        yield "decoder"
        logits = head(maps)
        yield "head and upsampling"
        logits = logits.numpy()
        yield "to NumPy"
        labels = logits.argmax(axis=-1)
        yield "arg-max"
        return labels

    return staged, lambda: model.predict_on_batch(images).argmax(axis=-1)


def of_evaluation(size=128, count=16):
    data = sample.load("test", image_size=size, batch_size=count)
    model = unet(NUM_CLASSES, backbone="mobilenet_v2", weights=None, input_shape=(size, size, 3))
    pictures = sum(len(images) for images, _ in data)
    work = f"U-Net, MobileNetV2, evaluation of {pictures} drawn pets of {size} px"
    yield f"{work} in batches of {count}", *evaluation(model, data)


def evaluation(model, data):
    """Returns the mean IoU of a data set as a generator of stages and as Keras does it."""
    loss, metric = CrossEntropy(), MeanIoU(NUM_CLASSES)
    model.compile(loss=CrossEntropy(), metrics=[MeanIoU(NUM_CLASSES)])
    predict = compiled(lambda images: model(images, training=False))
    value_of, count, result = map(compiled, (loss, metric.update_state, metric.result))

    def staged():
        metric.reset_state()
        for images, masks in data:
            yield "reading the batches"
            logits = predict(images)
            yield "prediction"
            value_of(masks, logits)
            yield "loss"
            count(masks, logits)
            yield "mean IoU: counting the pixels"
        yield "reading the batches"  # the data set ends
        score = result()
        yield "mean IoU: the ratio of the counts"
        return float(score)

    return staged, functools.partial(model.evaluate, data, verbose=0)


GROUPS = (of_start_up, of_reading, of_epoch, of_training, of_prediction, of_evaluation)

if __name__ == "__main__":
    main()
