"""Our own files: a training's checkpoint, and networks alone, as `torch.save` and as safetensors write them.

A file of networks is {"format", "version", "networks"}: for each name its family, kind, init_kwargs, stage and state dict. In safetensors
the tensors are called NETWORK.TENSOR, and all but them is JSON in the metadata.
"""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import torch
from torch import nn

from stylegan_ops._pickle_machine import Fault
from stylegan_ops.layers import Growing
from stylegan_ops.training.checkpoint import FORMAT as TRAINING
from stylegan_ops.training.checkpoint import check_state, told
from stylegan_ops.training.networks import FAMILIES

from .layout import is_state_dict, part, to_ours
from .report import Report
from .weights import Weights

NAME = "native"
FORMAT = "stylegan_ops networks"
VERSION = 1
_NETWORKS = ("G_ema", "G", "D")
_STEP = ("resolution", "alpha")


def matches(tree: Any) -> bool:
    """A dict with one of our format names."""
    return isinstance(tree, dict) and tree.get("format") in (TRAINING, FORMAT)


def read(tree: Any, report: Report) -> dict[str, Weights]:
    """The networks, G_ema first; those that grow stand at the run's stage."""
    found = {}
    for name, description, tensors in _training(tree) if tree["format"] == TRAINING else _networks(tree):
        if not is_state_dict(tensors):
            raise Fault(f"its {name} holds no state dict")
        state = to_ours({key: (key,) for key in tensors}, tensors, report)
        try:
            weights = Weights(*(description[key] for key in ("family", "kind", "init_kwargs")), state, description["stage"])
        except (KeyError, TypeError) as error:
            raise Fault(f"its {name} is not described ({error})") from None
        if not isinstance(weights.init_kwargs, dict) or not all(isinstance(key, str) for key in weights.init_kwargs):
            raise Fault(f"the arguments of its {name} are none")
        found[name] = weights
    return found


def write(networks: dict[str, nn.Module], file: BinaryIO, report: Report) -> None:
    """Write networks alone."""
    described = describe(networks)
    for name, network in networks.items():
        described[name]["state"] = network.state_dict()
        report.tensors += len(described[name]["state"])
    torch.save({"format": FORMAT, "version": VERSION, "networks": described}, file)


def write_safetensors(networks: dict[str, nn.Module], file: BinaryIO, report: Report) -> None:
    """Write networks alone, as safetensors.

    Raises:
        Fault: the package safetensors is not installed.
    """
    try:
        from safetensors.torch import save
    except ModuleNotFoundError:
        raise Fault('safetensors is not installed; run: pip install "stylegan_ops[checkpoints]"') from None

    tensors = {f"{name}.{key}": x.contiguous().clone() for name, network in networks.items() for key, x in network.state_dict().items()}
    metadata = {"format": FORMAT, "version": str(VERSION), "networks": json.dumps(describe(networks))}
    report.tensors += len(tensors)
    file.write(save(tensors, metadata))


def from_safetensors(tensors: dict[str, Any], metadata: dict[str, str]) -> Any:
    """The tree of a file that `write_safetensors` wrote; of another's, its tensors."""
    if metadata.get("format") != FORMAT:
        return tensors
    try:
        networks = json.loads(metadata["networks"])
        described = {name: {**networks[name], "state": part(tensors, f"{name}.")} for name in networks}
        return {"format": FORMAT, "version": int(metadata["version"]), "networks": described}
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise Fault(f"its metadata is damaged ({error})") from None


def describe(networks: dict[str, nn.Module]) -> dict[str, dict[str, Any]]:
    """Family, kind, arguments and stage of every network."""
    kinds = ("Generator", "Discriminator")
    families = {getattr(module, kind): (family, kind) for family, module in FAMILIES.items() for kind in kinds}
    found = {}
    for name, network in networks.items():
        family, kind = families[type(network)]
        growing = getattr(network, "synthesis", network)
        stage = {"resolution": growing.resolution, "alpha": float(growing.alpha)} if isinstance(growing, Growing) else None
        found[name] = {"family": family, "kind": kind, "init_kwargs": network.init_kwargs, "stage": stage}
    return found


def _networks(tree: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    if tree.get("version") != VERSION or not isinstance(tree.get("networks"), dict):
        raise Fault(f"it must have version {VERSION} of the format ({told(tree.get('version'))})")
    networks = tree["networks"]
    if not networks or not set(networks) <= set(_NETWORKS) or not all(isinstance(value, dict) for value in networks.values()):
        raise Fault(f"it must hold networks of the names {', '.join(_NETWORKS)}")
    return [(name, networks[name], networks[name].get("state")) for name in _NETWORKS if name in networks]


def _training(tree: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    if reason := check_state(tree):
        raise Fault(reason)
    found = []
    for name in _NETWORKS:
        kind = "Discriminator" if name == "D" else "Generator"
        try:
            stage = {key: tree["stage"][key] for key in _STEP}
            description = {"family": tree["config"]["model"], "kind": kind, "init_kwargs": tree[f"{name[0]}_init_kwargs"], "stage": stage}
        except (KeyError, TypeError) as error:
            raise Fault(f"its {name} is not described ({error})") from None
        found.append((name, description, tree[name]))
    return found
