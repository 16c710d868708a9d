"""The implementations that the op tests run on, and threads that each test leaves as it found them."""

from collections.abc import Iterator

import pytest
import torch

from stylegan_ops import use_impl
from stylegan_ops._library import LIBRARIES
from stylegan_ops.ops import cpu_variant
from stylegan_ops.ops._registry import CPU_VARIANTS


def skip_without_library() -> None:
    if not LIBRARIES["cpu"].loaded:
        pytest.skip(f"needs the compiled CPU library: {LIBRARIES['cpu'].reason}")


@pytest.fixture(params=["reference", *CPU_VARIANTS])
def kernel(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on the reference and on each SIMD variant of the native kernels that this machine has."""
    if request.param == "reference":
        with use_impl("reference"):
            yield request.param
        return
    skip_without_library()
    before = cpu_variant()
    try:
        cpu_variant(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    try:
        with use_impl("native"):
            yield request.param
    finally:
        cpu_variant(before)


@pytest.fixture(params=["reference", "native"])
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test on the reference and on the native kernels in their default variant, where the variants share all that is tested."""
    if request.param == "native":
        skip_without_library()
    with use_impl(request.param):
        yield request.param


@pytest.fixture
def native() -> Iterator[None]:
    """Runs the test on the native kernels alone."""
    skip_without_library()
    with use_impl("native"):
        yield


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)
