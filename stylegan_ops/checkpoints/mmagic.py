"""mmagic's StyleGAN2, `{state_dict: generator.*, discriminator.*, generator_ema.*, meta}`: rosinality's tensors under other names.

Its norms have eps 1e-6, in which the network here follows it. Discriminators are left out: not all of their names are known.
"""

from __future__ import annotations

import re
from typing import Any

from .arguments import stylegan2_generator
from .layout import count, is_state_dict, part, to_ours
from .report import Report
from .rosinality import generator_filters, generator_table
from .stored import Stored
from .weights import Weights

NAME = "mmagic"
_NETWORKS = {"generator_ema.": "G_ema", "generator.": "G"}
_CONST = "constant_input.input"
NORM_EPS = 1e-6


def matches(tree: Any) -> bool:
    """A dict with such a state dict, or the state dict of a generator alone."""
    return bool(_state_dicts(tree))


def read(tree: Any, report: Report) -> dict[str, Weights]:
    """The generators, G_ema first."""
    found = {}
    for name, tensors in _state_dicts(tree).items():
        steps = count(tensors, r"to_rgbs\.(\d+)\.") + 1
        layers = count(tensors, r"style_mapping\.(\d+)\.", 1)
        table = {_renamed(theirs): entry for theirs, entry in generator_table(steps, layers).items()}
        state = to_ours(table, tensors, report, generator_filters(steps))
        found[name] = Weights("stylegan2", "Generator", {**stylegan2_generator(state), "norm_eps": NORM_EPS}, state)
    if any(name.startswith("discriminator.") for name in tree.get("state_dict", ())):
        report.add("ignored", "discriminator")
    report.notes.append("whether colours come as RGB or BGR (bgr2rgb) is not in the file")
    return found


def _state_dicts(tree: Any) -> dict[str, dict[str, Stored]]:
    if is_state_dict(tree) and _CONST in tree and "style_mapping.1.linear.weight_orig" in tree:
        return {"G": tree}
    state = tree.get("state_dict") if isinstance(tree, dict) else None
    if not is_state_dict(state):
        return {}
    return {ours: part(state, prefix) for prefix, ours in _NETWORKS.items() if f"{prefix}{_CONST}" in state}


def _renamed(name: str) -> str:
    """rosinality's name under mmagic's."""
    rules = [
        (r"^style\.(\d+)\.weight", r"style_mapping.\1.linear.weight_orig"),
        (r"^style\.", "style_mapping."),
        (r"^input\.input", _CONST),
        (r"^noises\.noise_", "injected_noise_"),
        (r"\.noise\.weight$", ".noise_injector.weight"),
        (r"\.modulation\.weight$", ".style_modulation.linear.weight_orig"),
        (r"\.modulation\.bias$", ".style_modulation.bias"),
    ]
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
