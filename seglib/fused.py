"""One piece of a computation as one kernel, where the backend would otherwise make many passes."""

import functools

import keras


def fused(function):
    """Compiles a function of tensors with XLA on TensorFlow; elsewhere it is returned as it is.

    An arg-max over 21 channels, or a chain of comparisons on a label map, is several times faster
    as one pass over the memory. Whole models are not compiled: on a CPU their convolutions become
    slower. (JAX compiles the whole step by itself, whatever it holds.)

    XLA compiles once for each shape, so a picture size that is unknown while a graph is traced, and
    a TensorFlow without XLA for its device, get the plain operations. The batch size may be
    unknown. A function that XLA compiles as a whole gets them, too: a compiled function within it
    can make it compile anew at every call. TensorFlow is imported only if it is the backend.

    Args:
        function: function of tensors (and Python numbers), built from `keras.ops`.

    Returns:
        A function with the same arguments and values.
    """

    @functools.wraps(function)
    def call(*args):
        if keras.backend.backend() != "tensorflow":
            return function(*args)
        shapes = [tuple(arg.shape) for arg in args if hasattr(arg, "shape")]
        unknown = any(None in shape[1:] for shape in shapes)
        if unknown or within_xla() or not xla_works():
            return function(*args)
        return compiled(*args)

    @functools.cache
    def build():
        import tensorflow as tf

        return tf.function(function, jit_compile=True, reduce_retracing=True, autograph=False)

    def compiled(*args):
        return build()(*args)

    return call


def within_xla():
    """Returns whether TensorFlow is tracing a function for XLA, such as a step of `jit_compile`."""
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util  # there is no public way to ask

    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


@functools.cache
def xla_works():
    """Returns whether TensorFlow can compile for the default device; tried once."""
    import tensorflow as tf

    with tf.init_scope():
        try:
            tf.function(lambda x: x + 1, jit_compile=True, autograph=False)(tf.constant(1))
        except (tf.errors.OpError, NotImplementedError):
            return False
    return True
