"""Better predictions from a trained model: averages over views, windows, and a CRF.

`test_time_average` asks the model several times, `predict_windows` predicts pictures larger than
memory, `WindowedCRF` sharpens what the model says along the picture's edges.
"""

from seglib.inference.average import ViewAverage, test_time_average
from seglib.inference.crf import DenseCRF, WindowedCRF
from seglib.inference.sliding_window import predict_windows

__all__ = ["DenseCRF", "ViewAverage", "WindowedCRF", "predict_windows", "test_time_average"]
