"""The host executor itself: what its threads, barriers, warps, copies and numbers do, and that it finds mistakes."""

import host
import numpy as np
import pytest
import torch

ORDERS = {"forward": 0, "reverse": 1, "random": 2}
PLACEMENTS = {"start": 0, "end": 1, "unaligned": 2}
FULL = 0xFFFFFFFF
NAN = 0xFFFFFFFF  # what memory holds before it is written
RNG = np.random.default_rng(0)


def run(kernel, x, n=0, grid=1, block=32, shared=0, order="forward", seed=0, placement="end", architecture=80):
    """Launches one of executor_kernels.cpp on a copy of the uint32 array x, and returns what it left there."""
    x = np.ascontiguousarray(x)
    grid, block = ((size, 1, 1) if isinstance(size, int) else size for size in (grid, block))
    buffer = host.module().Buffer("x", x.nbytes, PLACEMENTS[placement])
    memory = np.asarray(buffer)
    memory[:] = x.view(np.uint8).ravel()
    host.module().settings(ORDERS[order], seed, architecture)
    try:
        host.module().test_kernel(kernel, buffer, n, grid, block, shared)
    finally:
        host.module().settings(0, 0)
    return memory.view(x.dtype).reshape(x.shape).copy()


def assert_fails(message, *args, **kwargs):
    """The message names kernel, block and thread; the executor works on afterwards."""
    with pytest.raises(RuntimeError) as error:
        run(*args, **kwargs)
    assert str(error.value) == message
    assert np.array_equal(run("number", np.zeros(64, np.uint32), grid=2), np.arange(64))


def words(*shape):
    return RNG.integers(0, 2**32, shape, dtype=np.uint32)


# 1. Threads and shared memory


@pytest.mark.parametrize("order", ORDERS)
def test_runs_every_thread_of_every_block_once(order):
    for grid, block in [(1, 1), (5, 33), ((2, 3, 4), (5, 2, 3)), (1, 1024)]:
        count = int(np.prod(grid)) * int(np.prod(block))
        assert np.array_equal(run("number", np.zeros(count, np.uint32), grid=grid, block=block, order=order), np.arange(count))


def test_orders_are_as_set():
    forward, reverse, random, again, other = (
        run("show_order", np.zeros(1 + 3 * 40, np.uint32), grid=3, block=40, order=order, seed=seed)[1:]
        for order, seed in [("forward", 0), ("reverse", 0), ("random", 1), ("random", 1), ("random", 2)]
    )
    assert np.array_equal(forward, np.arange(120))
    assert np.array_equal(reverse, np.arange(120)[::-1])
    assert np.array_equal(np.sort(random), np.arange(120)) and np.array_equal(random, again)
    assert not np.array_equal(random, forward) and not np.array_equal(random, other)


def test_shared_memory_is_nan_when_a_block_starts():
    for _ in range(2):
        assert (run("fresh_shared", np.zeros(4 * 64, np.uint32), 32, grid=4, shared=128) == NAN).all()


@pytest.mark.parametrize("order", ORDERS)
def test_barrier_shows_what_the_others_wrote(order):
    x = words(3, 1000)
    assert np.array_equal(run("reverse_static", x, 1000, grid=3, block=1000, order=order), x[:, ::-1])
    assert np.array_equal(run("reverse_dynamic", x, 1000, grid=3, block=1000, shared=4000, order=order), x[:, ::-1])


def test_orders_show_a_missing_barrier():
    x = words(64)
    wanted = np.roll(x.reshape(2, 32), -1, axis=1).ravel()
    for order in ORDERS:
        assert np.array_equal(run("neighbour", x, 1, block=64, order=order), wanted)
    results = [run("neighbour_without_sync", x, 1, block=64, order=order) for order in ORDERS]
    assert (results[0] == NAN).sum() == 62 and not np.array_equal(results[0], results[1]) and not np.array_equal(results[0], results[2])


# 2. Collectives


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("n", [1, 32, 45, 256])
def test_barriers_with_a_predicate(n, order):
    for ones in {0, 1, n - 1, n}:
        v = np.zeros(n, np.uint32)
        v[RNG.permutation(n)[:ones]] = 1
        count, everyone, anyone = run("barriers", np.concatenate([v, v, v]), n, block=n, order=order).reshape(3, n)
        assert (count == ones).all() and ((everyone != 0) == (ones == n)).all() and ((anyone != 0) == (ones > 0)).all()


def shuffled(kind, lane, by, width):
    """The lane that CUDA's documentation says a shuffle reads from."""
    first = lane // width * width
    if kind == "shfl":
        return first + by % width
    source = {"shfl_up": lane - by, "shfl_down": lane + by, "shfl_xor": lane ^ by}[kind]
    inside = {"shfl_up": source >= first, "shfl_down": source < first + width, "shfl_xor": source < first + width}[kind]
    return source if inside else lane


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("width", [1, 2, 8, 32])
@pytest.mark.parametrize("kind", ["shfl", "shfl_up", "shfl_down", "shfl_xor"])
def test_shuffles(kind, width, order):
    for mask in (FULL, 0x0000FF00, 0xF0F00F0F):
        v, lanes = words(64), [lane for lane in range(32) if mask >> lane & 1]
        by = np.array([RNG.choice([b for b in range(32) if shuffled(kind, i % 32, b, width) in lanes] or [0]) for i in range(64)])
        if kind != "shfl":  # shfl takes a lane each; the others are used with one distance for all, but may have several
            by = by.astype(np.uint32)
        got = run(kind, np.concatenate([v, by.astype(np.uint32), np.full(64, mask, np.uint32)]), width, block=64, order=order)[:64]
        wanted = [v[i // 32 * 32 + shuffled(kind, i % 32, int(by[i]), width)] if i % 32 in lanes else v[i] for i in range(64)]
        assert np.array_equal(got, wanted)


@pytest.mark.parametrize("order", ORDERS)
def test_votes(order):
    for mask in (FULL, 0x0000FF00, 0xF0F00F0F, 1):
        for v in (np.zeros(64, np.uint32), np.ones(64, np.uint32), RNG.integers(0, 2, 64, dtype=np.uint32)):
            ballot, rest = run("votes", np.concatenate([v, np.full(64, mask, np.uint32)]), 64, block=64, order=order).reshape(2, 64)
            for i in [i for i in range(64) if mask >> i % 32 & 1]:
                wanted = sum(int(v[i // 32 * 32 + lane]) << lane for lane in range(32)) & mask
                assert ballot[i] == wanted and rest[i] == (wanted != 0) | (wanted == mask) << 1


@pytest.mark.parametrize("order", ORDERS)
def test_lanes_that_ended_or_never_were_are_not_waited_for(order):
    assert (run("early_exit", np.zeros(20, np.uint32), 7, block=20, order=order)[:7] == 0x7F).all()
    assert (run("early_exit", np.zeros(33, np.uint32), 33, block=33, order=order) == [FULL] * 32 + [1]).all()


@pytest.mark.parametrize("order", ORDERS)
def test_parts_of_a_warp_meet_apart(order):
    third = sum(1 << lane for lane in range(0, 32, 3))
    low, high = 0xAAAA + 0xFFFF + third, (0xAAAA0000 + third) % 2**32
    assert np.array_equal(run("halves", np.zeros(32, np.uint32), order=order), [low] * 16 + [high] * 16)


@pytest.mark.parametrize("order", ORDERS)
def test_warp_sum_of_doubles(order):
    v = RNG.standard_normal(32)
    assert np.allclose(run("sum_doubles", v.view(np.uint32), order=order).view(np.float64), v.sum(), rtol=1e-14)


@pytest.mark.parametrize("order", ORDERS)
def test_atomics(order):
    got = run("atomics", np.zeros(7, np.uint32), block=100, order=order)
    assert got[:6].view(np.int32).tolist() == [4950, 3, -99, 200, 1, 5] and got[6:].view(np.float32) == 50


def test_asynchronous_copies_arrive_when_they_are_waited_for():
    x = words(36)
    got = run("async_copies", x, 12, block=1, shared=48)
    zero = np.zeros(4, np.uint32)
    assert np.array_equal(got[12:24], np.concatenate([x[:4], zero, np.full(4, NAN, np.uint32)]))
    assert np.array_equal(got[24:36], np.concatenate([x[:4], zero, x[8:12]]))


def test_copies_are_at_once_before_sm_80():
    x = words(36)
    got = run("async_copies", x, 12, block=1, shared=48, architecture=75)
    assert np.array_equal(got[12:24], np.concatenate([x[:4], np.zeros(4, np.uint32), x[8:12]]))


# 3. Mistakes


def place(text, lines_below=0):
    """Where the text stands in executor_kernels.cpp, as errors name it."""
    source = (host.HERE / "executor_kernels.cpp").read_text()
    assert source.count(text) == 1
    return f"executor_kernels.cpp:{source[: source.index(text)].count(chr(10)) + 1 + lines_below}"


def test_finds_what_never_completes():
    x, block = np.zeros(64, np.uint32), "block (0, 0, 0), "
    here = place("if (int(threadIdx.x) < n) __syncthreads();")
    message = f"{block}thread (0, 0, 0): waits for ever in __syncthreads at {here}; thread (40, 0, 0) has ended"
    assert_fails(f"some_end_before_the_barrier: {message}", "some_end_before_the_barrier", x, 40, block=64)

    here, there = (place("void two_barriers", lines) for lines in (2, 4))
    message = f"{block}thread (63, 0, 0): waits in __syncthreads at {there}, but thread (0, 0, 0) in __syncthreads at {here}"
    assert_fails(f"two_barriers: {message}", "two_barriers", x, 40, block=64)

    here, there = (f"__shfl_sync of lanes 0xffffffff at {place('void two_shuffles', lines)}" for lines in (2, 4))
    message = f"{block}thread (32, 0, 0): waits for ever in {here}; thread (40, 0, 0) waits in {there}"
    assert_fails(f"two_shuffles: {message}", "two_shuffles", x, 40, block=64)

    here = place("__syncwarp(int(")
    one, other = (f"__syncwarp of lanes 0x{mask} at {here}" for mask in ("ffffffff", "fffffffe"))
    message = f"{block}thread (0, 0, 0): waits for ever in {one}; thread (5, 0, 0) waits in {other}"
    assert_fails(f"two_masks: {message}", "two_masks", x, 5)


def test_finds_wrong_lanes():
    x = np.zeros(64, np.uint32)
    at = f"thread (8, 0, 0): __syncwarp of lanes 0xff at {place('__syncwarp(0xffu)')}"
    assert_fails(f"not_in_the_mask: block (0, 0, 0), {at}: the mask lacks the calling lane", "not_in_the_mask", x)
    message = "absent_lane: block (0, 0, 0), thread (4, 0, 0): reads from lane 5, which does not take part"
    assert_fails(message, "absent_lane", x, 5)


not_sanitized = pytest.mark.skipif(host.SANITIZE, reason="AddressSanitizer ends the process itself, or it takes long")


@not_sanitized
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kernel", ["read_at", "write_at"])
def test_finds_accesses_outside_of_buffers(kernel, order):
    x = np.zeros(25, np.uint32)
    at = f"{kernel}: block (0, 0, 0), thread (1, 2, 0): accesses"
    before, beyond = "4 bytes before the start", "{} bytes beyond the end"
    for n, placement, where in [(25, "unaligned", beyond.format(0)), (28, "end", beyond.format(12)), (-1, "start", before)]:
        assert_fails(f"{at} {where} of x, 100 bytes", kernel, x, n, block=(2, 3, 2), order=order, placement=placement)
    assert_fails(f"{at} 0 bytes beyond the end of x, 0 bytes", kernel, x[:0], 0, block=(2, 3, 2), order=order)


@not_sanitized
def test_finds_writes_between_buffer_and_guard_page():
    x = np.zeros(25, np.uint32)
    beyond = "0 bytes beyond the end"
    for n, placement, where in [(25, "end", beyond), (-1, "end", "4 bytes before the start"), (25, "start", beyond)]:
        assert_fails(f"write_at: wrote {where} of x, 100 bytes", "write_at", x, n, placement=placement)


@not_sanitized
def test_finds_accesses_beyond_the_dynamic_shared_memory():
    at = "dynamic_beyond: block (0, 0, 0), thread (0, 0, 0): accesses 0 bytes beyond the end of dynamic shared memory, 64 bytes"
    assert_fails(at, "dynamic_beyond", np.zeros(1, np.uint32), 16, shared=64)


def test_finds_misaligned_vectors():
    x = np.zeros(16, np.uint32)
    for kernel, size, n in [("load_vector_at", 16, 2), ("store_vector_at", 8, 3)]:
        message = (
            f"{kernel}: block (0, 0, 0), thread (0, 0, 0): a vector of {size} bytes is not aligned to its size: byte {4 * n} of x, 64 bytes"
        )
        assert_fails(message, kernel, x, n)
        run(kernel, x, 4, block=1)


@not_sanitized
def test_finds_divisions_by_zero_and_stack_overflows():
    at = "block (0, 0, 0), thread (0, 0, 0)"
    assert_fails(f"divide: {at}: integer division by zero", "divide", np.ones(1, np.uint32))
    assert_fails(f"recursion: {at}: the stack overflows", "recursion", np.ones(1, np.uint32), 1000)


@pytest.mark.parametrize(
    ("message", "sizes"),
    [
        ("gridDim.x must be 1 to 2147483647 (got 0)", {"grid": (0, 1, 1)}),
        ("gridDim.y must be 1 to 65535 (got 65536)", {"grid": (1, 65536, 1)}),
        ("gridDim.z must be 1 to 65535 (got 65536)", {"grid": (1, 1, 65536)}),
        ("blockDim.x must be 1 to 1024 (got 1025)", {"block": (1025, 1, 1)}),
        ("blockDim.y must be 1 to 1024 (got 0)", {"block": (1, 0, 1)}),
        ("blockDim.z must be 1 to 64 (got 65)", {"block": (1, 1, 65)}),
        ("a block must have at most 1024 threads (got 1056)", {"block": (33, 32, 1)}),
        ("a block must have at most 101376 bytes of shared memory (got 101377)", {"shared": 101377}),
    ],
)
def test_refuses_what_hardware_refuses(message, sizes):
    assert_fails(f"number: {message}", "number", np.zeros(1, np.uint32), **sizes)


# 4. Numbers


def converted(kernel, values):
    return run(kernel, values.astype(np.uint32), grid=len(values) // 1024, block=1024)


def assert_same_numbers(got, wanted):
    """Bit for bit but for NaN, of which one is as good as another."""
    nan = np.isnan(wanted)
    assert np.array_equal(np.isnan(got), nan)
    assert np.array_equal(got[~nan].view(f"u{got.itemsize}"), wanted[~nan].view(f"u{wanted.itemsize}"))


def hard_floats():
    """Numbers around those of half and bfloat16 and the middles between them, and any others."""
    top = np.arange(2**16, dtype=np.uint32) << 16
    half = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32).view(np.uint32)
    exact = np.concatenate([top, top + 0x8000, half, half + 0x1000, half[:0x7C00] // 2 + half[1:0x7C01] // 2, words(2**17)])
    bits = np.concatenate([exact - 1, exact, exact + 1])
    return np.resize(bits, -(-len(bits) // 1024) * 1024)


def test_conversions_to_float():
    bits = np.arange(2**16, dtype=np.uint32)
    assert_same_numbers(converted("half_to_float", bits).view(np.float32), bits.astype(np.uint16).view(np.float16).astype(np.float32))
    assert_same_numbers(converted("bfloat_to_float", bits).view(np.float32), (bits << 16).view(np.float32))


@not_sanitized
def test_conversions_from_float():
    bits = hard_floats()
    values = bits.view(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        assert_same_numbers(converted("float_to_half", bits).astype(np.uint16).view(np.float16), values.astype(np.float16))
    wanted = torch.from_numpy(values).bfloat16().float().numpy()
    assert_same_numbers((converted("float_to_bfloat", bits) << 16).view(np.float32), wanted)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_multiplies_matrices(dtype):
    k = 32 // dtype.itemsize
    a, b = torch.randn(16, k).to(dtype), torch.randn(k, 8).to(dtype)
    if dtype == torch.float32:  # a tensor core reads 10 bits of the fraction
        a, b = ((t.view(torch.int32) & ~0x1FFF).view(torch.float32) for t in (a, b))
    name = {torch.float16: "half", torch.bfloat16: "bfloat16", torch.float32: "tf32"}[dtype]
    x = torch.cat([a.flatten(), b.T.flatten()]).view(torch.uint8).numpy().view(np.uint32)
    got = run(f"multiply_{name}", np.concatenate([x, np.zeros(128, np.uint32)]))[192:].view(np.float32).reshape(16, 8)
    assert np.allclose(got, (a.double() @ b.double()).numpy(), rtol=1e-5, atol=1e-5)


def test_multiplies_float16_alone_before_sm_80():
    x = words(16 * 8 + 8 * 8 + 128)
    for name in ("multiply_bfloat16", "multiply_tf32"):
        with pytest.raises(RuntimeError, match="mma: before sm_80 there is float16 alone"):
            run(name, x, architecture=75)
    assert np.array_equal(run("multiply_half", x, architecture=75), run("multiply_half", x))


@pytest.mark.parametrize("order", ORDERS)
def test_multiplies_matrices_out_of_shared_memory(order):
    a, b = torch.randn(16, 16).half(), torch.randn(16, 8).half()
    x = torch.cat([a.flatten(), b.flatten()]).view(torch.uint8).numpy().view(np.uint32)
    got = run("multiply_loaded", np.concatenate([x, np.zeros(128, np.uint32)]), shared=1024, order=order)[192:]
    assert np.allclose(got.view(np.float32).reshape(16, 8), (a.double() @ b.double()).numpy(), rtol=1e-5, atol=1e-5)
