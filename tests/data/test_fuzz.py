"""Bad TFRecord and COCO input from a seeded generator: no crash, no hang, no silently wrong pair.

What "silently wrong" means. Input that is accepted without a word must give

- TFRecord: exactly the pairs that were written, pixel by pixel, none missing;
- COCO: for each picture listed, its file's pixels, and the masks that pycocotools draws from the
  JSON as it stands, on coordinates inside of the picture. A number that was changed to another
  sensible one (a corner moved by a pixel, an object given to another picture) is what the JSON now
  says, and no program can know better.

Where bad pairs are left out (`on_error="skip"`), every pair that remains must be right in the same
sense, and something must have been counted if one is missing.

    python tests/data/test_fuzz.py 10000      many cases, with a table of what became of them
"""

import collections
import faulthandler
import gzip
import io
import json
import math
import shutil
import struct
import sys
import tempfile
import time
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from pycocotools import mask as pycoco

from seglib.data import coco, pairs, tfrecord

# pycocotools 2.0.11 hands NumPy 2 an array in a way that is going away.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CASES = 300  # 10,000 in the nightly run
SEED = 20240229
REFUSED = (ValueError, FileNotFoundError)
HEIGHT, WIDTH = 12, 16
HANG = 120  # seconds


def picture(seed):
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3)).astype("uint8")


def labels(seed):
    return np.random.default_rng(seed).choice([0, 1, 2, 255], (HEIGHT, WIDTH)).astype("uint8")


def encode(array, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


# --- bytes ----------------------------------------------------------------------------------------


def flip_bits(rng, data):
    data = bytearray(data)
    for _ in range(rng.integers(1, 9)):
        data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return bytes(data)


def cut(rng, data):
    return data[: rng.integers(len(data))]


def remove(rng, data):
    start = rng.integers(len(data))
    return data[:start] + data[start + rng.integers(1, 20) :]


def insert(rng, data):
    place = rng.integers(len(data) + 1)
    return data[:place] + rng.bytes(rng.integers(1, 20)) + data[place:]


def clear(rng, data):
    start = rng.integers(len(data))
    end = min(len(data), start + rng.integers(1, 64))
    return data[:start] + bytes(end - start) + data[end:]


def overwrite(rng, data):
    return rng.bytes(len(data)) if rng.random() < 0.2 else rng.bytes(rng.integers(40))


DAMAGE = (flip_bits, cut, remove, insert, clear, overwrite)


def pick(rng, choices):
    return choices[rng.integers(len(choices))]


# --- TFRecord files -------------------------------------------------------------------------------

PAIRS = 6


def make_tfrecords(folder):
    """Six pairs in two shards. Half of the pictures are JPEG."""
    originals = [
        (encode(picture(i), "PNG" if i % 2 else "JPEG"), labels(i), str(i)) for i in range(PAIRS)
    ]
    tfrecord.write(originals, folder / "good", shards=2)
    truth = {
        (e["image"].tobytes(), e["mask"].tobytes()) for e in tfrecord.examples(folder / "good")
    }
    assert len(truth) == PAIRS
    for _, mask, _ in originals:
        assert mask.tobytes() in {m for _, m in truth}
    return truth


def records(data):
    found, position = [], 0
    while position < len(data):
        (length,) = struct.unpack_from("<Q", data, position)
        found.append(data[position + 12 : position + 12 + length])
        position += 16 + length
    return found


def frame(data):
    """A record with right checksums."""
    head = struct.pack("<Q", len(data))
    checksums = (struct.pack("<I", tfrecord.masked_crc32c(d)) for d in (head, data))
    return head + next(checksums) + data + next(checksums)


def damage_file(rng, data):
    return pick(rng, DAMAGE)(rng, data)


def cut_at_a_record(rng, data):
    kept = records(data)[: rng.integers(PAIRS // 2)]
    return b"".join(map(frame, kept))


def repeat_a_record(rng, data):
    found = records(data)
    return data + frame(pick(rng, found))


def drop_a_record(rng, data):
    found = records(data)
    del found[rng.integers(len(found))]
    return b"".join(map(frame, found))


def wrong_shape(rng, data):
    """A record whose checksums are right and whose contents are not."""
    found = records(data)
    number = rng.integers(len(found))
    example = tfrecord.tf.train.Example.FromString(found[number])
    fields = example.features.feature
    size = tuple(int(side) for side in rng.integers(1, 40, 2))
    if size == (HEIGHT, WIDTH):
        size = (HEIGHT, WIDTH + 1)
    image, mask = fields[tfrecord.IMAGE].bytes_list, fields[tfrecord.MASK].bytes_list
    change = rng.integers(10)
    if change == 0:
        mask.value[0] = encode(np.zeros(size, "uint8"))
    elif change == 1:
        image.value[0] = encode(np.zeros((*size, 3), "uint8"), pick(rng, ("PNG", "JPEG", "GIF")))
    elif change == 2:
        mask.value[0] = encode(picture(0))
    elif change == 3:
        mask.value[0] = pick(rng, DAMAGE)(rng, mask.value[0])
    elif change == 4:
        image.value[0] = cut(rng, image.value[0])
    elif change == 5:
        fields[pick(rng, (tfrecord.HEIGHT, tfrecord.WIDTH))].int64_list.value[0] = int(
            pick(rng, (-1, 0, 2**31, 2**62, 17))
        )
    elif change == 6:
        del fields[pick(rng, (tfrecord.IMAGE, tfrecord.MASK))]
    elif change == 7:
        pick(rng, (image, mask)).value.append(b"another")
    elif change == 8:
        mask.value[0] = encode(np.full((HEIGHT, WIDTH), 999, "uint16"))
    else:
        image.value[0] = mask.value[0] = b""
    found[number] = example.SerializeToString()
    return b"".join(map(frame, found))


def compress(rng, data):
    return gzip.compress(data) if rng.random() < 0.5 else zlib.compress(data)


def black_and_white(rng, data):
    """Masks of 0 and 255: to be ignored, by the numbers alone."""
    found = []
    for record in records(data):
        example = tfrecord.tf.train.Example.FromString(record)
        mask = 255 * rng.integers(0, 2, (HEIGHT, WIDTH)).astype("uint8")
        example.features.feature[tfrecord.MASK].bytes_list.value[0] = encode(mask)
        found.append(example.SerializeToString())
    return b"".join(map(frame, found))


TFRECORD_KINDS = {
    "flipped, cut, removed, inserted, cleared bytes": damage_file,
    "cut between two records": cut_at_a_record,
    "a record twice": repeat_a_record,
    "a record missing": drop_a_record,
    "wrong contents, right checksums": wrong_shape,
    "compressed": compress,
    "black and white masks": black_and_white,
}


def tfrecord_case(rng, folder, truth):
    """Damages one file of a copy and returns (kind, outcome); asserts that nothing is wrong."""
    work = folder / "case"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for file in folder.glob("good*"):
        shutil.copy(file, work)
    # Every other case damages bytes, since there the most can happen.
    names = list(TFRECORD_KINDS)
    kind = names[0] if rng.random() < 0.5 else pick(rng, names[1:])
    change = TFRECORD_KINDS[kind]
    file = pick(rng, sorted(work.glob("*.tfrecord")))
    if rng.random() < 0.05:
        kind, change, file = "the index", damage_file, work / "good.index.json"
    before = file.read_bytes()
    file.write_bytes(change(rng, before))

    if change is black_and_white:
        with pytest.raises(ValueError, match="label_map"):
            tfrecord.load(file, image_size=(HEIGHT, WIDTH), num_classes=2)
        return kind, "refused as a whole"

    def read(on_error):
        source = pairs.Pairs(tfrecord.read_pairs(work / "good"), on_error=on_error)
        found = [(image.tobytes(), mask.tobytes()) for image, mask, _ in source.decoded(None)]
        assert set(found) <= truth, "a pair that was never written"
        return found, source.skipped

    try:
        found, _ = read("raise")
        # An index that happens to say the same thing in other bytes is no fault.
        assert len(found) == PAIRS == len(set(found)), "a pair is missing or there twice"
        return kind, "harmless"
    except REFUSED as error:
        first = str(error)
    assert str(work) in first, "the file is not named"
    try:
        _, faults = read("skip")
    except REFUSED as error:
        assert str(error) == first
        return kind, "refused as a whole"
    assert faults[0] == first, "refused, but not counted"
    return kind, "left out and counted"


# --- COCO files -----------------------------------------------------------------------------------

JUNK = (
    *(None, True, False, 0, -1, 1, 3, 7, 13, 255, 10**9, 2**63, 10**400, 0.5, -0.5, 1e300, -1e300),
    *(math.nan, math.inf, -math.inf, "", "1", "1.png", "../1.png", "/dev/zero", "\0", "ÿ" * 70),
    *([], [[]], [[[]]], [1], [1, 2, 3, 4, 5, 6], [[1, 2, 3, 4]], [[1, 1, 5, 1, 5, 5]], {}),
    *({"size": [HEIGHT, WIDTH]}, {"counts": [192]}, {"size": [HEIGHT, WIDTH], "counts": "o"}),
    *({"size": [HEIGHT, WIDTH], "counts": [1e9]}, {"size": [-1, -192], "counts": [192]}),
    *({"size": [WIDTH, HEIGHT], "counts": [192]}, {"size": [HEIGHT, WIDTH], "counts": [192]}),
    *({"size": [HEIGHT, WIDTH], "counts": [200, -8]}, {"size": [0, 0], "counts": []}),
)


def make_coco(folder):
    """Three pictures with polygons, run lengths of both kinds, and a crowd."""
    for i in (1, 2, 3):
        (folder / f"{i}.png").write_bytes(encode(picture(i)))
    block = np.zeros((HEIGHT, WIDTH), bool)
    block[4:9, 5:12] = True
    compressed = pycoco.encode(np.asfortranarray(block.astype("uint8")))
    segmentations = [
        [[1, 1, 9, 1, 9, 8, 1, 8]],
        [[2.5, 2.5, 14.0, 3.0, 8.0, 11.5], [0, 0, 3, 0, 3, 3]],
        {"size": [HEIGHT, WIDTH], "counts": [20, 5, 7, 6, 154]},
        {"size": [HEIGHT, WIDTH], "counts": compressed["counts"].decode()},
        [[4, 2, 12, 2, 12, 10, 4, 10]],
    ]
    content = {
        "info": {"description": "generated"},
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": HEIGHT, "width": WIDTH} for i in (1, 2, 3)
        ],
        "categories": [{"id": 13, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {
                "id": 10 + i,
                "image_id": 1 + i % 3,
                "category_id": (13, 7)[i % 2],
                "segmentation": segmentation,
                "iscrowd": int(i == 3),
                "bbox": [1, 1, 5, 5],
                "area": 25,
            }
            for i, segmentation in enumerate(segmentations)
        ],
    }
    (folder / "good.json").write_text(json.dumps(content))


def places(value):
    """Every (container, key) of a JSON value."""
    keys = value if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def change_values(rng, text):
    content = json.loads(text)
    for _ in range(rng.integers(1, 4)):
        container, key = pick(rng, list(places(content)))
        action = rng.integers(6)
        if action == 0:
            del container[key]
        elif action == 1 and isinstance(container, list):
            container.append(container[key])
        elif action == 2:
            other, other_key = pick(rng, list(places(content)))
            container[key] = json.loads(json.dumps(other[other_key]))
        elif action == 3 and isinstance(container[key], int | float):
            container[key] = float(rng.normal(container[key], 30))
        else:
            container[key] = pick(rng, JUNK)
        if not content:
            break
    return json.dumps(content)


def change_outlines(rng, text):
    """Shapes that are nearly right: the ones that a careless reader would draw."""
    content = json.loads(text)
    row = pick(rng, content["annotations"])
    shape = row["segmentation"]
    change = rng.integers(4)
    if isinstance(shape, list):
        polygon = pick(rng, shape)
        place = rng.integers(len(polygon))
        if change == 0:
            del polygon[place:]
        elif change == 1:
            polygon[place] = pick(rng, (-1.5, 17.5, 40, 1e9, math.nan, math.inf, -math.inf, "5"))
        elif change == 2:
            row["segmentation"] = polygon
        else:
            polygon[place] += float(rng.normal(0, 10))
    elif change == 0:
        shape["size"] = pick(rng, ([WIDTH, HEIGHT], [HEIGHT], [HEIGHT + 1, WIDTH], None, "12x16"))
    elif isinstance(shape["counts"], str):
        shape["counts"] = damage_file(rng, shape["counts"].encode()).decode("latin-1")
    else:
        place = rng.integers(len(shape["counts"]))
        shape["counts"][place] = pick(rng, (-3, 0, 1, 10**12, 2.5, None, shape["counts"][0] + 1))
    return json.dumps(content)


def crowds_alone(rng, text):
    """As CVAT writes what is drawn with its brush."""
    content = json.loads(text)
    for row in content["annotations"]:
        row["iscrowd"] = 1
    return json.dumps(content)


def damage_text(rng, text):
    data = bytearray(text.encode())
    if rng.random() < 0.4:
        return damage_file(rng, bytes(data))
    # One flipped bit in one of the numbers or words: most of these are JSON still.
    place = pick(rng, [i for i, character in enumerate(data) if chr(character).isalnum()])
    data[place] ^= 1 << rng.integers(4)
    return bytes(data)


COCO_KINDS = {
    "values deleted, repeated, exchanged, junk": change_values,
    "outlines nearly right": change_outlines,
    "crowds alone": crowds_alone,
    "bytes of the JSON": damage_text,
}


def damage_picture(rng, folder):
    file = folder / f"{rng.integers(1, 4)}.png"
    change = rng.integers(6)
    if change == 0:
        file.unlink()
    elif change == 4:
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(1, 9))
        Image.open(file).save(file, exif=exif)
    elif change == 5:
        Image.fromarray(rng.integers(0, 4096, (HEIGHT, WIDTH)).astype("uint16")).save(file)
    elif change == 1:
        size = rng.integers(1, 40, 2)
        file.write_bytes(encode(np.zeros((*size, 3), "uint8")))
    else:
        # A gray value may come out changed only if the checksums are wrong, so PNG is fair.
        file.write_bytes(damage_file(rng, file.read_bytes()))


def coco_case(rng, folder, _):
    """Damages a copy and returns (kind, outcome); asserts that nothing is wrong."""
    work = folder / "case"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    for file in (*folder.glob("*.png"), folder / "good.json"):
        shutil.copy(file, work)
    path = work / "good.json"
    kind = pick(rng, list(COCO_KINDS))
    if rng.random() < 0.1:
        kind = "the pictures"
        damage_picture(rng, work)
    else:
        changed = COCO_KINDS[kind](rng, path.read_text())
        path.write_bytes(changed.encode() if isinstance(changed, str) else changed)

    def read(on_error):
        content = None
        found = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of what was mended
            for example in coco.examples(path, work, on_error=on_error):
                content = content or json.loads(path.read_bytes())
                check_example(example, content, work)
                found.append(example["image_id"])
        assert len(set(found)) == len(found)
        return found

    try:
        found = read("raise")
        assert len(found) == len(json.loads(path.read_bytes())["images"]), "a picture is missing"
        return kind, "harmless"
    except REFUSED as error:
        first = str(error)
    assert str(path) in first, "the file is not named"
    try:
        found = read("skip")
        count, faults = coco.verify(path, work)
    except REFUSED as error:
        assert str(error) == first or "have iscrowd 1" in str(error)  # those that are left
        return kind, "refused as a whole"
    assert faults and count == len(found), "refused, but nothing was counted"
    return kind, "left out and counted"


def check_example(example, content, folder):
    """Holds an accepted picture against its file and against the JSON as pycocotools draws it."""
    records = [r for r in content["images"] if isinstance(r, dict)]
    (record,) = (r for r in records if same(r.get("id"), example["image_id"]))
    shown = ImageOps.exif_transpose(Image.open(folder / record["file_name"]))
    assert shown.mode == "RGB", "more than 8 bits"
    pixels = np.asarray(shown)
    np.testing.assert_array_equal(example["image"], pixels)
    height, width = pixels.shape[:2]
    names = {whole(category["id"]): category["name"] for category in content["categories"]}
    ids = sorted(names, key=lambda number: (isinstance(number, str), number))
    drawn, crowds = [], np.zeros((height, width), bool)
    for row in content["annotations"]:
        owner = row.get("image_id") if isinstance(row, dict) else None
        if not same(owner, record["id"]):
            continue
        mask = draw(row["segmentation"], height, width)
        if row.get("iscrowd"):
            crowds |= mask
        else:
            drawn.append((mask, 1 + ids.index(whole(row["category_id"]))))
        if mask.any():
            place = example["annotation_ids"].index(row["id"])
            np.testing.assert_array_equal(example["masks"][place], mask)
            assert example["classes"][place] == 1 + ids.index(whole(row["category_id"]))
    expected = np.where(crowds, 255, 0)
    for mask, class_id in sorted(drawn, key=lambda pair: -pair[0].sum()):
        expected[mask] = class_id
    np.testing.assert_array_equal(example["mask"], expected)


def whole(value):
    """For pycocotools 1.0 is 1."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def same(one, other):
    """Whether two ids are one: text is no number, and True is none either."""
    one, other = whole(one), whole(other)
    return type(one) is type(other) and one == other


def draw(segmentation, height, width):
    """What pycocotools makes of the parts with an area, after checking that there are any."""
    if isinstance(segmentation, list):
        assert all(len(polygon) % 2 == 0 for polygon in segmentation)
        parts = [
            polygon
            for polygon in segmentation
            if len(set(zip(polygon[::2], polygon[1::2], strict=True))) >= 3
        ]
        assert parts and np.isfinite(np.concatenate(parts)).all()
        rle = pycoco.merge(pycoco.frPyObjects(parts, height, width))
    else:
        assert segmentation["size"] == [height, width]
        rle = segmentation
        if isinstance(rle["counts"], list):
            assert min(rle["counts"]) >= 0 and sum(rle["counts"]) == height * width
            counts = [whole(number) for number in rle["counts"]]
            rle = pycoco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return pycoco.decode(rle).astype(bool)


# --- running --------------------------------------------------------------------------------------

FORMATS = {"tfrecord": (make_tfrecords, tfrecord_case), "coco": (make_coco, coco_case)}


def run(name, folder, numbers, seed=SEED):
    """Yields (kind, outcome, seconds) of each case."""
    make, case = FORMATS[name]
    truth = make(folder)
    for number in numbers:
        start = time.perf_counter()
        try:
            kind, outcome = case(np.random.default_rng([seed, number]), folder, truth)
        except Exception as error:
            raise AssertionError(f"{name} case {number} of seed {seed}: {error!r}") from error
        yield kind, outcome, time.perf_counter() - start


@pytest.mark.rare
@pytest.mark.parametrize("name", FORMATS)
def test_bad_input_is_refused_or_left_out(tmp_path, name, nightly):
    count = (10_000 if nightly else CASES) // 2
    outcomes = collections.Counter(outcome for _, outcome, _ in run(name, tmp_path, range(count)))
    assert sum(outcomes.values()) == count
    # The generator is worth something: most of what it makes is bad, in more ways than one.
    assert outcomes["harmless"] < 0.5 * count and len(outcomes) >= 2


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CASES
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else SEED
    for name in FORMATS:
        table, slowest = collections.Counter(), 0.0
        with tempfile.TemporaryDirectory() as folder:
            faulthandler.dump_traceback_later(HANG, exit=True)
            for kind, outcome, seconds in run(name, Path(folder), range(count // 2), seed):
                faulthandler.dump_traceback_later(HANG, exit=True)  # from now on again
                table[kind, outcome] += 1
                if sum(table.values()) % 100 == 0:
                    print(f"{name}: {sum(table.values())} cases", file=sys.stderr, flush=True)
                slowest = max(slowest, seconds)
            faulthandler.cancel_dump_traceback_later()
        print(f"{name}: {sum(table.values())} cases of seed {seed}, slowest {slowest:.2f} s")
        for (kind, outcome), number in sorted(table.items()):
            print(f"  {number:6d}  {kind}: {outcome}")


if __name__ == "__main__":
    main()
