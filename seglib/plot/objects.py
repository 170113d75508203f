"""Objects on their pictures: boxes, masks, classes and scores."""

import numpy as np
from matplotlib import patheffects
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from seglib.plot.style import PALETTE, finish, grid

# One color an object: the palette without black, which marks no object.
OBJECT_COLORS = PALETTE[:-1]

# An outline is dark on light: it shows on any background, in color and in gray.
_HALO = (patheffects.withStroke(linewidth=2.2, foreground="black"),)
_LABEL = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
_MATCH = 0.5  # IoU from which an object and a detection belong together


def instances(
    images,
    detections,
    *,
    classes,
    truth=None,
    scores=True,
    min_score=0.0,
    boxes=True,
    masks=True,
    titles=None,
    max_pictures=4,
    size=2.6,
):
    """Draws objects on their pictures: mask, box, class and score.

    With `truth`, each picture is shown twice, truth beside detection. An object and the detection
    that found it (the same class, an IoU of at least 0.5) have one color; what has no counterpart,
    a missed object or a false alarm, has a dashed box.

    Args:
        images: `[H, W, 3]` with values 0 to 255, or a list of such.
        detections: for each picture a dict of `"boxes"` `[n, 4]`, (y1, x1, y2, x2) in pixels,
            `"classes"` `[n]`, and if known `"masks"` `[n, H, W]` and `"scores"` `[n]`. Rows of a
            negative class are padding. The truth may be given here alone.
        classes: names of the classes, by class id.
        truth: dicts of the same kind, or `None`.
        scores: whether to write them.
        min_score: detections of a lower score are left out.
        boxes: whether to draw the boxes.
        masks: whether to draw the masks.
        titles: one caption a picture, or `None`.
        max_pictures: how many to draw at most.
        size: width and height of one panel, in inches.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ValueError: if there are no pictures, or not as many dicts as pictures, or a class has no
            name.

    Example:
        >>> plot.instances(image, model.detect([image])[0], classes=scenes.CLASSES, truth=example)
    """
    images, detections, truth = as_lists(images, detections, truth)
    images = [np.asarray(image).astype("uint8") for image in images[:max_pictures]]
    shown = [as_objects(found, classes, min_score) for found in detections[: len(images)]]
    if truth is None:
        figure, axes = grid(-(-len(images) // 4), min(len(images), 4), size)
        for axis, image, objects in zip(axes.flat, images, shown, strict=False):
            draw_objects(axis, image, objects, classes, scores, boxes, masks)
    else:
        # Before there is a figure, which an error would leave open.
        both = [
            side_by_side(as_objects(known, classes), objects)
            for known, objects in zip(truth, shown, strict=False)
        ]
        figure, axes = grid(len(images), 2, size)
        axes[0, 0].set_title("truth")
        axes[0, 1].set_title("detection")
        for row, image, (known, objects) in zip(axes, images, both, strict=True):
            draw_objects(row[0], image, known, classes, False, boxes, masks)
            draw_objects(row[1], image, objects, classes, scores, boxes, masks)
        if boxes:
            explain_lines(figure)
    if titles is not None:
        first = axes.flat if truth is None else axes[:, 0]
        for title, axis in zip(titles, first, strict=False):
            axis.text(0, -0.02, title, transform=axis.transAxes, va="top", fontsize=8)
    return finish(figure)


def boxes(image, boxes, *, scores=None, max_boxes=30, label="score", titles=None, size=3.0):
    """Draws boxes on a picture, colored by score: anchors, proposals, detections.

    Args:
        image: `[H, W, 3]`, values 0 to 255.
        boxes: `[n, 4]`, (y1, x1, y2, x2) in pixels, or a list of several such for panels side by
            side, such as before and after suppression. Boxes of no area are left out as padding.
        scores: `[n]`, or a list of several such, or `None` for boxes of one color.
        max_boxes: how many to draw in a panel at most: those of the highest scores; without
            scores, evenly thinned out.
        label: what the color scale says.
        titles: one title a panel, or `None`.
        size: width and height of one panel, in inches.

    Returns:
        `matplotlib.figure.Figure`.

    Raises:
        ValueError: if there are not as many scores as boxes.

    Example:
        >>> plot.boxes(image, [proposals, kept], scores=[s, s_kept], titles=["all", "after NMS"])
    """
    image = np.asarray(image).astype("uint8")
    several = isinstance(boxes, list | tuple) and np.ndim(boxes[0]) == 2
    panels = list(boxes) if several else [boxes]
    given = ([None] * len(panels) if scores is None else list(scores)) if several else [scores]
    chosen = [choose_boxes(b, s, max_boxes) for b, s in zip(panels, given, strict=True)]
    values = [s for _, s in chosen if s is not None and len(s)]
    low, high = (min(map(min, values)), max(map(max, values))) if values else (0.0, 1.0)
    scale = ScalarMappable(Normalize(low, high if high > low else low + 1e-6), "viridis")
    figure, axes = grid(1, len(panels), size)
    for number, (axis, (rows, shown)) in enumerate(zip(axes.flat, chosen, strict=True)):
        axis.imshow(image, interpolation="nearest")
        hold(axis, image)
        tints = [PALETTE[2]] * len(rows) if shown is None else scale.to_rgba(shown)
        for row, tint in zip(rows, tints, strict=True):
            axis.add_patch(rectangle(row, tint, linewidth=1.2))
        if titles is not None:
            axis.set_title(titles[number])
    if values:
        figure.colorbar(scale, ax=list(axes.flat), label=label, shrink=0.8)
    return finish(figure)


# --- what is drawn --------------------------------------------------------------------------------


def as_lists(images, detections, truth):
    """Returns lists for what may be one picture or several, or raises `ValueError`."""
    if isinstance(detections, dict):
        images, detections = [images], [detections]
        truth = None if truth is None else [truth]
    if len(images) == 0:
        raise ValueError("There are no pictures to show, expected at least one.")
    for what, dicts in (("detections", detections), ("truth", truth)):
        if dicts is not None and len(dicts) != len(images):
            raise ValueError(
                f"There are {len(images)} pictures and {len(dicts)} dicts of {what}, expected as "
                "many; a picture without objects has a dict with arrays of length 0."
            )
    return images, detections, truth


def as_objects(found, classes, min_score=0.0):
    """Returns the rows of a dict that are objects and score high enough, as NumPy arrays."""
    arrays = {
        key: np.asarray(found[key])
        for key in ("boxes", "classes", "masks", "scores")
        if found.get(key) is not None
    }
    kept = arrays["classes"] >= 0
    if "scores" in arrays:
        kept &= arrays["scores"] >= min_score
    arrays = {key: value[kept] for key, value in arrays.items()}
    if arrays["classes"].max(initial=-1) >= len(classes):
        raise ValueError(
            f"An object has the class {arrays['classes'].max()}, expected 0 to {len(classes) - 1}: "
            f"classes is {tuple(classes)}."
        )
    return arrays


def draw_objects(axis, image, objects, classes, scores, boxes, masks):
    """Draws one panel; `objects` may hold `colors` and which rows stand `alone`."""
    count = len(objects["classes"])
    tints = objects.get("colors", [OBJECT_COLORS[i % len(OBJECT_COLORS)] for i in range(count)])
    picture = image / 255.0
    if masks and "masks" in objects:
        for mask, tint in zip(objects["masks"], tints, strict=True):
            inside = np.asarray(mask).astype(bool)
            picture[inside] = 0.5 * picture[inside] + 0.5 * np.array(to_rgb(tint))
    axis.imshow(picture, interpolation="nearest")
    hold(axis, image)
    if masks and "masks" in objects:
        for mask in objects["masks"]:
            for color, width in (("black", 1.8), ("white", 0.8)):
                outline(axis, np.asarray(mask).astype(bool), color, width)
    for i in range(count):
        y1, x1, _, _ = objects["boxes"][i]
        if boxes:
            style = "--" if i in objects.get("alone", ()) else "-"
            axis.add_patch(rectangle(objects["boxes"][i], tints[i], linestyle=style))
        text = classes[int(objects["classes"][i])]
        if scores and "scores" in objects:
            text += f" {objects['scores'][i]:.2f}"
        # Inside of the picture, also where the box begins outside of it.
        x, y = max(x1, 0) - 0.5, max(y1, 0) - 0.5
        axis.text(x, y, text, fontsize=7.5, va="top", clip_on=True, bbox=_LABEL)


def rectangle(box, color, *, linewidth=1.2, linestyle="-"):
    """A box's outline; in `imshow`, pixel 0 reaches from -0.5 to 0.5."""
    y1, x1, y2, x2 = (float(v) for v in box)
    patch = Rectangle(
        (x1 - 0.5, y1 - 0.5),
        x2 - x1,
        y2 - y1,
        fill=False,
        edgecolor=color,
        linewidth=linewidth,
        linestyle=linestyle,
    )
    patch.set_path_effects([*_HALO, patheffects.Normal()])
    return patch


def outline(axis, mask, color, width):
    """Draws the line around a mask, also where the mask reaches the picture's frame."""
    if not mask.any():
        return
    height, width_px = mask.shape
    axis.contour(
        np.arange(-1, width_px + 1),
        np.arange(-1, height + 1),
        np.pad(mask, 1).astype(float),
        levels=[0.5],
        colors=[color],
        linewidths=width,
    )


def hold(axis, image):
    """Keeps the panel on the picture, whatever reaches beyond it."""
    axis.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))


def choose_boxes(boxes, scores, max_boxes):
    """Returns the boxes and scores to draw, the highest score last, on top."""
    boxes = np.asarray(boxes, "float64").reshape(-1, 4)
    if scores is not None and len(scores) != len(boxes):
        raise ValueError(f"There are {len(boxes)} boxes and {len(scores)} scores.")
    real = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    if scores is None:
        count = min(max_boxes, len(real))
        return boxes[real[np.linspace(0, len(real) - 1, count).round().astype(int)]], None
    scores = np.asarray(scores, "float64")
    order = real[np.argsort(scores[real], kind="stable")][-max_boxes:]
    return boxes[order], scores[order]


# --- truth and detection --------------------------------------------------------------------------


def match(truth, found):
    """Pairs objects with detections, the highest score first; each at most once.

    Returns:
        list of (row of the truth, row of the detections).
    """
    overlaps = iou(truth, found)
    order = np.argsort(-np.asarray(found.get("scores", np.zeros(overlaps.shape[1]))), kind="stable")
    pairs, free = [], set(range(overlaps.shape[0]))
    for j in order:
        options = [i for i in free if truth["classes"][i] == found["classes"][j]]
        best = max(options, key=lambda i: overlaps[i, j], default=None)
        if best is not None and overlaps[best, j] >= _MATCH:
            pairs.append((best, int(j)))
            free.remove(best)
    return pairs


def side_by_side(truth, found):
    """Adds to both dicts their `colors`, which partners share, and which rows stand `alone`."""
    pairs = match(truth, found)
    partner = {j: i for i, j in pairs}
    known = range(len(truth["classes"]))
    detected = range(len(found["classes"]))
    others = iter(range(len(known), len(known) + len(detected)))
    numbers = [partner[j] if j in partner else next(others) for j in detected]
    tints = [OBJECT_COLORS[i % len(OBJECT_COLORS)] for i in range(len(known) + len(detected))]
    return (
        {**truth, "colors": tints[: len(known)], "alone": set(known) - set(partner.values())},
        {**found, "colors": [tints[n] for n in numbers], "alone": set(detected) - set(partner)},
    )


def explain_lines(figure):
    """A legend that says which boxes are dashed."""
    lines = [Line2D([], [], color="black", linestyle=style) for style in ("-", "--")]
    figure.legend(
        lines, ["found", "no counterpart"], loc="outside lower center", ncols=2, frameon=False
    )


def iou(truth, found):
    """IoU of every pair `[n, m]`: of the masks where both have them, else of the boxes."""
    count = len(truth["classes"]), len(found["classes"])
    if 0 in count:
        return np.zeros(count)
    if "masks" in truth and "masks" in found:
        a, b = (x["masks"].reshape(len(x["masks"]), -1).astype("float32") for x in (truth, found))
        common = a @ b.T
        return common / np.maximum(a.sum(1)[:, None] + b.sum(1) - common, 1)
    a, b = truth["boxes"].reshape(-1, 1, 4), found["boxes"].reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.clip(sides, 0, None).prod(-1)
    areas = [np.clip(x[..., 2:] - x[..., :2], 0, None).prod(-1) for x in (a, b)]
    return common / np.maximum(areas[0] + areas[1] - common, 1e-9)
