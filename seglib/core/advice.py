"""Long errors of other libraries as one sentence that says what to do."""

import contextlib

OUT_OF_MEMORY = (
    "ResourceExhausted",
    "RESOURCE_EXHAUSTED",
    "out of memory",
    "Out of memory",
    "OutOfMemory",
)


@contextlib.contextmanager
def memory_advice():
    """Turns a backend's way of saying that memory ran out into advice.

    Raises:
        MemoryError: in place of the backend's error.
    """
    try:
        yield
    except Exception as error:  # each backend has a class of its own, and keras.ops names none
        if not any(sign in f"{type(error).__name__} {error}" for sign in OUT_OF_MEMORY):
            raise
        raise MemoryError(
            f"Memory ran out ({first_line(error)}). Lower batch_size first, then image_size: half "
            "the side takes a quarter of the memory. A frozen backbone helps, too, and on a GPU "
            "or a processor with AVX-512 BF16 or AMX mixed_bfloat16 (it is slow on others). Very "
            "large pictures are predicted by seglib.inference.predict_windows."
        ) from error


def first_line(error):
    """Returns the first line of an error's message that says something, without its period."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return f"{type(error).__name__}: {text[:200].rstrip('. ')}"
