"""This folder's tests once more with AddressSanitizer and UndefinedBehaviorSanitizer, on few cases, in a process of their own."""

import os
import subprocess
import sys

import host
import pytest


def runtime(name):
    """A library of the compiler's, or None."""
    path = subprocess.run([*host.compiler(), f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    return path if os.path.isabs(path) else None


@pytest.mark.skipif(host.SANITIZE, reason="it is the process that this test starts")
def test_under_sanitizers():
    libraries = [runtime(name) for name in ("libasan.so", "libubsan.so", "libstdc++.so")]
    if None in libraries:
        pytest.skip("the compiler has no AddressSanitizer, or no library of it to preload")
    options = {
        "STYLEGAN_OPS_SANITIZE": "1",
        "LD_PRELOAD": ":".join(libraries),  # the sanitizers before all else, and what they intercept the exceptions of
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    pytest_arguments = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", str(host.HERE)]
    run = [sys.executable, "-m", "pytest", *pytest_arguments]
    done = subprocess.run(run, env=os.environ | options, cwd=host.ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
