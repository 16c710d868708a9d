"""A network as its arguments and tensors, and the model made of them: strictly, and only once everything is known to fit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stylegan_ops._pickle_machine import Fault
from stylegan_ops.layers import estimate_w_avg
from stylegan_ops.training.networks import FAMILIES, grow

from .layout import some
from .report import Report

_SEED = 0
_MAX_TAPS = 32
_MAX_DRAWN = 2**24  # elements of noise that a file lacks, beside four times what it has


def _is_plain(value: Any) -> bool:
    if type(value) is int:
        return abs(value) < 2**63
    return value is None or type(value) in (bool, float) or (type(value) is str and len(value) < 100)


@dataclass
class Weights:
    """A network as a file has it.

    Attributes:
        family: module of `stylegan_ops.models`. kind: "Generator" or "Discriminator".
        init_kwargs: the model's arguments.
        state: its tensors by our names. Filters that are missing take their standard values, noise is drawn by a fixed seed, w_avg is
            estimated; all else must be there.
        stage: of a network that grows, {"resolution", "alpha"}; None for its full size.
    """

    family: str
    kind: str
    init_kwargs: dict[str, Any]
    state: dict[str, torch.Tensor]
    stage: dict[str, Any] | None = None

    def build(self, name: str, report: Report) -> nn.Module:
        """Make the model: in eval mode, parameters without grad.

        Raises:
            Fault: a name is missing or too many, or a shape does not fit.
        """
        self._check_description(name)
        try:
            cls = {"Generator": FAMILIES[self.family].Generator, "Discriminator": FAMILIES[self.family].Discriminator}[self.kind]
            self._check_arguments()
            with torch.device("meta"):  # nothing is allocated before the file's own tensors are known to fit
                expected = cls(**self.init_kwargs).state_dict()
        except (KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
            raise Fault(f"its {name} cannot be built ({error})") from None
        self._check(name, expected)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            network = cls(**self.init_kwargs)
        for missing in sorted(set(expected) - set(self.state)):
            report.add("estimated" if missing == "mapping.w_avg" else "drawn" if missing.endswith("noise_const") else "filled", missing)
        network.load_state_dict({**network.state_dict(), **self.state}, strict=True)
        if self.kind == "Generator" and "mapping.w_avg" in set(expected) - set(self.state):
            network.mapping.w_avg.copy_(estimate_w_avg(network.mapping))
        if self.stage is not None:
            grow(network, self.stage["resolution"], self.stage["alpha"])
        return network.eval().requires_grad_(False)

    def _check_description(self, name: str) -> None:
        """Only plain values, of which every one can be hashed, compared and printed."""
        options = [*self.init_kwargs.values(), *(self.stage or {}).values()]
        lists = [value for value in options if type(value) in (list, tuple)]
        options = [value for value in options if type(value) not in (list, tuple)]
        options += [item for value in lists for item in value[: _MAX_TAPS + 1]]
        if type(self.family) is not str or type(self.kind) is not str or not all(map(_is_plain, options)):
            raise Fault(f"its {name} is described by something else than names, numbers and lists of numbers")

    def _check_arguments(self) -> None:
        """What an argument of a few bytes could make of itself without allocating: layers without end, and filters squared."""
        if not isinstance(self.init_kwargs.get("num_layers", 1), int) or self.init_kwargs.get("num_layers", 1) > len(self.state):
            raise ValueError(f"num_layers must be no more than there are tensors, {len(self.state)}")
        if any(isinstance(value, (list, tuple, str)) and len(value) > _MAX_TAPS for value in self.init_kwargs.values()):
            raise ValueError(f"filters must have at most {_MAX_TAPS} taps")

    def _check(self, name: str, expected: dict[str, torch.Tensor]) -> None:
        optional = {key for key in expected if key.endswith(("noise_const", "resample_filter")) or key == "mapping.w_avg"}
        if missing := set(expected) - set(self.state) - optional:
            raise Fault(f"its {name} must have all tensors (lacks {len(missing)}: {some(missing)})")
        drawn = sum(expected[key].numel() for key in optional - set(self.state))
        if drawn > _MAX_DRAWN + 4 * sum(x.numel() for x in self.state.values()):
            raise Fault(f"its {name} must have its noise, which has far more elements than all else ({drawn})")
        if others := set(self.state) - set(expected):
            raise Fault(f"its {name} must have no other tensors than the model's (has {len(others)}: {some(others)})")
        for key, x in self.state.items():
            if x.shape != expected[key].shape:
                raise Fault(f"its {name} must have {key} of shape {list(expected[key].shape)} (got shape {list(x.shape)})")
