"""Files that mean harm end in a clear error: nothing of them is run, and memory stays that of the file."""

import io
import os
import pickle
import struct
import time
import tracemalloc
import zipfile
from collections import OrderedDict

import layouts
import numpy as np
import pytest
import tensorflow_layouts
import torch

from stylegan_ops.checkpoints import load_any
from stylegan_ops.checkpoints.safe_pickle import SafePickle, plain
from stylegan_ops.models.stylegan2 import Generator
from stylegan_ops.training import CheckpointError


class Runs:
    """Unpickles as a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def refused(path, data, message):
    """The error of a file, which must come soon and small."""
    path.write_bytes(data)
    started = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message) as error:
            load_any(path)
        assert tracemalloc.get_traced_memory()[1] < 2**26 + 4 * len(data)
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 10
    assert str(path) in str(error.value)
    return str(error.value)


def saved(tree, zipped=True):
    file = io.BytesIO()
    torch.save(tree, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def nested_in_persistent(bad):
    """Inside of an object whose class is allowed."""
    with layouts.nvlabs_modules():
        network = layouts.Persistent("Generator", {"mapping.w_avg": torch.zeros(2)})
        network.meta["state"]["_hook"] = bad
        return pickle.dumps({"G_ema": network})


@pytest.mark.parametrize(
    "wrap",
    [
        *(lambda bad, p=p: pickle.dumps({"G_ema": [bad]}, protocol=p) for p in (2, 3, 4, 5)),
        lambda bad: pickle.dumps({"G_ema": OrderedDict(a=Runs(OrderedDict, [("b", bad)]))}),
        nested_in_persistent,
        lambda bad: saved({"g_ema": bad}),
        lambda bad: saved({"g_ema": bad}, zipped=False),
        lambda bad: pickle.dumps(Runs(torch.storage._load_from_bytes, saved(bad, zipped=False))),
    ],
    ids=["2", "3", "4", "5", "reduce", "persistent", "zip", "legacy", "inside a storage"],
)
def test_nothing_is_run(tmp_path, wrap):
    witness = tmp_path / "witness"
    data = wrap(Runs(os.system, f"touch {witness}"))
    message = refused(tmp_path / "a.pkl", data, r"it asks for '(posix|nt)\.system', which is not allowed")
    assert "nothing of it was run" in message
    assert not witness.exists()
    with layouts.nvlabs_modules():
        if data[:2] == b"PK" or data[2:4] == b"\x8a\x0a":
            torch.load(io.BytesIO(data), weights_only=False)
        else:
            pickle.loads(data)
    assert witness.exists(), "the file would have run"


@pytest.mark.parametrize(
    ("bad", "symbol"),
    [
        (Runs(eval, "1"), "builtins.eval"),
        (Runs(getattr, 1, "real"), "builtins.getattr"),
        (Runs(np.load, "x"), "numpy.load"),
        (Runs(torch.load, "x"), "torch.serialization.load"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (Runs(torch.hub.load, "x"), "torch.hub.load"),
    ],
)
def test_the_symbol_that_is_not_allowed_is_named(tmp_path, bad, symbol):
    refused(tmp_path / "a.pkl", pickle.dumps({"G": bad}), f"it asks for '{symbol}', which is not allowed")


def test_allowed_classes_cannot_be_called_as_functions(tmp_path):
    refused(tmp_path / "a.pkl", b"\x80\x03cbuiltins\ndict\n)R.", "it calls 'builtins.dict', which is not allowed")
    refused(tmp_path / "a.pkl", b"\x80\x03ctorch\nFloatStorage\nK\x05\x85R.", "it calls 'torch.FloatStorage'")
    refused(tmp_path / "a.pkl", b"\x80\x03X\1\0\0\0aK\5\x85R.", "calls what is no function")


HUGE = struct.pack("<I", 2**31 - 1)
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


def amplified(symbol: bytes, content: bytes) -> bytes:
    """A call of the same arguments again and again, every result kept."""
    return b"\x80\x03(" + content + b"q\x00" + b"0" + (symbol + b"h\x00\x85R") * 2_000 + b"l."


BOMBS = {
    "memo": b"\x80\x03}r\xff\xff\xff\x7f.",
    "bytes": b"\x80\x03B" + HUGE + b"xx.",
    "8-byte length": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7fxx.",
    "frame": b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f}.",
    "integer": b"\x80\x03\x8b" + HUGE + b"xx.",
    "hash": b"\x80\x03})q\0" + b"h\0h\0\x86q\0" * 60 + b"0}h\0K\1s.",
    "depth": b"\x80\x03" + b"}X\1\0\0\0a" * 5_000 + b"}" + b"s" * 5_000 + b".",
    "lists": b"\x80\x03]q\0" + b"0](h\0h\0h\0h\0h\0eq\0" * 5_000 + b"h\0.",
    "marks": b"\x80\x03" + b"(" * 5_000 + b"t" * 5_000 + b".",
    "encode": b"\x80\x03(X\x00\x00\x10\x00" + b"a" * 2**20 + b"q\0" + (b"c_codecs\nencode\nh\0X\6\0\0\0latin1\x86R") * 5_000 + b"l.",
    "sizes": amplified(b"ctorch\nSize\n", b"(" + b"K\1" * 100_000 + b"l"),
    "dicts": amplified(b"ccollections\nOrderedDict\n", b"(" + b"K\1K\1\x86" * 5_000 + b"l"),
    "sets": amplified(b"cbuiltins\nset\n", b"(" + b"".join(b"M" + struct.pack("<H", i) for i in range(20_000)) + b"l"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_end_soon_and_small(tmp_path, bomb):
    refused(tmp_path / "a.pkl", BOMBS[bomb], "nothing of it was run")


def test_pickles_inside_of_pickles_are_counted(tmp_path):
    inner = saved(torch.UntypedStorage(8), zipped=False)
    call = b"ctorch.storage\n_load_from_bytes\n"
    refused(tmp_path / "a.pkl", amplified(call, b"B" + struct.pack("<I", len(inner)) + inner), "far more out of its bytes than they are")
    inner = saved(Runs(torch.storage._load_from_bytes, inner), zipped=False)
    refused(tmp_path / "a.pkl", pickle.dumps(Runs(torch.storage._load_from_bytes, inner)), "files inside of files")


def tensor_file(size, stride, offset=0, numel=4, content=16):
    """A zip of torch.save with one storage and one tensor of this size."""
    key = Runs(tuple, ())  # any object: `Pickled` turns it into a persistent id

    class Pickled(pickle.Pickler):
        def persistent_id(self, thing):
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if thing is key else None

    pickled = io.BytesIO()
    arguments = (key, offset, size, stride, False, OrderedDict())
    Pickled(pickled, 2).dump({"g_ema": Runs(torch._utils._rebuild_tensor_v2, *arguments)})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a/data.pkl", pickled.getvalue())
        archive.writestr("a/data/0", bytes(content))
    return file.getvalue()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((2**40,), (1,)), "but 4 elements"),
        (((2**40,), (0,)), "but 4 elements"),
        (((2, 2), (4, 1)), "but 4 elements"),
        (((2,), (1,), 3), "but 4 elements"),
        (((2,), (-1,), 3), "shape of a tensor in it is wrong"),
        (((2.0,), (1,)), "shape of a tensor in it is wrong"),
        (((1,) * 70, (1,) * 70), "shape of a tensor in it is wrong"),
        (((4,), (1,), 0, 2**40), "a/data/0 in it must have 4398046511104 bytes"),
        (((4,), (1,), 0, 4, 12), "a/data/0 in it must have 16 bytes"),
    ],
)
def test_absurd_tensors(tmp_path, arguments, message):
    refused(tmp_path / "a.pt", tensor_file(*arguments), message)


def test_a_tensor_that_fits_does_not_fail(tmp_path):
    refused(tmp_path / "a.pt", tensor_file((2, 2), (1, 2)), "its layout is none of those known")


def rezip(data, compression=zipfile.ZIP_STORED, skip=()):
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w", compression) as new:
        for info in old.infolist():
            if not info.filename.endswith(skip or "\0"):
                new.writestr(info.filename, old.read(info.filename))
    return file.getvalue()


def test_zip_bombs_and_damaged_zips(tmp_path):
    path, data = tmp_path / "a.pt", saved({"g_ema": {"a": torch.zeros(2**20)}})
    refused(path, rezip(data, zipfile.ZIP_DEFLATED), "member of its zip archive is compressed")
    refused(path, rezip(data, skip="data.pkl"), "not one of torch.save")
    refused(path, rezip(data, skip="data/0"), "data/0 in it must have")
    refused(path, data[: len(data) // 2], "zip archive is damaged")
    # Central directory entries may claim any size, and all point to the same bytes.
    assert b"PK\1\2" in data
    place = data.rindex(b"PK\1\2")
    refused(path, data[: place + 20] + struct.pack("<II", 2**31, 2**31) + data[place + 28 :], "lie over each other|damaged")
    state = layouts.rosinality_generator()
    data = bytearray(saved({"g_ema": state}))
    place = data.index(state["input.input"].numpy().tobytes())
    data[place + 5] ^= 1
    refused(path, bytes(data), "damaged or missing .*CRC")


@pytest.mark.parametrize("kind", ["pickle", "zip", "legacy"])
def test_truncated_files_are_refused(tmp_path, kind):
    if kind == "pickle":
        data = layouts.nvlabs_pickle({"D": layouts.nvlabs_discriminator(8)})
    else:
        data = saved({"d": layouts.rosinality_discriminator(8)}, zipped=kind == "zip")
    path = tmp_path / "a"
    path.write_bytes(data)
    assert load_any(path)
    for length in [0, 1, 2, 9, 20, *range(40, len(data), len(data) // 25), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match="nothing of it was run"):
            load_any(path)


def test_any_flipped_byte_is_read_or_refused(tmp_path):
    """In the instructions of a pickle, which the numbers of a small one hardly interrupt."""
    data = saved({"latent_avg": torch.zeros(2), "g_ema": {"a": np.arange(3.0)}}, zipped=False)
    for place in range(0, len(data), 3):
        for value in (255, data[place] ^ 1):
            (tmp_path / "a").write_bytes(data[:place] + bytes([value]) + data[place + 1 :])
            with pytest.raises(CheckpointError, match="nothing of it was run"):
                load_any(tmp_path / "a")


def test_modules_without_end_are_refused(tmp_path):
    """A module among its own children, and children without number by way of shared ones."""
    with layouts.nvlabs_modules():
        network = layouts.Persistent("Generator", {"mapping.w_avg": torch.zeros(2)})
        for _ in range(30):
            outer = layouts.Persistent("Generator", {})
            outer.meta["state"]["_modules"] = {"a": network, "b": network}
            network = outer
        refused(tmp_path / "a.pkl", pickle.dumps(network), "is in several places")


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_reads_what_pickle_reads(protocol):
    tree = {
        "numbers": [1, -1, 2**40, 2**70, 1.5, True, None, "text", b"bytes", (1, 2, 3, 4), {1, 2}, frozenset([3])],
        "arrays": {"a": np.arange(6.0).reshape(2, 3), "b": np.asfortranarray(np.eye(3, 2, dtype="f4")), "c": np.int64([1, 2])},
        "scalars": [np.float32(1.5), np.int64(3), np.bool_(True)],
        "tensors": {"t": torch.randn(3, 4).t(), "p": torch.nn.Parameter(torch.randn(2)), "h": torch.ones(2, dtype=torch.bfloat16)},
        "ordered": OrderedDict(a=1),
        "size": torch.Size([1, 2]),
    }
    data = pickle.dumps(tree, protocol=protocol)
    found = SafePickle(data).run()
    assert found["numbers"] == tree["numbers"] and found["ordered"] == {"a": 1} and found["size"] == (1, 2)
    assert found["scalars"] == [1.5, 3, True]
    for name, array in tree["arrays"].items():
        np.testing.assert_array_equal(plain(found["arrays"][name]).read().numpy(), array)
    for name, tensor in tree["tensors"].items():
        assert torch.equal(found["tensors"][name].read(), tensor)


# Values that take for ever to hash or to print: a tuple of itself twice, again and again; and one so deep that its hash ends the process.
LAUGH, DEEP = b")" + b"q\x00h\x00\x86" * 60, b"N" + b"\x85" * 200_000


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


FAMILY, KIND = text("stylegan2"), text("Generator")


def native(family=FAMILY, kind=KIND, options=b"}", version=b"K\x01", stage=b"N"):
    """One of our own files of networks, any part of it in a pickle's instructions."""
    storage = io.BytesIO()
    torch.save(torch.zeros(1).storage(), storage, _use_new_zipfile_serialization=False)
    content = b"B" + struct.pack("<I", len(storage.getvalue())) + storage.getvalue()
    tensor = TENSOR + b"(ctorch.storage\n_load_from_bytes\n" + content + b"\x85RK\0K\1\x85K\1\x85\x89NtR"
    fields = {"family": family, "kind": kind, "init_kwargs": options, "stage": stage, "state": b"}" + text("a") + tensor + b"s"}
    network = b"}(" + b"".join(text(name) + value for name, value in fields.items()) + b"u"
    networks = text("networks") + b"}(" + text("G") + network + b"u"
    return b"\x80\x03}(" + text("format") + text("stylegan_ops networks") + text("version") + version + networks + b"u."


@pytest.mark.parametrize("value", [LAUGH, DEEP], ids=["laugh", "deep"])
def test_only_plain_values_are_hashed_and_printed(tmp_path, value):
    path, plain_only = tmp_path / "a.pkl", "described by something else than names, numbers and lists of numbers"
    refused(path, b"\x80\x02cnumpy\ndtype\n" + value + b"\x85R.", "an array of something else than numbers")
    refused(path, native(family=value), plain_only)
    refused(path, native(kind=value), plain_only)
    refused(path, native(options=b"}" + text("img_resolution") + value + b"s"), plain_only)
    refused(path, native(options=b"}" + text("resample_filter") + b"](" + value + b"es"), plain_only)
    refused(path, native(stage=b"}" + text("resolution") + value + b"s"), plain_only)
    refused(path, native(version=value), r"must have version 1 of the format \(tuple\)")


def test_numbers_without_end(tmp_path):
    number = b"\x8b" + struct.pack("<I", 2**19) + b"\x01" * 2**19 + b"q\x00"
    shape = b"(" + number + b"h\x00" * 6 + b"K\x00t"
    array = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85C\1btR(K\1" + shape
    array += b"cnumpy\ndtype\n(X\2\0\0\0f4\x89\x88tR(K\3X\1\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89C\0tb."
    refused(tmp_path / "a.pkl", array, "the shape of an array in it is wrong")


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_that_lie_over_each_other(tmp_path, zipped):
    """A name for a tensor takes a few bytes; each would be read on its own."""
    x = torch.randn(1_000_000)
    state = {f"a{i}": x if i % 2 else x[:-1] for i in range(40)}
    described = {"family": "stylegan2", "kind": "Generator", "init_kwargs": {}, "stage": None, "state": state}
    tree = {"format": "stylegan_ops networks", "version": 1, "networks": {"G": described}}
    refused(tmp_path / "a.pt", saved(tree, zipped), "tensors in it lie over each other")


def test_noise_that_a_file_need_not_have_is_bounded(tmp_path):
    with torch.device("meta"):
        G = Generator(8192, z_dim=4, w_dim=4, num_layers=1, channel_base=8192, channel_max=1)
    state = {name: torch.zeros(x.shape) for name, x in G.state_dict().items() if not name.endswith("noise_const")}
    described = {"family": "stylegan2", "kind": "Generator", "init_kwargs": G.init_kwargs, "stage": None, "state": state}
    tree = {"format": "stylegan_ops networks", "version": 1, "networks": {"G": described}}
    refused(tmp_path / "a.pt", saved(tree), "must have its noise, which has far more elements")


def test_networks_of_tensorflow_inside_of_each_other(tmp_path):
    network = tensorflow_layouts.Network("G", [], "", {})
    for level in range(5):
        network = tensorflow_layouts.Network("G", [], "", {f"{level}{i}": network for i in range(100)})
    data = tensorflow_layouts.pickled([("G", network), ("D", {}), ("Gs", {})])
    refused(tmp_path / "a.pkl", data, "a network in it is in several places")


def test_names_of_a_file_reach_no_terminal_as_they_are(tmp_path):
    _, theirs = tensorflow_layouts.stylegan2()
    name = "Dense0/\x1b[31m\n\ud800"
    message = refused(tmp_path / "a.pkl", tensorflow_layouts.pickled([("Gs", theirs | {name: np.ones(1, "f4")})]), "no other names")
    assert message.isprintable() and "Dense0/?[31m??" in message
