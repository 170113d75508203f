"""The precision that models are built with."""

import contextlib

import keras


@contextlib.contextmanager
def dtype_policy(policy):
    """Gives the layers that are built within it a dtype policy.

    Args:
        policy: `keras.DTypePolicy`, or its name, such as `"mixed_bfloat16"`.
    """
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
