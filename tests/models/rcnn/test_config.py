"""The configuration: what it refuses, what it prints, and the optimizer that it describes."""

import dataclasses
import json

import keras
import numpy as np
import pytest

from seglib.models.rcnn import MaskRCNNConfig


@pytest.mark.parametrize("config", [MaskRCNNConfig(), MaskRCNNConfig.small()])
def test_to_json_and_back(config):
    again = MaskRCNNConfig(**json.loads(json.dumps(dataclasses.asdict(config))))
    assert again == config
    assert isinstance(again.image_size, tuple) and isinstance(again.anchor_sizes, tuple)


def test_every_setting_is_printed_with_a_meaning():
    config = MaskRCNNConfig()
    table = config.table()
    assert [name for name, _, _ in table] == [f.name for f in dataclasses.fields(config)]
    assert all(len(meaning) > 5 for _, _, meaning in table)
    lines = str(config).splitlines()
    assert max(map(len, lines)) <= 100  # as wide as a page of the book
    starts = [n for n, line in enumerate(lines) if not line.startswith(" ")]
    assert len(starts) == len(table)
    for (name, value, meaning), start, end in zip(table, starts, [*starts[1:], None], strict=True):
        row = lines[start:end]
        assert row[0].split()[0] == name
        # The value and its meaning go on below themselves where one line is too short.
        column = row[0].index(meaning.split()[0], 50)
        assert " ".join(line[column:] for line in row).split() == meaning.split()
        shown = " ".join(line[23:column].strip() for line in row).strip()
        assert shown == str(value) or name == "loss_weights"


def test_the_weight_of_each_loss_is_printed():
    text = " ".join(line[23:50].strip() for line in str(MaskRCNNConfig()).splitlines())
    assert all(f"{name} 1" in text for name in MaskRCNNConfig().loss_weights)


def test_it_cannot_be_changed_but_replaced():
    config = MaskRCNNConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_classes = 3
    assert dataclasses.replace(config, num_classes=3).num_classes == 3


def test_numbers_of_the_papers():
    # Mask R-CNN, section 3.1: RoIs of IoU 0.5 are positive, one in four; 512 RoIs with a pyramid;
    # anchors of 5 scales and 3 ratios; 1000 proposals are tested, the best 100 boxes get a mask;
    # weight decay 0.0001, momentum 0.9, rate 0.02. Faster R-CNN, 3.1: 256 anchors, 0.7 and 0.3.
    config = MaskRCNNConfig()
    assert (config.roi_positive_iou, config.roi_positive_share) == (0.5, 0.25)
    assert (config.rois_per_image, config.post_nms_top_k_predict) == (512, 1000)
    assert len(config.anchor_sizes) == 5 and len(config.anchor_ratios) == 3
    assert config.max_detections == 100
    assert (config.learning_rate, config.momentum, config.weight_decay) == (0.02, 0.9, 1e-4)
    assert (config.rpn_samples, config.rpn_positive_share) == (256, 0.5)
    assert (config.rpn_positive_iou, config.rpn_negative_iou, config.rpn_nms_iou) == (0.7, 0.3, 0.7)
    assert (config.box_pool_size, config.mask_pool_size, config.mask_size) == (7, 14, 28)
    assert config.positive_rois == 128
    assert config.strides == {"P2": 4, "P3": 8, "P4": 16, "P5": 32, "P6": 64}


def test_lists_and_missing_loss_weights_are_filled_in():
    config = MaskRCNNConfig.small(image_size=[64, 96], loss_weights={"mask_loss": 2.0})
    assert config.image_size == (64, 96)
    assert config.loss_weights["mask_loss"] == 2.0 and config.loss_weights["box_loss"] == 1.0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"num_classes": 0}, "num_classes is 0, expected whole numbers"),
        ({"num_classes": 2.5}, "num_classes is 2.5"),
        ({"num_classes": True}, "num_classes is True"),
        ({"image_size": (100, 128)}, "multiples of 32"),
        ({"image_size": (128,)}, "expected .height, width."),
        ({"rpn_levels": ("P5", "P4", "P3")}, "rpn_levels is .*from fine to coarse"),
        ({"rpn_levels": ()}, "rpn_levels is .*expected neighbors"),
        ({"rpn_levels": ("P3", "P5")}, "rpn_levels is .*expected neighbors"),
        ({"roi_levels": ("P1", "P2")}, "roi_levels is .*expected neighbors"),
        ({"roi_levels": ("P3",), "rpn_levels": ("P3", "P4"), "anchor_sizes": (32, 64)}, "up to P5"),
        ({"rpn_levels": ("P5",), "roi_levels": ("P2",), "anchor_sizes": (64,)}, "without a gap"),
        ({"anchor_sizes": (32, 64)}, "2 entries, expected one for each of the 3"),
        ({"anchor_sizes": (32, 64, -1)}, "anchor_sizes is .* expected numbers above 0"),
        ({"anchor_ratios": ()}, "anchor_ratios is empty"),
        ({"box_deviations": (0.1, 0.1)}, "2 entries, expected 4"),
        ({"mask_size": 14}, "expected mask_size=16"),
        ({"mask_size": 30, "mask_pool_size": 15, "mask_scoring": True}, "expected an even number"),
        ({"class_names": ("cat",)}, "1 entries, expected num_classes, 2"),
        ({"semantic_classes": 1}, "semantic_classes is 1"),
        ({"optimizer": "adam"}, "expected 'sgd' or 'adamw'"),
        ({"loss_weights": {"masks": 1}}, "loss_weights has masks, expected out of rpn_class_loss"),
        ({"loss_weights": {"mask_loss": -1}}, "at least 0"),
        ({"rpn_negative_iou": 0.9}, "cannot be both object and background"),
        ({"detection_nms_iou": 1.5}, "detection_nms_iou is 1.5, expected a number from 0 to 1"),
        ({"learning_rate": 0}, "learning_rate is 0, expected numbers above 0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"gradient_clip": 0}, "gradient_clip is 0"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MaskRCNNConfig.small(**changes)


# --- the optimizer ----------------------------------------------------------------------------


def rates(optimizer, steps):
    schedule = optimizer._learning_rate
    return [float(keras.ops.convert_to_numpy(schedule(step))) for step in steps]


def test_sgd_rises_stays_and_falls_to_a_tenth():
    config = MaskRCNNConfig(learning_rate=0.02, warmup_steps=10, steps=100)
    optimizer = config.make_optimizer()
    assert isinstance(optimizer, keras.optimizers.SGD) and optimizer.momentum == 0.9
    found = rates(optimizer, [0, 4, 9, 10, 74, 75, 99])
    np.testing.assert_allclose(found, [0.002, 0.01, 0.02, 0.02, 0.02, 0.002, 0.002], rtol=1e-5)


def test_adamw_follows_half_a_cosine():
    changes = {"warmup_steps": 10, "gradient_clip": 5.0, "steps": 110}
    optimizer = MaskRCNNConfig.small(learning_rate=1e-3, **changes).make_optimizer()
    assert isinstance(optimizer, keras.optimizers.AdamW) and optimizer.global_clipnorm == 5.0
    found = rates(optimizer, [0, 4, 9, 10, 60, 110, 200])
    middle = 1e-3 * (0.01 + 0.99 * 0.5)
    expected = [1e-4, 5e-4, 1e-3, 1e-3, middle, 1e-5, 1e-5]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_the_cosine_is_that_of_keras():
    ours = MaskRCNNConfig.small(learning_rate=0.3, warmup_steps=0, steps=50).make_optimizer()
    theirs = keras.optimizers.schedules.CosineDecay(0.3, 50, alpha=0.01)
    steps = range(0, 60, 7)
    expected = [float(keras.ops.convert_to_numpy(theirs(step))) for step in steps]
    np.testing.assert_allclose(rates(ours, steps), expected, rtol=1e-4)


def test_the_optimizer_can_be_saved():
    optimizer = MaskRCNNConfig(warmup_steps=5, steps=20).make_optimizer()
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert rates(again, [0, 7, 19]) == rates(optimizer, [0, 7, 19])
