"""The poses: each one adds trunk, legs, tail and head to a body."""

from seglib.data.drawing.body import Contact
from seglib.data.drawing.heads import add_head
from seglib.data.drawing.outlines import closed_curve, ellipse, mirrored_curve


def _sit_front(body):
    look, rng = body.look, body.rng
    g, tall = 0.9 * look.girth, 1.0 + 0.7 * (look.legs - 1)
    low = 3.0 * tall
    side = 1.0 if rng.random() < 0.5 else -1.0
    body.tail((0.75 * g * side, low - 0.15), side=side, up=rng.random() < 0.35)
    for s in (-1, 1):
        body.add("body", ellipse(0.82 * g * s, low - 0.55, 0.56 * g, 0.66 * tall), shade=0.94)
        body.leg([(0.95 * g * s, low - 0.3), (1.02 * g * s, low - 0.02)], 0.27, paw=0.6 * s)
    trunk = mirrored_curve(
        [(0, 0.1), (0.62 * g, 0.4), (0.8 * g, 1.2 * tall), (0.92 * g, 2.1 * tall),
         (0.78 * g, low - 0.2), (0.3, low)]
    )  # fmt: skip
    body.add("body", trunk, ((0, 0.3), (0, low)))
    chest = ellipse(0, 1.35 * tall, 0.5 * g, 0.85 * tall)
    body.add("chest", chest, detail=True, tuft=1.6, relief=0.4)
    spread = rng.uniform(0.3, 0.42) * g
    for s in (-1, 1):
        top = (0.42 * g * s, 1.55 * tall)
        body.leg([top, (spread * s * 1.05, 2.3 * tall), (spread * s, low)], 0.26, paw=0.15 * s)
    body.items.append(Contact((0, 0.85), (0.95, 0.5)))
    add_head(body, (rng.uniform(-0.1, 0.1), 0), yaw=rng.uniform(-0.5, 0.5))


def _sit_side(body):
    look, rng = body.look, body.rng
    g, tall = 0.95 * look.girth, 1.0 + 0.7 * (look.legs - 1)
    low = 3.05 * tall
    body.tail((-1.45 * g, low - 0.25), side=-1.0, up=rng.random() < 0.4)
    body.leg([(0.75, 1.5 * tall), (0.85, 2.3 * tall), (0.84, low - 0.12)], 0.24, paw=1.0,
             shade=0.78)  # fmt: skip
    trunk = closed_curve(
        [(0.25, 0.0), (0.85, 0.7), (0.85 + 0.1 * g, 1.5 * tall), (0.55, 2.3 * tall),
         (-0.1, low - 0.1), (-1.2 * g, low), (-1.62 * g, low - 0.55 * tall),
         (-1.3 * g, 1.75 * tall), (-0.55 * g, 0.9 * tall), (-0.4, 0.2)]
    )  # fmt: skip
    body.add("body", trunk, ((-0.2, 0.2), (-0.6, low)))
    body.add("chest", ellipse(0.62, 1.3 * tall, 0.32, 0.75 * tall, 0.1), detail=True, tuft=1.6,
             relief=0.4)  # fmt: skip
    body.add("body", ellipse(-0.75 * g, low - 0.72 * tall, 0.78 * g, 0.72 * tall), shade=1.03)
    body.leg([(-0.45, low - 0.2), (0.0, low - 0.02)], 0.26, paw=1.1)
    body.leg([(0.5, 1.55 * tall), (0.52, 2.3 * tall), (0.48, low)], 0.27, paw=1.0)
    body.items.append(Contact((0.25, 0.85), (0.9, 0.5)))
    add_head(body, (0.35, 0), yaw=rng.uniform(-0.2, 0.95))


def _stand(body):
    look, rng = body.look, body.rng
    g, leg = look.girth, 1.55 * look.legs
    top, bottom = 0.75, 1.75 + 0.15 * g
    low = bottom + leg - 0.1
    stride = rng.uniform(-0.12, 0.4) if rng.random() < 0.6 else rng.uniform(0.4, 0.85)
    lift = rng.random() < 0.4
    body.tail((-1.75, top + 0.2), side=-1.0, up=rng.random() < 0.75)
    knee = (bottom + low) / 2
    body.leg([(-1.15, bottom - 0.5), (-1.0 + stride * 0.3, knee), (-1.2 + stride, low - 0.15)],
             0.26, paw=0.9, shade=0.76)  # fmt: skip
    body.leg([(1.0, bottom - 0.5), (1.05 - stride * 0.3, knee),
              (1.0 - stride, low - 0.15 - 0.35 * lift)], 0.24, paw=0.9, shade=0.76)  # fmt: skip
    trunk = closed_curve(
        [(1.1, 0.15), (1.5, 0.9), (1.35, bottom - 0.25), (0.7, bottom + 0.05 * g),
         (-0.5, bottom - 0.18), (-1.3, bottom - 0.05), (-1.85, bottom - 0.5), (-1.85, top + 0.2),
         (-1.2, top - 0.08), (-0.2, top), (0.55, top - 0.12), (0.8, 0.3)]
    )  # fmt: skip
    body.add("body", trunk, ((0, top), (0, bottom)))
    body.add("chest", ellipse(1.22, 1.15, 0.28, 0.55, -0.25), detail=True, tuft=1.6, relief=0.4)
    body.add("body", ellipse(-1.38, bottom - 0.55, 0.58, 0.68), shade=1.02, relief=0.7)
    body.leg([(-1.45, bottom - 0.3), (-1.7 - stride * 0.2, knee), (-1.5 - stride * 0.6, low)],
             0.29, paw=0.9)  # fmt: skip
    body.leg([(0.8, bottom - 0.4), (0.85 + stride * 0.4, knee), (0.75 + stride, low)], 0.28,
             paw=0.9)  # fmt: skip
    body.items.append(Contact((1.3, 0.75), (0.85, 0.55)))
    add_head(body, (1.45, -0.1 + rng.uniform(-0.1, 0.35)), yaw=rng.uniform(0.1, 1.05))


def _lie_side(body):
    look, rng = body.look, body.rng
    g = look.girth
    low = 2.05
    body.tail((-2.1, low - 0.3), side=-1.0, up=False)
    trunk = closed_curve(
        [(0.55, 0.2), (1.15, 0.9), (1.15, low - 0.15), (0, low), (-1.6, low), (-2.25, low - 0.35),
         (-2.2, 1.3 - 0.25 * g), (-1.4, 1.05 - 0.35 * g), (-0.3, 1.05 - 0.2 * g), (0.1, 0.5)]
    )  # fmt: skip
    body.leg([(0.8, low - 0.35), (1.7, low - 0.12)], 0.24, paw=1.0, shade=0.8)
    body.add("body", trunk, ((-0.5, 0.7), (-0.5, low)))
    body.add("chest", ellipse(0.85, 1.15, 0.32, 0.6, -0.2), detail=True, tuft=1.6, relief=0.4)
    body.add("body", ellipse(-1.45, low - 0.6, 0.78, 0.62 * g), shade=1.03)
    body.leg([(-1.1, low - 0.15), (-0.6, low - 0.05)], 0.25, paw=1.0)
    body.leg([(0.45, low - 0.4), (1.0, low - 0.1), (1.55, low + 0.03)], 0.27, paw=1.0)
    body.items.append(Contact((0.75, 0.85), (0.9, 0.5)))
    add_head(body, (0.8, rng.uniform(-0.1, 0.35)), yaw=rng.uniform(-0.3, 0.9), sleepy=0.12)


def _loaf(body):
    g, rng = body.look.girth, body.rng
    side = 1.0 if rng.random() < 0.5 else -1.0
    body.tail((1.15 * g * side, 1.75), side=side, up=False)
    body.add("body", ellipse(0.45 * side, 0.95, 1.35 * g, 0.98), ((0, 0), (0, 1.9)))
    trunk = mirrored_curve(
        [(0, 0.1), (0.9 * g, 0.55), (1.2 * g, 1.3), (0.95 * g, 1.9), (0.3, 1.98)]
    )
    body.add("body", trunk, ((0, 0.2), (0, 2.0)))
    body.add("chest", ellipse(0, 1.2, 0.62 * g, 0.6), detail=True, tuft=1.6, relief=0.4)
    for s in (-1, 1):
        body.leg([(0.6 * g * s, 1.35), (0.5 * s, 1.92)], 0.29, paw=0.1 * s)
    body.items.append(Contact((0, 0.8), (0.95, 0.5)))
    add_head(body, (0, rng.uniform(-0.05, 0.3)), yaw=rng.uniform(-0.6, 0.6), sleepy=0.2)


def _curl(body):
    g, rng = body.look.girth, body.rng
    body.add("body", ellipse(-0.25, 0.2, 1.75 * g, 1.1), ((-0.3, -0.9), (-0.3, 1.3)))
    body.add("body", ellipse(-1.05 * g, 0.55, 0.82, 0.72), shade=1.03)
    body.leg([(-0.2, 1.05), (0.35, 1.15)], 0.24, paw=1.0)
    body.items.append(Contact((0.75, 0.6), (1.05, 0.9)))
    add_head(body, (0.85, 0.3), yaw=rng.uniform(-0.3, 0.5), roll=rng.uniform(0.15, 0.4), sleepy=1.0)
    wide = 0.2 if body.look.tail == "long" else 0.3
    points = [(-1.75 * g, 0.75), (-1.0, 1.28), (0.0, 1.38), (0.75, 1.3)]
    body.limb("tail", points, [wide, wide, wide * 0.9, 0.12], tuft=1.2)


def _close_up(body):
    g, rng = body.look.girth, body.rng
    trunk = mirrored_curve([(0, 0.1), (0.8 * g, 0.45), (1.25 * g, 1.3), (1.5 * g, 2.6), (0.6, 2.9)])
    body.add("body", trunk, ((0, 0.2), (0, 2.8)))
    body.add("chest", ellipse(0, 1.7, 0.68 * g, 1.0), detail=True, tuft=1.6, relief=0.4)
    body.items.append(Contact((0, 0.8), (1.0, 0.55)))
    add_head(body, (0, 0), yaw=rng.uniform(-0.75, 0.75))


# Name -> (builder, chance, share of the parts' bounding box that the pet fills).
POSES = {
    "sit_front": (_sit_front, 0.22, 0.55),
    "sit_side": (_sit_side, 0.16, 0.55),
    "stand": (_stand, 0.19, 0.45),
    "lie_side": (_lie_side, 0.15, 0.5),
    "loaf": (_loaf, 0.1, 0.62),
    "curl": (_curl, 0.06, 0.75),
    "close_up": (_close_up, 0.12, 0.65),
}
