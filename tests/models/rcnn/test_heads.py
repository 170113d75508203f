"""The heads: shapes, sizes as published, float32 logits, and what they look at; any backend."""

import keras
import numpy as np

from seglib.core.precision import dtype_policy
from seglib.models.rcnn.heads import box_head, mask_head, mask_score_head, semantic_head
from seglib.models.rcnn.rpn import rpn

to_numpy = keras.ops.convert_to_numpy


def pyramid(sizes=((8, 12), (4, 6), (2, 3)), filters=5):
    rng = np.random.default_rng(0)
    return {
        f"P{n}": rng.normal(size=(2, *size, filters)).astype("float32")
        for n, size in enumerate(sizes, start=2)
    }


def symbols(levels):
    return {name: keras.KerasTensor((None, *x.shape[1:])) for name, x in levels.items()}


def regions(size, filters=5):
    return np.random.default_rng(1).normal(size=(6, size, size, filters)).astype("float32")


def test_weights_as_many_as_published():
    # torchvision's maskrcnn_resnet50_fpn: RPNHead(256, 3); TwoMLPHead(256 * 7 * 7, 1024) and
    # FastRCNNPredictor(1024, 91), which refines background too; MaskRCNNHeads(256, 4 x 256) and
    # MaskRCNNPredictor(256, 256, 91). There 91 classes include background.
    network = rpn({"P2": keras.KerasTensor((None, 8, 8, 256))}, 3)
    box, mask = box_head((7, 7, 256), 90), mask_head((14, 14, 256), 91)
    assert network.count_params() == 593_935
    assert box.count_params() == 13_895_680 + 466_375 - 4 * 1025
    assert mask.count_params() == 2_360_320 + 285_787


def test_the_rpn_goes_level_by_level_row_by_row():
    levels = pyramid()
    network = rpn(symbols(levels), 2, filters=4)
    objectness, deltas = network(levels)
    assert to_numpy(objectness).shape == (2, 2 * (96 + 24 + 6)) and deltas.shape == (2, 252, 4)
    assert network.output_shape == [(None, 252), (None, 252, 4)]
    # The anchors of row 1, column 4 of P3 come after those of P2 and of ten cells of P3.
    hidden = to_numpy(network.get_layer("rpn_shared")(levels["P3"]))[:, 1, 4]
    first = 2 * (96 + 6 + 4)
    for name, found in (("rpn_objectness", objectness), ("rpn_deltas", deltas)):
        layer = network.get_layer(name)
        kernel, bias = to_numpy(layer.kernel), to_numpy(layer.bias)
        expected = hidden @ kernel[0, 0] + bias
        found = to_numpy(found)[:, first : first + 2].reshape(2, -1)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_box_head():
    logits, deltas = box_head((3, 3, 5), 4, widths=(7,))(regions(3))
    assert logits.shape == (6, 5) and deltas.shape == (6, 4, 4)


def test_the_mask_head_doubles_the_resolution():
    assert mask_head((3, 3, 5), 4, filters=(6, 7))(regions(3)).shape == (6, 6, 6, 4)


def test_regions_do_not_see_each_other():
    shape = (4, 4, 5)
    for head in (box_head(shape, 2, widths=(4,)), mask_head(shape, 2, filters=(4,))):
        x = regions(4)
        whole = head(x)
        alone = head(x[5:])
        for a, b in zip(keras.tree.flatten(whole), keras.tree.flatten(alone), strict=True):
            np.testing.assert_allclose(to_numpy(a)[5:], to_numpy(b), atol=1e-5)


def test_the_mask_score_depends_on_the_mask():
    head = mask_score_head((4, 4, 5), 3, filters=(6, 6), widths=(5,))
    x, masks = regions(4), np.zeros((6, 8, 8), "float32")
    score = to_numpy(head([x, masks]))
    assert score.shape == (6, 3)
    masks[1, 3:, 3:] = 1
    changed = (to_numpy(head([x, masks])) != score).any(axis=-1)
    assert changed.tolist() == [False, True, False, False, False, False]


def test_the_semantic_head():
    levels = pyramid()
    head = semantic_head(symbols(levels), 4, strides={"P2": 4, "P3": 8, "P4": 16}, filters=6)
    logits = head(levels)
    assert logits.shape == (2, 8, 12, 4) and head.output_shape == (None, 8, 12, 4)


def test_logits_stay_float32_under_mixed_precision():
    with dtype_policy("mixed_bfloat16"):
        levels, shape = pyramid(), (2, 2, 5)
        found = [
            rpn(symbols(levels), 2, filters=4)(levels),
            box_head(shape, 2, widths=(4,))(regions(2)),
            mask_head(shape, 2, filters=(4,))(regions(2)),
        ]
    assert all("float32" in str(x.dtype) for x in keras.tree.flatten(found))
