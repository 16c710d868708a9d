"""keep_freed_memory: it sets what it says, and says when it could not."""

import ctypes
import platform
import subprocess
import sys

import pytest

from stylegan_ops import _memory, keep_freed_memory

is_glibc = platform.libc_ver()[0] == "glibc"

# Page faults of the last ten of 40 steps that make two tensors of 64 MB, more than glibc ever keeps by itself, and a little that stays. The
# first steps find their places in memory.
FAULTS = """
import resource, sys, torch
from stylegan_ops import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
kept = []
for i in range(40):
    if i == 30:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    x = torch.empty(16_000_000).fill_(1)
    y = x * 2
    del x
    kept.append(str(i) * 20)
    del y
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode):
    done = subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not is_glibc, reason="needs glibc")
def test_memory_is_used_again():
    assert faults("keep") * 10 < faults("usual")


def test_says_whether_it_could():
    assert keep_freed_memory() is is_glibc


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_another_c_library_is_no_error(monkeypatch, error):
    def fail(name):
        raise error

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert _memory.keep_freed_memory() is False


def test_a_refusal_is_reported(monkeypatch):
    class Library:
        mallopt = staticmethod(lambda parameter, value: 0)

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    assert _memory.keep_freed_memory() is False
