"""BasicSR's StyleGAN2, `{params, params_ema}`: rosinality's tensors under other names, without filters."""

from __future__ import annotations

import re
from typing import Any

from .arguments import stylegan2_discriminator, stylegan2_generator
from .layout import Table, count, is_state_dict, to_ours
from .report import Report
from .rosinality import discriminator_table, generator_table
from .stored import Stored
from .weights import Weights

NAME = "basicsr"
_NETWORKS = {"params_ema": "_ema", "params": ""}


def matches(tree: Any) -> bool:
    """A dict with the state dict of a generator or discriminator, or one of these alone."""
    return bool(_state_dicts(tree))


def read(tree: Any, report: Report) -> dict[str, Weights]:
    """The network, the averaged one first."""
    found = {}
    for name, tensors in _state_dicts(tree).items():
        if name.startswith("D"):
            table, arguments = discriminator_table(count(tensors, r"conv_body\.(\d+)\.")), stylegan2_discriminator
        else:
            layers = count(tensors, r"style_mlp\.(\d+)\.", 1)
            table, arguments = generator_table(count(tensors, r"to_rgbs\.(\d+)\.") + 1, layers), stylegan2_generator
        state = to_ours(_renamed(table), tensors, report)
        found[name] = Weights("stylegan2", "Discriminator" if name.startswith("D") else "Generator", arguments(state), state)
    return found


def _state_dicts(tree: Any) -> dict[str, dict[str, Stored]]:
    states = (
        {"": tree}
        if is_state_dict(tree)
        else {ours: tree.get(theirs) for theirs, ours in _NETWORKS.items()}
        if isinstance(tree, dict)
        else {}
    )
    found = {}
    for suffix, state in states.items():
        if is_state_dict(state) and "style_conv1.modulated_conv.weight" in state:
            found[f"G{suffix}"] = state
        elif is_state_dict(state) and "conv_body.0.0.weight" in state and suffix not in found:
            found.setdefault("D", state)
    return found


def _renamed(table: Table) -> Table:
    """rosinality's table under BasicSR's names."""
    rules = [
        (r"^style\.", "style_mlp."),
        (r"^input\.input", "constant_input.weight"),
        (r"^noises\.noise_", "noises.noise"),
        (r"^convs\.(\d+)\.(?=\d|conv\d|skip)", r"conv_body.\1."),
        (r"^(convs?)(?=1?\.)", r"style_\1"),
        (r"\.noise\.weight$", ".weight"),
        (r"\.conv\.(?=weight|modulation)", ".modulated_conv."),
    ]
    found = {}
    for name, entry in table.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = entry
    return found
