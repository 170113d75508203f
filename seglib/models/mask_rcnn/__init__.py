"""Mask R-CNN, one idea per file."""
