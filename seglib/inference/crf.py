"""Fully connected CRF: neighboring pixels of like color draw each other to one label.

Each pixel pays for a label that the network thinks unlikely, and each pair of pixels with different
labels pays `K[i, j]`, the sum of two Gaussian kernels of their positions `p` and colors `I`:

    appearance: w1 exp(-|p_i - p_j|^2 / (2 theta_alpha^2) - |I_i - I_j|^2 / (2 theta_beta^2))
    smoothness: w2 exp(-|p_i - p_j|^2 / (2 theta_gamma^2))

Mean field looks for independent distributions `Q_i` of the pixels' labels by repeating

    Q_i(l)  proportional to  exp(logit_i(l) - sum_l' mu(l, l') sum_{j != i} K[i, j] Q_j(l'))

where `mu(l, l')` is 1 for different labels and 0 for equal ones (Potts), unless it is learned.

As in the authors' later code, `K[i, j]` of each kernel is first divided by the square root of the
product of the two pixels' sums `sum_j K[i, j]`, the pair `(i, i)` counted. So the weights mean the
same for any width, any window, and at the picture's frame.

Reference:
    Krähenbühl and Koltun: Efficient Inference in Fully Connected CRFs with Gaussian Edge
    Potentials, NIPS 2011. Teichmann and Cipolla: Convolutional CRFs for Semantic Segmentation,
    2018 (the window). Zheng et al.: Conditional Random Fields as Recurrent Neural Networks,
    ICCV 2015 (learned weights).
"""

import itertools

import keras
import numpy as np
from keras import ops

from seglib.core.checks import two_channels

MOST_PIXELS = 128 * 128


class MeanFieldCRF(keras.layers.Layer):
    """What both CRFs share: the arguments (see `WindowedCRF`), the weights and the iterations.

    A subclass has `kernels(image)`, which returns the appearance and the smoothness kernel without
    the pairs `(i, i)`, and `message(kernel, q)`, the sum of `kernel[i, j] * q[j]` over `j`.
    """

    def __init__(
        self,
        *,
        appearance_weight=1.0,
        smoothness_weight=0.5,
        theta_alpha=40.0,
        theta_beta=13.0,
        theta_gamma=1.5,
        iterations=5,
        trainable=False,
        **kwargs,
    ):
        if min(theta_alpha, theta_beta, theta_gamma) <= 0:
            raise ValueError(
                f"theta_alpha, theta_beta and theta_gamma are {theta_alpha}, {theta_beta} and "
                f"{theta_gamma}, expected widths above 0; a weight of 0 switches a kernel off."
            )
        if iterations < 1:
            raise ValueError(f"iterations is {iterations}, expected at least 1.")
        # Under mixed precision half a float would not hold log probabilities.
        super().__init__(trainable=trainable, **({"dtype": "float32"} | kwargs))
        self.appearance_weight = appearance_weight
        self.smoothness_weight = smoothness_weight
        self.theta_alpha = theta_alpha
        self.theta_beta = theta_beta
        self.theta_gamma = theta_gamma
        self.iterations = iterations

    def build(self, shapes):
        num_classes = max(2, shapes[1][-1])
        weights = np.array([self.appearance_weight, self.smoothness_weight], "float32")
        potts = 1 - np.eye(num_classes, dtype="float32")
        constant = keras.initializers.Constant
        self.kernel_weights = self.add_weight((2,), constant(weights), name="kernel_weights")
        self.compatibility = self.add_weight(potts.shape, constant(potts), name="compatibility")

    def compute_output_shape(self, shapes):
        return (*shapes[1][:3], max(2, shapes[1][-1]))

    def call(self, inputs):
        image, logits = inputs
        check_pair(image, logits)
        # Channels first: each step below is then one pass over whole rows of pixels.
        image = ops.transpose(ops.cast(image, "float32"), (0, 3, 1, 2))  # (B, 3, H, W)
        logits = ops.transpose(two_channels(logits), (0, 3, 1, 2))  # (B, C, H, W)
        appearance, smoothness = self.kernels(image)
        kernel = self.kernel_weights[0] * appearance + self.kernel_weights[1] * smoothness

        def update(_, log_q):
            message = self.message(kernel, ops.exp(log_q))  # (B, C, H, W)
            pairwise = ops.einsum("lk,bkhw->blhw", self.compatibility, message)
            return ops.log_softmax(logits - pairwise, axis=1)

        log_q = ops.fori_loop(0, self.iterations, update, ops.log_softmax(logits, axis=1))
        return ops.transpose(log_q, (0, 2, 3, 1))  # (B, H, W, C)

    def get_config(self):
        names = ["appearance_weight", "smoothness_weight", "iterations"]
        names += ["theta_alpha", "theta_beta", "theta_gamma"]
        return super().get_config() | {name: getattr(self, name) for name in names}


@keras.saving.register_keras_serializable("seglib")
class WindowedCRF(MeanFieldCRF):
    """Fully connected CRF, cut to the neighbors within a square window.

    Memory: one map `[H, W]` for each of the `(2 radius + 1)^2 - 1` neighbors, kernel and picture.

    It helps logits that are too smooth or too noisy for the picture's edges. It knows colors and no
    shapes: a thin class vanishes into its neighbors. Measure each class before and after.

    Args:
        radius: how far the window reaches up, down, left and right, in pixels.
        appearance_weight: `w1`. The default is weak: 3 to 10 are common, for logits of an eighth of
            the resolution.
        smoothness_weight: `w2`.
        theta_alpha, theta_gamma: reach of the two kernels, in pixels.
        theta_beta: width of the appearance kernel in color, of 0 to 255 per channel.
        iterations: mean-field updates.
        trainable: whether the two weights and `mu` are trained with the network.

    Shape:
        `(image, logits)`, `[B, H, W, 3]` with values 0 to 255 and `[B, H, W, C]`, to
        `log Q`, `[B, H, W, C]`, float32: use it as logits. One channel (the logit of class 1)
        becomes two.

    Raises:
        ValueError: if arguments make no sense, or image and logits differ in size.

    Example:
        >>> crf = WindowedCRF(radius=5)
        >>> model = keras.Model(model.input, crf([model.input, model.output]))
    """

    def __init__(self, *, radius=5, **kwargs):
        super().__init__(**kwargs)
        if radius < 1:
            raise ValueError(f"radius is {radius}, expected at least 1 pixel.")
        self.radius = radius

    @property
    def offsets(self):
        """The neighbors as steps `(down, right)`, without `(0, 0)`."""
        steps = range(-self.radius, self.radius + 1)
        return [step for step in itertools.product(steps, steps) if step != (0, 0)]

    def kernels(self, image):
        padded = self.pad(image)
        inside = self.pad(ops.ones_like(image[:, :1]))
        appearance, smoothness = [], []
        for offset in self.offsets:
            color = ops.sum(ops.square(image - self.shift(padded, offset)), axis=1)  # (B, H, W)
            there = self.shift(inside, offset)[:, 0]
            near = offset[0] ** 2 + offset[1] ** 2
            likeness = ops.exp(-color / (2 * self.theta_beta**2))
            appearance.append(there * likeness * float(np.exp(-near / (2 * self.theta_alpha**2))))
            smoothness.append(there * float(np.exp(-near / (2 * self.theta_gamma**2))))
        # (B, neighbors, H, W) each
        return self.normalize(ops.stack(appearance, 1)), self.normalize(ops.stack(smoothness, 1))

    def normalize(self, kernel):
        scale = ops.rsqrt(1 + ops.sum(kernel, axis=1, keepdims=True))  # (B, 1, H, W)
        padded = self.pad(scale)
        neighbors = ops.concatenate([self.shift(padded, offset) for offset in self.offsets], axis=1)
        return kernel * scale * neighbors

    def message(self, kernel, q):
        padded = self.pad(q)
        return sum(
            kernel[:, n : n + 1] * self.shift(padded, offset)
            for n, offset in enumerate(self.offsets)
        )

    def pad(self, x):
        """Puts `radius` zeros around maps `[B, C, H, W]`."""
        return ops.pad(x, ((0, 0), (0, 0), (self.radius,) * 2, (self.radius,) * 2))

    def shift(self, padded, offset):
        """Returns maps `[B, C, H, W]` that hold, at each pixel, the neighbor at `offset`."""
        rows, columns = (slice(self.radius + step, (step - self.radius) or None) for step in offset)
        return padded[:, :, rows, columns]

    def get_config(self):
        return super().get_config() | {"radius": self.radius}


@keras.saving.register_keras_serializable("seglib")
class DenseCRF(MeanFieldCRF):
    """Fully connected CRF, exactly: all pairs of pixels, for small pictures.

    It holds a matrix of `(H W)^2` numbers for each kernel and picture, 1 GiB at 128 x 128 pixels,
    the most that it takes; height and width must be known. Arguments, shapes and errors are those
    of `WindowedCRF`, but for the radius.
    """

    def kernels(self, image):
        height, width = image.shape[2:]
        if height is None or width is None or height * width > MOST_PIXELS:
            raise ValueError(
                f"The picture has {height} x {width} pixels, expected a known size of at most "
                f"{MOST_PIXELS} pixels, for all their pairs. Use WindowedCRF."
            )
        colors = ops.reshape(image, (-1, image.shape[1], height * width))  # (B, 3, N)
        color = sum(
            ops.square(colors[:, c, :, None] - colors[:, c, None, :]) for c in range(image.shape[1])
        )  # (B, N, N)
        down, right = np.divmod(np.arange(height * width, dtype="int32"), width)
        down, right = down[:, None] - down, right[:, None] - right  # (N, N)
        near = down**2 + right**2
        reach, smoothness = (
            np.exp(-near / (2 * theta**2)).astype("float32")
            for theta in (self.theta_alpha, self.theta_gamma)
        )
        appearance = reach * ops.exp(-color / (2 * self.theta_beta**2))
        smoothness = ops.convert_to_tensor(smoothness)[None]
        return self.normalize(appearance), self.normalize(smoothness)

    def normalize(self, kernel):
        scale = ops.rsqrt(ops.sum(kernel, axis=2))  # (B, N), the pair (i, i) counted
        kernel = kernel * scale[:, :, None] * scale[:, None, :]
        return kernel * (1 - np.eye(kernel.shape[-1], dtype="float32"))

    def message(self, kernel, q):
        flat = ops.reshape(q, (-1, q.shape[1], kernel.shape[-1]))  # (B, C, N)
        return ops.reshape(ops.matmul(flat, kernel), ops.shape(q))  # K is symmetric


def negative(image):
    """Returns whether a picture has values below 0, as logits have; `False` while it is traced."""
    try:
        return bool((ops.convert_to_numpy(image) < 0).any())
    except (AttributeError, NotImplementedError, TypeError, ValueError):  # there are no values yet
        return False


def check_pair(image, logits):
    """Raises unless image and logits are batches of one size."""
    shapes = tuple(image.shape), tuple(logits.shape)
    fits = all(len(shape) == 4 for shape in shapes) and all(
        a is None or b is None or a == b for a, b in zip(*(s[:3] for s in shapes), strict=True)
    )
    whole_numbers = "int" in keras.backend.standardize_dtype(logits.dtype)
    if not fits or whole_numbers or (shapes[0][3] != 3 and shapes[1][3] == 3) or negative(image):
        raise ValueError(
            f"The image has shape {shapes[0]} and the logits {shapes[1]}, expected [B, H, W, 3] "
            "and [B, H, W, C] of one size: crf([image, logits]), in this order."
        )
