"""Writes pickled records to the standard output: `python -m seglib.data.drawing SEED SIZE ...`.

The remaining arguments are those of `range`: first number, end and step. `seglib.data.sample` runs
this in several processes and reads what they write.
"""

import pickle
import sys

from seglib.data import drawing


def main(seed, size, start, stop, step):
    for index in range(start, stop, step):
        picture = drawing.draw(seed, index, size=size)
        pickle.dump(drawing.encode(picture), sys.stdout.buffer)
    sys.stdout.flush()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
