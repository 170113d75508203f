"""Better predictions from trained models: averages over views, windows, a CRF, panoptic pictures.

`test_time_average` asks the model several times, `predict_windows` predicts pictures larger than
memory, `WindowedCRF` sharpens what the model says along the picture's edges, and `panoptic.merge`
joins detected objects and a label map.
"""

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
