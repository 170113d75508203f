"""Image segmentation with Keras 3: the package behind the book *Every Pixel*."""

__version__ = "0.1.0"
