#!/usr/bin/env python3
"""Small arrays saved by NumPy itself, for the reader (numpy 1.26 and later)."""
import os

import numpy as np
from numpy.lib import format as npy

HERE = os.path.dirname(os.path.abspath(__file__))
ARRAYS = {
    "u1": np.array([0, 1, 255], np.uint8),
    "u2": np.array([[1, 65535]], np.uint16),
    "u4": np.array([4294967295], np.uint32),
    "u8": np.array([1 << 40, (1 << 63) - 1], np.uint64),
    "u8_huge": np.array([3, 1 << 63], np.uint64),
    "i1": np.array([[-128, -1], [0, 127]], np.int8),
    "i2": np.arange(-4, 4, dtype=np.int16).reshape(2, 2, 2),
    "i4": np.array([-2147483648, 2147483647], np.int32),
    "i8": np.array(-(1 << 40), np.int64),
    "f4": np.array([0.5, -2.0], np.float32),
    "f8": np.zeros((0, 7), np.float64),
    "big_endian": np.array([1, -2, 1 << 30], ">i4"),
    "big_endian_f4": np.array([0.5, -2.0], ">f4"),
    "fortran": np.asfortranarray(np.arange(8, dtype=">i2").reshape(2, 1, 4)),
    "bool": np.array([True]),
    "record": np.array([(1, 2.0)], [("a", "<i4"), ("b", "<f8")]),
    "five_dims": np.zeros((1, 1, 1, 1, 1), np.int32),
}


def main():
    for name, array in ARRAYS.items():
        np.save(os.path.join(HERE, name + ".npy"), array)
    for version in (2, 3):
        with open(os.path.join(HERE, "version%d.npy" % version), "wb") as out:
            npy.write_array(out, np.arange(6, dtype=np.int32).reshape(2, 3), version=(version, 0))


main()
