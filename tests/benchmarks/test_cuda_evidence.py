"""The parts of benchmarks/cuda_*.py that need neither a GPU nor an emulator."""

import cuda_convolution
import pytest
import torch
from cuda_model import CARDS, LAUNCH, Times, bounds, counted, unfused
from cuda_report import with_section, write_whole
from cuda_resources import Kernel, families
from cuda_sample import CHECK_INSTRUCTIONS, GOLDEN, sampled_blocks, sampled_ptx, scaled
from cuda_shapes import Layer, discriminator, generator

from stylegan_ops.models.stylegan2 import Discriminator, Generator

LAYER = Layer("same", 16, 8, 4)


def launch(**changes) -> dict:
    """One of the fused convolution's, of one block of 4 warps, with the fewest tensor-core instructions of LAYER: 9."""
    return {
        "kernel": "modulated_conv2d_kernel",
        "grid": [1, 1, 1],
        "block": [128, 1, 1],
        "warp_inst": {"mov": 100, "int": 300, "fp32": 40, "ld_shared": 50},
        "mma": {"fp16": {"count": 9, "flops": 9 * 4096}},
        "global_load": {"sectors": 200},
        "global_store": {"sectors": 8},
        "l2_read_sectors": 150,
        "dram_read_bytes": 4000,
        "dram_write_bytes": 256,
        "shared_wavefronts": 90,
        **changes,
    }


def row(direction="forward", way="fused", **changes) -> dict:
    return {"layer": vars(LAYER), "way": way, "batch": 1, "direction": direction, "launches": [launch(**changes)], "library": []}


def test_arithmetic_of_a_layer_by_hand():
    assert LAYER.macs(1) == 16 * 9 * 16 * 8 and LAYER.fewest_mma(1) == 9
    assert Layer("up", 64, 32, 8).macs(3) == 3 * (4 * 4) * 9 * 64 * 32  # every input pixel goes through all taps, no zero does
    assert Layer("down", 64, 32, 8).macs(3) == 3 * (4 * 4) * 9 * 64 * 32  # every output pixel has all of them
    assert Layer("rgb", 64, 3, 8).macs(1) == 64 * 64 * 3
    assert LAYER.conv_bytes(2) == 2 * (2 * 16 * 16 + 2 * 16 * 8 + 9 * 16 * 8)
    assert Layer("up", 64, 32, 8).conv_bytes(1) == 2 * (16 * 64 + 81 * 32 + 9 * 64 * 32)


@pytest.mark.parametrize("resolution", [8, 256, 1024])
def test_layers_are_those_of_the_networks(resolution):
    with torch.device("meta"):
        nets = Generator(resolution).synthesis, Discriminator(resolution)
    for layers, net in zip((generator(resolution), discriminator(resolution)), nets, strict=True):
        weights = [tuple(p.shape) for p in net.parameters() if p.ndim == 4]
        assert sorted(weights) == sorted((y.out_channels, y.in_channels, y.kernel, y.kernel) for y in layers)


def test_sample_is_even_and_whole_where_small():
    assert sampled_blocks(7, 7) == 7 and sampled_blocks(3, 64) == 3
    for blocks in (8, 100, 12345, 70000):
        kept = [b for b in range(blocks) if (b * GOLDEN % 2**32) * blocks >> 32 < 8]  # what the check computes in 32 bits
        assert sampled_blocks(blocks, 8) == len(kept)
        assert 7 <= len(kept) <= 9
        assert max(b - a for a, b in zip(kept, [*kept[1:], blocks], strict=True)) < 3 * blocks / 8 + 1


def test_sampled_ptx_keeps_its_length():
    lines = b"".join(b".loc\t12 %d 3\nadd.s32 %%r1, %%r1, 1;\n" % i for i in range(60))
    code = b"\x7fELF\0.visible .entry kernel(\n.param .u64 kernel_param_0\n)\n{\n" + lines + b"ret;\n}\n\0rest"
    sampled = sampled_ptx(code, {"other": 3, "": 5})
    assert len(sampled) == len(code) and sampled.endswith(b"\0rest")
    assert sampled.count(b"exit;") == 1 and b"setp.ge.u32 sp,s0,5;" in sampled and b".loc" not in sampled
    assert sampled.count(b"add.s32 %r1, %r1, 1;") == 60
    with pytest.raises(RuntimeError, match="no room"):
        sampled_ptx(b".entry kernel(\n)\n{\nret;\n}\n\0", {"": 5})
    with pytest.raises(RuntimeError, match="no readable PTX"):
        sampled_ptx(b"\x7fELF", {"": 5})


def test_scaling_takes_the_check_off():
    blocks, warps = 1000, 4
    ran = sampled_blocks(blocks, 8)
    work = {"int": 30, "fp32": 7, "mov": 11}  # of a warp
    inst = {k: work.get(k, 0) * ran * warps + CHECK_INSTRUCTIONS.get(k, 0) * blocks * warps for k in {**work, **CHECK_INSTRUCTIONS}}
    counts = scaled(launch(grid=[blocks, 1, 1], warp_inst=inst, l2_read_sectors=ran * 6), {"": 8})
    for k in inst:
        assert counts["warp_inst"][k] == pytest.approx(work.get(k, 0) * blocks * warps)
    assert counts["l2_read_sectors"] == pytest.approx(6 * blocks) and counts["grid"] == [blocks, 1, 1]


def test_bounds_by_hand():
    b = bounds(row(), launch(), CARDS["A100"])
    assert b["L2"] == pytest.approx(32 * 158 / 7219.2e9)
    assert b["issue"] == pytest.approx(390 / 4 / 1.41e9)
    assert b["L1"] == pytest.approx((90 + 208 / 4) / 1.41e9)
    assert b["tensor"] == pytest.approx(9 * 4096 * 108 / 312e12)  # one block: one multiprocessor has all to do
    # Of the weights and x no more is read than there is.
    assert b["DRAM"] == pytest.approx((2 * (16 * 16 + 9 * 16 * 8) + 256) / 2039e9)


@pytest.mark.parametrize("card", CARDS)
def test_more_work_never_takes_less_time(card):
    seconds = counted(row(), CARDS[card])
    assert seconds > LAUNCH
    bigger = {
        "dram_write_bytes": 10**7,
        "l2_read_sectors": 10**7,
        "shared_wavefronts": 10**6,
        "mma": {"fp16": {"count": 9e4, "flops": 9e4 * 4096}},
    }
    for key, value in bigger.items():
        assert counted(row(**{key: value}), CARDS[card]) > seconds, key
    more = row()
    more["launches"] *= 2
    assert counted(more, CARDS[card]) == pytest.approx(2 * seconds)
    more["library"] = [{"aten": "pow", "bytes": 1000}, {"convolution": {"macs": 10**9, "bytes": 10**6}}]
    assert counted(more, CARDS[card]) > 2 * seconds + 2 * LAUNCH
    for backward in (False, True):
        times = [unfused(Layer("same", 64, 64, size), n, backward, CARDS[card]) for size, n in ((64, 1), (64, 4), (128, 4))]
        assert times == sorted(times) and unfused(Layer("up", 64, 64, 64), 4, backward, CARDS[card]) > LAUNCH


def test_ways_of_a_layer():
    directions = ("inference", "forward", "backward")
    composed, fused, auto = ([row(direction, way) for direction in directions] for way in ("composed", "fused", "auto"))
    for r in composed:
        r["library"] = [{"convolution": {"macs": 10**9, "bytes": 10**6}}]

    def seconds(rows, way):
        return Times(rows, CARDS["T4"]).of(LAYER, way, "inference", 1)

    # The library chose cuDNN's, of which one direction tells; or its own, which then stands for the fused one too.
    rows = [*composed, *fused, {**composed[0], "way": "auto"}]
    assert seconds(rows, "fused") < seconds(rows, "auto") == seconds(rows, "composed")
    rows = composed + auto
    assert seconds(rows, "fused") == seconds(rows, "auto") < seconds(rows, "composed")
    assert seconds(composed, "fused") == seconds(composed, "composed")  # not counted


def test_overhead_of_a_layer():
    rows = [row(), row("backward", mma={"fp16": {"count": 18, "flops": 18 * 4096}})]
    m = cuda_convolution.measures(rows, LAYER, 1)
    assert m["mma"] == {"forward": 1, "input": 2} and m["blocks"] == pytest.approx(1 / 108)
    found = cuda_convolution.misses(Layer("same", 16, 16, 4), m)
    assert any("input mma 2.00 > 1.5" in text for text in found) and any(text.startswith("blocks 0.01") for text in found)


def test_section_is_replaced_and_nothing_else():
    text = "before\n<!-- a -->\nold\n<!-- /a -->\nbetween\n<!-- b -->\n<!-- /b -->\nafter\n"
    new = with_section(text, "a", "| new |\n")
    assert new == text.replace("old", "\n| new |\n")
    assert with_section(new, "a", "| new |") == new
    for bad in ("nothing", text + "<!-- a -->", "<!-- /a --><!-- a -->"):
        with pytest.raises(ValueError, match="<!-- a -->"):
            with_section(bad, "a", "x")


def test_document_is_replaced_at_once(tmp_path):
    path = tmp_path / "cuda.md"
    path.write_text("old")
    write_whole(path, "new")
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_families_show_the_worst():
    kernels = [Kernel("k<1>", "80", 40, 0, 0, 256), Kernel("k<2>", "80", 128, 16, 0, 256), Kernel("l", "80", 32, 0, 0, 1024)]
    assert families(kernels) == [["`k`", "80", "2", "128", "1", "25%"], ["`l`", "80", "1", "32", "0", "100%"]]


def test_steps_add_up():
    rows = [
        {**row(direction), "layer": vars(layer), "way": "composed"}
        for layer in generator(8) + discriminator(8)
        for direction in ("inference", "forward", "backward")
    ]
    for r in rows:
        r["launches"] = []
        r["library"] = [{"aten": "pow", "bytes": 0}] * (2 if r["direction"] == "backward" else 1)  # LAUNCH, or twice that
    steps = Times(rows, CARDS["H100"]).steps(8, "composed", 1)
    g, d = len(generator(8)), len(discriminator(8))
    expected = {"G": 3 * g + 3 * d, "D": g + 6 * d, "R1": 6 * d, "path length": 6 * g}
    assert steps == pytest.approx({name: LAUNCH * count for name, count in expected.items()})
