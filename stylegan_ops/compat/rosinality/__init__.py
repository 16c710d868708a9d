"""The package `op` of rosinality's stylegan2-pytorch and its forks, on the ops of this package.

Change `from op import FusedLeakyReLU, ...` to `from stylegan_ops.compat.rosinality import ...`, or `install()`. Nothing is compiled at
import, and a machine without CUDA will do.
"""

from __future__ import annotations

import sys

from .._install import Installer
from . import conv2d_gradfix
from .fused_act import FusedLeakyReLU, fused_leaky_relu
from .upfirdn2d import upfirdn2d

__all__ = ["FusedLeakyReLU", "conv2d_gradfix", "fused_leaky_relu", "install", "uninstall", "upfirdn2d"]

_installer = Installer(
    "op",
    {name: sys.modules[f"{__name__}.{name}"] for name in ("conv2d_gradfix", "fused_act", "upfirdn2d")},
    {"FusedLeakyReLU": FusedLeakyReLU, "fused_leaky_relu": fused_leaky_relu, "upfirdn2d": upfirdn2d},
)


def install(package: str = "op") -> None:
    """Puts the package into `sys.modules` under the original name, and exchanges what was imported from there already.

    Args:
        package: where the other code has it; forks keep it elsewhere: `"models.stylegan2.op"`.

    A second time without effect. Layers that exist already keep their class, but compute with the functions here.
    """
    _installer.install(package)


def uninstall(package: str = "op") -> None:
    """Puts back what `install` exchanged. Code that was imported in between keeps what it got."""
    _installer.uninstall(package)
