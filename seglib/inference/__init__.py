"""Better predictions from trained models: averages over views, windows, CRFs, panoptic pictures."""

from seglib.inference import panoptic
from seglib.inference.average import ViewAverage, test_time_average
from seglib.inference.crf import DenseCRF, WindowedCRF
from seglib.inference.sliding_window import predict_windows

__all__ = [
    "DenseCRF",
    "ViewAverage",
    "WindowedCRF",
    "panoptic",
    "predict_windows",
    "test_time_average",
]
