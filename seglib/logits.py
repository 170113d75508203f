"""What losses and metrics do to logits before anything else."""

from keras import ops


def two_channels(logits):
    """Gives binary logits of one channel the second one that they leave out.

    The one channel `z` is the logit of class 1: `sigmoid(z)` is its probability, which is what the
    softmax of the two channels `(0, z)` gives.

    Args:
        logits: `[..., C]`.

    Returns:
        `[..., 2]`, the pair `(0, z)`, if `C` is 1; otherwise the logits as they are.
    """
    if logits.shape[-1] != 1:
        return logits
    return ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
