"""Losses on a label map `[B, H, W]` and logits `[B, H, W, C]`."""

from seglib.losses.distribution import CrossEntropy

__all__ = ["CrossEntropy"]
