"""What every test shares: a fixed seed, and the marks of tests that need more than a CPU."""

import signal

import pytest
import torch

from stylegan_ops._library import LIBRARIES


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    if item.get_closest_marker("cuda") and not LIBRARIES["cuda"].loaded:
        pytest.skip(f"needs the CUDA library: {LIBRARIES['cuda'].reason}")


def pytest_configure() -> None:
    # A shell that starts the tests in the background has them ignore Ctrl-C, which some of them send.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)
