"""Who is in the picture, where each pet stands and what stands before or behind it."""

import math

import numpy as np

from seglib.data.drawing.choices import choose, pick
from seglib.data.drawing.painter import Placement
from seglib.data.drawing.pet import build_pet
from seglib.data.drawing.poses import POSES
from seglib.data.drawing.things import THINGS, paint_thing


def cast(rng, index):
    """Who is in the picture: usually one pet, now and then two or three."""
    crowd = rng.random()
    count = 1 + int(crowd < 0.2) + int(crowd < 0.04)
    pets = []
    for i in range(count):
        # Breeds take turns, so that every set of 37 pictures or more shows them all.
        breed = index * 10 % 37 if i == count - 1 else int(rng.integers(37))
        pose = choose(rng, POSES, 1)
        while count > 1 and pose == "close_up":
            pose = choose(rng, POSES, 1)
        pets.append(build_pet(breed, pose, rng))
    return pets


def arrange(pets, width, height, horizon, rng):
    """One placement per pet, back to front."""
    # In the real set pet and border together have median 0.38 and reach from 0.14 to 0.7.
    total = float(np.clip(np.exp(rng.normal(math.log(0.405), 0.42)), 0.14, 0.8))
    count = len(pets)
    slots = np.linspace(-0.5, 0.5, count) if count > 1 else np.zeros(1)
    rng.shuffle(slots)
    share = total / count**0.6
    scales = [scale_of(pet, share, count, width, height, rng) for pet in pets]
    ground = horizon + 0.2 * (height - horizon)
    nearest = rng.uniform(max(ground, 0.72 * height), 0.99 * height)
    places = []
    for i, (pet, scale, slot) in enumerate(zip(pets, scales, slots, strict=True)):
        # Who stands further back stands higher in the picture.
        bottom = max(nearest - 0.07 * height * (count - 1 - i), ground)
        places.append(
            place_pet(pet, scale, slot if count > 1 else None, bottom, width, height, rng)
        )
    return places


def scale_of(pet, share, count, width, height, rng):
    """Pixels per pet unit for a pet that covers about `share` of the picture."""
    extent = pet.high - pet.low
    close = pet.pose == "close_up"
    scale = math.sqrt(share * width * height / (POSES[pet.pose][2] * extent[0] * extent[1]))
    if count > 1:
        return min(scale, 0.95 * height / extent[1], 1.35 * width / count / extent[0] ** 0.75)
    room = rng.choice((0.94, 1.25)) if not close else 1.3
    return min(scale * (1.3 if close else 1.0), room * width / extent[0], room * height / extent[1])


def place_pet(pet, scale, slot, bottom, width, height, rng):
    """Puts a pet into the frame; its head always stays inside."""
    wide, tall = (pet.high - pet.low) * scale
    slack = width - wide
    if slot is not None:
        left = slack * float(np.clip(0.5 + slot + rng.normal(0, 0.06), 0.0, 1.0))
    elif slack > 0:
        left = slack * rng.uniform(0.03, 0.97) + wide * pick(rng, (0, 0, 0, 0, -0.22, 0.22))
    else:
        left = slack * rng.random()
    if pet.pose == "close_up":
        bottom = height + rng.uniform(0.03, 0.25) * tall
    elif slot is None and rng.random() < 0.22:
        bottom += rng.uniform(0.1, 0.3) * tall
    bottom = max(bottom, min(0.98 * tall, 1.3 * height) + 0.02 * height)
    flip = bool(rng.random() < 0.5)
    tilt = float(rng.normal(0, 0.08 if pet.pose == "close_up" else 0.035))
    turn = Placement((0.0, 0.0), scale, flip, tilt)
    origin = np.array([left + wide / 2, bottom - tall / 2]) - turn([(pet.low + pet.high) / 2])[0]
    head = turn(pet.head) + origin
    inside = np.array([width, height]) - 1.0
    # Shifts that bring the head's box into the frame, or its middle where it does not fit.
    too_low, too_high = np.minimum(head.min(0) - 1, 0), np.maximum(head.max(0) - inside, 0)
    fits = head.max(0) - head.min(0) < inside
    origin -= np.where(fits, too_low + too_high, head.mean(0) - inside / 2)
    return Placement(tuple(origin), scale, flip, tilt)


def paint_ground_shadow(rgb, pet, place, light):
    """A soft shadow below the pet, on the side away from the light."""
    if pet.pose == "close_up":
        return
    corners = place([pet.low, pet.high])
    x, y = corners[:, 0].mean() - 0.4 * place.scale * light[0], corners[1, 1] - 0.12 * place.scale
    rx = 0.52 * abs(corners[1, 0] - corners[0, 0])
    ry = max(0.3 * place.scale, 2.0)
    height, width = rgb.shape[1:]
    fx = np.exp(-((np.abs(np.arange(width) - x) / rx) ** 4)).astype(np.float32)
    fy = np.exp(-(((np.arange(height) - y) / ry) ** 2)).astype(np.float32)
    rgb *= 1 - np.float32(0.42) * (fy[:, None] * fx)


def hide(cover, front):
    """What is left of `cover` behind `front`."""
    return cover * (front < 0.5)


def paint_backdrop_thing(rgb, places, light, rng):
    """A thing beside and behind the pets."""
    name = pick(rng, ("ball", "cushion", "plant", "carton"))
    height, width = rgb.shape[1:]
    scale = float(rng.uniform(0.6, 1.0) * places[0].scale)
    spot = (width * rng.uniform(0.02, 0.98), height * rng.uniform(0.62, 0.9))
    paint_thing(name, Placement(spot, scale), rgb, light, rng)


def occlude(rgb, covers, heads, pets, places, light, rng):
    """Puts a thing in front of the main pet, unless it would hide too much of any pet."""
    pet, place = pets[-1], places[-1]
    name = choose(rng, THINGS, 1)
    corners = place([pet.low, pet.high])
    bottom = min(corners[1, 1], rgb.shape[1] - 2.0)
    span = corners[1, 0] - corners[0, 0]
    x = corners[0, 0] + span * rng.uniform(0.05, 0.95)
    scale = place.scale * rng.uniform(0.75, 1.15)
    y = bottom - THINGS[name][2] * scale
    painted = rgb.copy()
    thing = paint_thing(name, Placement((x, y), scale), painted, light, rng)
    hidden = [hide(cover, thing) for cover in covers]
    head = heads[-1]
    kept = [
        (h >= 0.5).sum() / max((c >= 0.5).sum(), 1) for h, c in zip(hidden, covers, strict=True)
    ]
    kept_head = hide(head, thing).sum() / head.sum()
    return (painted, hidden) if min(kept) > 0.45 and kept_head > 0.6 else (rgb, covers)
