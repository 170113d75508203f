"""Models at pictures of any size: alone or in a batch, saved or not, they say the same."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seglib.models import backbone, deeplab_v3_plus, fcn8, load_model, unet

to_numpy = keras.ops.convert_to_numpy
ANY_SIZE = (None, None, 3)
MODELS = {
    "unet": lambda: unet(backbone=network(), decoder="light"),
    "tutorial": lambda: unet(backbone=network(), decoder="tutorial"),
    "fcn8": lambda: fcn8(backbone=network(), filters=8, kernel_size=3),
    "deeplab": lambda: deeplab_v3_plus(backbone=network(16), filters=8, low_level_filters=4),
}


def network(output_stride=32):
    options = {"alpha": 0.25, "output_stride": output_stride, "input_shape": ANY_SIZE}
    return backbone("small", weights=None, **options)


@pytest.fixture(scope="module")
def models_and_copies(tmp_path_factory):
    """Models whose weights all matter, and what their files make of them."""
    keras.utils.set_random_seed(0)
    rng, made = np.random.default_rng(0), {}
    for name, build in MODELS.items():
        model = build()
        # FCN's scores start at zero, statistics as if they were not there.
        for weight in model.weights:
            if weight.dtype == "float32":
                noise = rng.uniform(0.0, 0.2, weight.shape).astype("float32")
                weight.assign(to_numpy(weight) + noise)
        path = tmp_path_factory.mktemp("model") / f"{name}.keras"
        model.save(path)
        made[name] = model, load_model(path)
    return made


# Each model's own tests save and load it at one size; here are many sizes, each a new graph.
@pytest.mark.rare
@given(
    name=st.sampled_from(sorted(MODELS)),
    size=st.tuples(st.integers(1, 65), st.integers(1, 65)),
    batch=st.integers(1, 3),
    chosen=st.integers(0, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_models(models_and_copies, name, size, batch, chosen, seed):
    model, copy = models_and_copies[name]
    images = np.random.default_rng(seed).integers(0, 256, (batch, *size, 3), "uint8")
    logits = to_numpy(model(images))
    assert logits.shape == (batch, *size, 3) and np.isfinite(logits).all()
    np.testing.assert_array_equal(to_numpy(copy(images)), logits)
    # What stands beside a picture, and where it stands, does not matter.
    one = slice(chosen % batch, chosen % batch + 1)
    alone = to_numpy(model(images[one]))
    np.testing.assert_allclose(alone, logits[one], rtol=0, atol=1e-5 * np.abs(logits).max())
