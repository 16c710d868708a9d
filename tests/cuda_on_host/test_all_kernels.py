"""No kernel is forgotten: each file of csrc/cuda is compiled for the host, and each launcher is bound."""

import re

import host


def test_every_file_is_compiled():
    assert sorted(host.KERNELS) == sorted(path.stem for path in (host.SOURCES / "cuda").glob("*.cu"))


def test_every_launcher_is_bound():
    headers = "".join(path.read_text() for path in (host.SOURCES / "ops").glob("*.h"))
    launchers = set(re.findall(r"\bvoid launch_(\w+)\(", headers))
    assert len(launchers) >= len(host.KERNELS)
    assert not {name for name in launchers if not hasattr(host.module(), name)}
