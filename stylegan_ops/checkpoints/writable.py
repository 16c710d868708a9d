"""Which StyleGAN2 other layouts have a place for."""

from __future__ import annotations

from typing import Any

from torch import nn

from stylegan_ops._pickle_machine import Fault

from .report import Report

FILTER = [1, 3, 3, 1]


def check_stylegan2(name: str, network: nn.Module, report: Report) -> dict[str, Any]:
    """The arguments of a StyleGAN2 in its published form: skip generator, residual discriminator, no labels.

    Raises:
        Fault: it is another one.
    """
    kwargs = network.init_kwargs
    wanted = "resnet" if name == "D" else "skip"
    if kwargs.get("architecture") != wanted or kwargs["resample_filter"] != FILTER:
        raise Fault(f"{name} must be a StyleGAN2 of the architecture {wanted} with the filter 1, 3, 3, 1 for this layout")
    if kwargs["c_dim"]:
        raise Fault(f"{name} must have no labels for this layout (c_dim is {kwargs['c_dim']})")
    if name == "D" and (kwargs["mbstd_group_size"], kwargs["mbstd_num_channels"]) != (4, 1):
        raise Fault(f"{name} must have minibatch deviations of groups of 4 and 1 feature map for this layout")
    if kwargs["conv_clamp"] is not None:
        report.notes.append(f"{name}: conv_clamp {kwargs['conv_clamp']:g} is left out; no difference while no activation passes it")
    check_eps(name, network, report)
    return kwargs


def check_eps(name: str, network: nn.Module, report: Report) -> None:
    """Report the error of norms that have another eps than the published ones."""
    eps = network.init_kwargs.get("norm_eps")
    if eps is not None:
        report.inexact.append(
            f"{name}: norms have eps 1e-8 there and {eps:g} here; z and each layer differ by a factor of about 1 + {eps / 2:g}"
        )
