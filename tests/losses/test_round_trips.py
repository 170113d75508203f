"""Losses of pictures of any size: turned, packed, split, made anew from their description."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglib import losses
from seglib.core.distance import pack_distances

to_numpy = keras.ops.convert_to_numpy
# Sizes as they come, but few of them: a backend compiles a function anew for each.
SIZES = ((1, 1), (1, 7), (9, 5), (8, 11))
# The sum of losses wants losses, the hinge two classes; the third is what all derive from.
OTHERS = ("WeightedSum", "LovaszHinge", "SegmentationLoss")
NAMES = [name for name in losses.__all__ if name not in OTHERS]


@st.composite
def pictures(draw, num_classes=3):
    """Label maps `[2, H, W]` with ignored pixels, and logits `[2, H, W, C]`."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (2, *draw(st.sampled_from(SIZES)))
    labels = rng.integers(0, num_classes, shape)
    labels = np.where(rng.random(shape) < draw(st.sampled_from([0, 0.2, 1])), 255, labels)
    scale = draw(st.sampled_from([0.1, 2.0, 30.0]))
    logits = rng.normal(scale=scale, size=(*shape, num_classes)).astype("float32")
    return labels.astype("uint8"), logits


@given(drawn=pictures(), name=st.sampled_from(NAMES), turns=st.integers(1, 3))
def test_what_does_not_change_the_loss(drawn, name, turns, value):
    labels, logits = drawn
    loss = getattr(losses, name)()
    found = value(loss, labels, logits)
    assert np.isfinite(found)
    same = pytest.approx(found, rel=1e-4, abs=1e-6)
    copy = type(loss).from_config(loss.get_config())
    assert value(copy, labels, logits) == found
    turned = np.rot90(labels, turns, (1, 2)), np.rot90(logits, turns, (1, 2))
    assert value(loss, *turned) == same
    assert value(loss, labels[::-1], logits[::-1]) == same
    assert value(loss, to_numpy(pack_distances(labels, 3)), logits) == same
    assert value(loss + loss, labels, logits) == pytest.approx(2 * found, rel=1e-5)
