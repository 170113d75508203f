"""The heads: shapes, sizes as published, float32 logits, and what they look at; any backend."""

import keras
import numpy as np
import pytest

from seglib.models.rcnn.heads import BoxHead, MaskHead, MaskScoreHead, semantic_head
from seglib.models.rcnn.rpn import RPN

to_numpy = keras.ops.convert_to_numpy


def pyramid(sizes=((8, 12), (4, 6), (2, 3)), filters=5):
    rng = np.random.default_rng(0)
    return {
        f"P{n}": rng.normal(size=(2, *size, filters)).astype("float32")
        for n, size in enumerate(sizes, start=2)
    }


def regions(size, filters=5):
    return np.random.default_rng(1).normal(size=(2, 3, size, size, filters)).astype("float32")


def test_weights_as_many_as_published():
    # torchvision's maskrcnn_resnet50_fpn: RPNHead(256, 3); TwoMLPHead(256 * 7 * 7, 1024) and
    # FastRCNNPredictor(1024, 91), which refines background too; MaskRCNNHeads(256, 4 x 256) and
    # MaskRCNNPredictor(256, 256, 91). There 91 classes include background.
    rpn, box, mask = RPN(3), BoxHead(90), MaskHead(91)
    rpn.build({"P2": (None, 8, 8, 256)})
    box.build((None, None, 7, 7, 256))
    mask.build((None, None, 14, 14, 256))
    assert rpn.count_params() == 593_935
    assert box.count_params() == 13_895_680 + 466_375 - 4 * 1025
    assert mask.count_params() == 2_360_320 + 285_787


def test_the_rpn_goes_level_by_level_row_by_row():
    rpn = RPN(2, filters=4)
    levels = pyramid()
    objectness, deltas = rpn(levels)
    assert to_numpy(objectness).shape == (2, 2 * (96 + 24 + 6)) and deltas.shape == (2, 252, 4)
    shapes = {name: x.shape for name, x in levels.items()}
    assert rpn.compute_output_shape(shapes) == (objectness.shape, deltas.shape)
    # The anchors of row 1, column 4 of P3 come after those of P2 and of ten cells of P3.
    hidden = to_numpy(rpn.shared(levels["P3"]))[:, 1, 4]
    first = 2 * (96 + 6 + 4)
    for layer, found in ((rpn.objectness, objectness), (rpn.deltas, deltas)):
        kernel, bias = map(to_numpy, (layer.kernel, layer.bias))
        expected = hidden @ kernel[0, 0] + bias
        found = to_numpy(found)[:, first : first + 2].reshape(2, -1)
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_box_head():
    head = BoxHead(4, widths=(7,))
    logits, deltas = head(regions(3))
    assert logits.shape == (2, 3, 5) and deltas.shape == (2, 3, 4, 4)
    assert head.compute_output_shape((2, 3, 3, 3, 5)) == (logits.shape, deltas.shape)


def test_the_mask_head_doubles_the_resolution():
    head = MaskHead(4, widths=(6, 7))
    logits = head(regions(3))
    assert logits.shape == (2, 3, 6, 6, 4) == head.compute_output_shape((2, 3, 3, 3, 5))


def test_regions_do_not_see_each_other():
    for head in (BoxHead(2, widths=(4,)), MaskHead(2, widths=(4,))):
        x = regions(4)
        whole = head(x)
        alone = head(x[1:, 2:])
        for a, b in zip(keras.tree.flatten(whole), keras.tree.flatten(alone), strict=True):
            np.testing.assert_allclose(to_numpy(a)[1:, 2:], to_numpy(b), atol=1e-5)


def test_the_mask_score_depends_on_the_mask():
    head = MaskScoreHead(3, widths=(6, 6), hidden=(5,))
    x, masks = regions(4), np.zeros((2, 3, 8, 8), "float32")
    score = to_numpy(head([x, masks]))
    assert score.shape == (2, 3, 3) == head.compute_output_shape([x.shape, masks.shape])
    masks[0, 1, 3:, 3:] = 1
    changed = (to_numpy(head([x, masks])) != score).any(axis=-1)
    assert changed.tolist() == [[False, True, False], [False, False, False]]


def test_the_semantic_head():
    levels = pyramid()
    maps = {level: keras.KerasTensor(x.shape) for level, x in levels.items()}
    head = semantic_head(maps, 4, strides={"P2": 4, "P3": 8, "P4": 16}, filters=6)
    logits = head(levels)
    assert logits.shape == (2, 8, 12, 4) and head.output_shape == (None, 8, 12, 4)


@pytest.mark.parametrize(
    "head, inputs",
    [
        (RPN(2, filters=4, dtype="mixed_bfloat16"), pyramid()),
        (BoxHead(2, widths=(4,), dtype="mixed_bfloat16"), regions(2)),
        (MaskHead(2, widths=(4,), dtype="mixed_bfloat16"), regions(2)),
    ],
)
def test_logits_stay_float32_under_mixed_precision(head, inputs):
    assert all(
        x.dtype in ("float32", np.float32) or "float32" in str(x.dtype)
        for x in keras.tree.flatten(head(inputs))
    )


@pytest.mark.parametrize(
    "head",
    [
        RPN(5, filters=7),
        BoxHead(3, widths=(4, 6)),
        MaskHead(3, widths=(4, 6)),
        MaskScoreHead(3, widths=(4, 6), hidden=(5,)),
    ],
)
def test_configs(head):
    again = type(head).from_config(head.get_config())
    assert again.get_config() == head.get_config()
