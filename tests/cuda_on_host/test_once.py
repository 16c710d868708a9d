"""csrc/cuda/once.h: what is asked of the CUDA runtime once."""

import host
import pytest


@pytest.mark.parametrize(("kernels", "devices"), [(1, 1), (40, 64), (256, 3)])
def test_acts_before_the_first_use_of_a_kernel_on_a_device_and_never_again(kernels, devices):
    assert host.module().run_once_per_kernel(1, kernels, devices, 3) == (kernels * devices, 0, 0)
    first, later, early = host.module().run_once_per_kernel(4, kernels, devices, 3)
    assert kernels * devices <= first <= 4 * kernels * devices and (later, early) == (0, 0)


def test_a_table_that_is_full_is_an_error():
    with pytest.raises(RuntimeError, match="more kernels than OncePerKernel holds"):
        host.module().run_once_per_kernel(1, 257, 1, 1)


def test_a_number_is_looked_for_once_per_device():
    asked = []
    values = host.module().find_per_device([0, 63, 0, 1, 63], lambda device: asked.append(device) or 100 + device)
    assert values == [100, 163, 100, 101, 163] and asked == [0, 63, 1]
