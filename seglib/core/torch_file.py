"""Weights that PyTorch saved before version 1.6, read without PyTorch and without running code.

Such a file is a series of pickles: a magic number, the protocol, facts about the machine, a
dictionary of tensors, and the keys of their storages. The storages' values follow: for each key
an int64, the number of elements, and then these, little-endian.
"""

import collections
import hashlib
import io
import os
import pickle

import numpy as np

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
STORAGES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


def read_torch_file(path, sha256):
    """Returns the arrays in a file that PyTorch saved.

    Args:
        path: the file, such as `efficientnet-lite0-57934424.pth`.
        sha256: what its SHA-256 must be, 64 hexadecimal digits.

    Returns:
        A dict from each tensor's name to a NumPy array.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is another one than expected, is cut short, or names a class that
            a file of weights has no use for. Nothing in it is executed.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        content = file.read()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"The weights file {path!r} was changed or is not whole: its SHA-256 is "
            f"{found[:12]}…, expected {sha256[:12]}…. Install its package again."
        )
    file = io.BytesIO(content)
    try:
        if _Unpickler(file).load() != MAGIC_NUMBER:
            raise ValueError("it does not begin with PyTorch's magic number")
        _protocol, _machine = _Unpickler(file).load(), _Unpickler(file).load()
        tensors = _Unpickler(file).load()
        storages = {}
        for key in _Unpickler(file).load():
            count = int.from_bytes(file.read(8), "little")
            storages[key] = (count, file.tell())
            itemsize = next(t.dtype.itemsize for t in tensors.values() if t.key == key)
            file.seek(count * itemsize, io.SEEK_CUR)
        return {name: tensor.read(content, storages) for name, tensor in tensors.items()}
    except (ValueError, TypeError, KeyError, EOFError, StopIteration, pickle.PickleError) as error:
        raise ValueError(f"{path!r} is no file of weights saved by PyTorch ({error}).") from error


class _Tensor(collections.namedtuple("_Tensor", "dtype key offset shape stride")):
    """Where the values of a tensor lie: offset and stride count elements."""

    def read(self, content, storages):
        count, start = storages[self.key]
        size = self.dtype.itemsize
        storage = np.frombuffer(content, self.dtype, count, start)
        strides = [size * step for step in self.stride]
        return np.ndarray(self.shape, self.dtype, storage, size * self.offset, strides)


def _rebuild_tensor(storage, offset, shape, stride, *_):
    return _Tensor(*storage, offset, shape, stride)


class _Unpickler(pickle.Unpickler):
    """Admits the few names that a dictionary of tensors consists of, and nothing else."""

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in STORAGES:
            return np.dtype(STORAGES[name])
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of weights")

    def persistent_load(self, identity):
        kind, dtype, key, *_ = identity
        if kind != "storage":
            raise pickle.UnpicklingError(f"it refers to a {kind!r}, expected a storage")
        return dtype, key
