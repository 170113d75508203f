"""Writes pickled records to the standard output: `python -m seglib.data.drawing SEED SIZE ...`.

The next three arguments are those of `range`: first number, end and step. Two more, the fewest and
the most pets in a picture, make it draw crowds. `seglib.data.sample` runs this in several processes
and reads what they write.
"""

import pickle
import sys

from seglib.data import drawing


def main(seed, size, start, stop, step, *pets):
    for index in range(start, stop, step):
        picture = drawing.draw(seed, index, size=size, pets=pets or None)
        pickle.dump(drawing.encode(picture), sys.stdout.buffer)
    sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
