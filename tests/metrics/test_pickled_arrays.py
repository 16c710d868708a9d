"""Pickles of arrays are read, and nothing that another pickle asks for is run."""

import contextlib
import os
import pickle
import struct
import time
import tracemalloc

import numpy as np
import pytest

from stylegan_ops.metrics import pickled_arrays
from stylegan_ops.metrics.pickled_arrays import read_pickled_arrays


class Runs:
    """Unpickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [3, 4])
def test_reads_what_pickle_reads(protocol):
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((2, 3))
    tree = {
        "a": {
            "float32": rng.standard_normal((3, 3, 2, 5)).astype("f4"),
            "float16": np.float16([1, 2]),
            "big": np.arange(3.0).astype(">f8"),
        },
        "b": {"fortran": np.asfortranarray(rng.standard_normal((4, 5, 6))), "empty": np.zeros((0, 7)), "scalar": np.array(2.5)},
        "c": shared,
        "d": {"again": shared, "strided": rng.standard_normal((6, 6))[::2, 1::3]},
        "one": {"x": np.zeros(300)},
    }
    data = pickle.dumps(tree, protocol=protocol)
    found, expected = read_pickled_arrays(data, "x"), pickle.loads(data)

    def compare(a, b):
        assert type(a) is type(b)
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            for key in a:
                compare(a[key], b[key])
        else:
            assert (
                a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=") and a.shape == b.shape
            )  # pickle turns bytes to the machine's order
            np.testing.assert_array_equal(a, b)

    compare(found, expected)


def test_reads_the_module_name_of_older_and_newer_numpy():
    data = pickle.dumps({"a": np.arange(3.0)}, protocol=3)
    old, new = b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"
    assert (old in data) != (new in data)
    for module in (old, new):
        np.testing.assert_array_equal(read_pickled_arrays(data.replace(old, module).replace(new, module), "x")["a"], [0, 1, 2])


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("wrap", [lambda bad: bad, lambda bad: {"VGG16_0": bad}, lambda bad: {"a": np.zeros(3), "b": {"c": bad}}])
def test_nothing_is_run(tmp_path, protocol, wrap):
    witness = tmp_path / "witness"
    data = pickle.dumps(wrap(Runs(os.system, f"touch {witness}")), protocol=protocol)
    with pytest.raises(ValueError, match="refused|is damaged") as error:
        read_pickled_arrays(data, "'w.ckpt'")
    assert "'w.ckpt'" in str(error.value) and "nothing of it was run" in str(error.value)
    assert not witness.exists()
    pickle.loads(data)
    assert witness.exists(), "the pickle would have run"


@pytest.mark.parametrize(
    ("bad", "symbol"),
    [
        (Runs(os.system, "true"), "posix.system"),
        (Runs(eval, "1"), "builtins.eval"),
        (Runs(getattr, 1, "real"), "builtins.getattr"),
        (Runs(np.load, "x"), "numpy.load"),
        (np.float64(1.5), "multiarray.scalar"),
    ],
)
@pytest.mark.parametrize("protocol", [3, 4])
def test_the_symbol_that_is_not_allowed_is_named(bad, symbol, protocol):
    with pytest.raises(ValueError, match=rf"refused, it asks for '[\w.]*{symbol}', which is not allowed"):
        read_pickled_arrays(pickle.dumps({"a": bad}, protocol=protocol), "x")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"cnumpy\ndtype\nX\1\0\0\0O\x89\x88\x87R.", "something else than an array of floats"),
        (b"cnumpy\nndarray\n(K\3tR.", "something else than an array of floats"),
        (b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\0\x85C\1b\x87R.", "something else than an array of floats"),
        (b"cnumpy\ndtype\n}b.", "a state to something that is no array"),
        (b"}(K\1K\2u.", "a name in it is no string"),
        (b"]K\1a.", "instruction EMPTY_LIST at byte 2"),
        (b"\x82\1.", "instruction EXT1"),
        (b"Ppersistent\n.", "instruction PERSID"),
        (b"cposix\nsystem\n)\x81.", "'posix.system'"),
        (b"(iposix\nsystem\n.", "instruction INST"),
        (b"K\1.", "it must be a dict"),
        (b"}X\1\0\0\0aK\1s.", "dicts of arrays"),
        (b"}q\0X\1\0\0\0ah\0s.", "each dict in one place"),
        (b"}", "is damaged"),
        (b"", "is damaged"),
        (b".", "is damaged"),
        (b"t.", "is damaged"),
        (b"}h\5.", "is damaged"),
    ],
)
def test_rejects_handwritten_pickles(body, message):
    with pytest.raises(ValueError, match=message):
        read_pickled_arrays(b"\x80\3" + body, "x")


def array_pickle(shape: bytes, content: bytes) -> bytes:
    """{"a": array} with the given instructions for the shape, in the published file's way of writing."""
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\1b\x87R"
    dtype = b"cnumpy\ndtype\nX\2\0\0\0f4\x89\x88\x87R(K\3X\1\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    return b"\x80\3}X\1\0\0\0a" + reconstruct + b"(K\1" + shape + dtype + b"\x89" + content + b"tbs."


def test_handwritten_array():
    np.testing.assert_array_equal(read_pickled_arrays(array_pickle(b"K\2\x85", b"C\x08" + np.float32([1, 2]).tobytes()), "x")["a"], [1, 2])


def deep_key() -> bytes:
    """A dict whose key is a tuple of two equal tuples, 60 deep: its hash takes 2^60 steps."""
    return b"\x80\3})q\0" + b"h\0h\0\x86q\0" * 60 + b"0}h\0K\1s."


def many_dicts() -> bytes:
    """Dicts with 200 names for one and the same dict, eight deep: a walk through it takes 200^8 steps."""
    names = [b"X\3\0\0\0%03d" % i for i in range(200)]
    return b"\x80\3}q\0" + b"".join(b"}(" + b"".join(name + b"h\0" for name in names) + b"uq\0" for _ in range(8)) + b"."


HUGE = struct.pack("<I", 2**31 - 1)
BOMBS = {
    "shape": array_pickle(b"J" + HUGE + b"J" + HUGE + b"\x86", b"C\0"),
    "negative shape": array_pickle(b"J\xff\xff\xff\xff\x85", b"C\0"),
    "no shape": array_pickle(b"N", b"C\0"),
    "dimensions": array_pickle(b"(" + b"K\1" * 60 + b"t", b"C\4\0\0\0\0"),
    "bytes": array_pickle(b"K\2\x85", b"B" + HUGE + b"xx"),
    "8-byte length": array_pickle(b"K\2\x85", b"\x8e" + b"\xff" * 7 + b"\x7fxx"),
    "hash": deep_key(),
    "dicts": many_dicts(),
    "instructions": b"\x80\3" + b"}" * 300_000 + b".",
    "marks": b"\x80\3" + b"(" * 90_000 + b"t" * 90_000 + b".",
    "depth": b"\x80\3" + b"}X\1\0\0\0a" * 30_000 + b"}" + b"s" * 30_000 + b".",
}


@contextlib.contextmanager
def soon_and_small():
    started = time.process_time()
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 20


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_end_soon_and_small(bomb):
    with soon_and_small(), pytest.raises(ValueError, match="nothing of it was run"):
        read_pickled_arrays(BOMBS[bomb], "x")


@pytest.mark.parametrize("data", [b"\x80\3}r\xff\xff\xff\x7f.", b"\x80\4\x95" + b"\xff" * 7 + b"\x7f}."], ids=["memo", "frame"])
def test_numbers_that_bring_down_pickle_do_no_harm(data):
    """A memo's index and a frame's length allocate nothing here."""
    with soon_and_small():
        assert read_pickled_arrays(data, "x") == {}


def test_every_truncation_is_refused():
    data = pickle.dumps({"a": {"kernel": np.arange(6.0).reshape(2, 3)}}, protocol=3)
    for length in range(len(data)):
        with pytest.raises(ValueError, match="is damaged"):
            read_pickled_arrays(data[:length], "x")


def test_any_flipped_byte_is_read_or_refused():
    data = pickle.dumps({"a": {"kernel": np.arange(6.0).reshape(2, 3)}}, protocol=3)
    for place in range(len(data)):
        for value in (0, 255, data[place] ^ 1, data[place] ^ 32):
            try:
                read_pickled_arrays(data[:place] + bytes([value]) + data[place + 1 :], "x")
            except ValueError as error:
                assert "nothing of it was run" in str(error)


def test_rejects_a_file_over_the_limit(monkeypatch):
    data = pickle.dumps({"a": np.arange(6.0)}, protocol=3)
    monkeypatch.setattr(pickled_arrays, "MAX_BYTES", len(data))
    assert read_pickled_arrays(data, "x")
    with pytest.raises(ValueError, match="must be at most"):
        read_pickled_arrays(data + b" ", "x")
