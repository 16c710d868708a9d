"""NVlabs' PyTorch pickles of StyleGAN2: stylegan2-ada-pytorch, and the StyleGAN2 configurations of stylegan3.

A dict `G, D, G_ema, augment_pipe, training_set_kwargs`, each network an object of a persistent class, whose own unpickling would run the
source code that it carries. Here that code is a string that nobody reads: the tensors are in `_parameters`, `_buffers` and `_modules`.
Their names are those of the models here.

What is written is such a dict with state dicts in the place of the objects, since an object cannot be without its source code: theirs takes
them with `load_state_dict(strict=True)` into a network made by its own constructor.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from typing import Any, BinaryIO

from torch import nn

from stylegan_ops._pickle_machine import Fault
from stylegan_ops.training.checkpoint import told

from .arguments import stylegan2_discriminator, stylegan2_generator
from .layout import is_state_dict, to_ours
from .report import Report
from .safe_pickle import Record, plain
from .stored import Stored
from .weights import Weights
from .writable import check_eps

NAME = "nvlabs-pt"
_PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"
_NETWORKS = ("G_ema", "G", "D")
_MAX_DEPTH = 16
_STANDARD = {"activation": "lrelu", "lr_multiplier": 0.01}


def matches(tree: Any) -> bool:
    """A persistent object, or a dict with such networks or with state dicts of their names."""
    return bool(_networks(tree))


def read(tree: Any, report: Report) -> dict[str, Weights]:
    """The networks, G_ema first."""
    found = {}
    networks = _networks(tree)
    generators = [kwargs for name, (_, kwargs) in networks.items() if name != "D"]
    is_ada = any(isinstance(kwargs.get("synthesis_kwargs"), dict) for kwargs in generators)
    for name, (tensors, kwargs) in networks.items():
        found[name] = _weights(name, tensors, kwargs, is_ada, report)
    if isinstance(tree, dict):
        for name in sorted(map(str, set(tree) - set(found) - {"init_kwargs"})):
            report.add("ignored", name)
    return found


def write(networks: dict[str, nn.Module], file: BinaryIO, report: Report) -> None:
    """Write a dict with `G`, `D`, `G_ema` (as far as they are there) as state dicts, and their arguments as `init_kwargs`.

    Raises:
        Fault: a network is not one of NVlabs' architectures.
    """
    tree: dict[str, Any] = dict.fromkeys(["G", "D", "G_ema", "augment_pipe", "training_set_kwargs"])
    tree["init_kwargs"] = {}
    for name, network in networks.items():
        kwargs = network.init_kwargs
        if kwargs.get("architecture") not in ("orig", "skip", "resnet"):
            raise Fault(f"{name} must be a StyleGAN2 of the architectures orig, skip or resnet")
        check_eps(name, network, report)
        tree[name] = OrderedDict((key, value.detach().cpu().clone()) for key, value in network.state_dict().items())
        tree["init_kwargs"][name] = _their_kwargs(kwargs, "mapping.w_avg" in tree[name])
        report.tensors += len(tree[name])
    report.notes.append("networks are state dicts, not objects: build them by their own constructors, from init_kwargs, and load these")
    pickle.dump(tree, file, protocol=4)


def _networks(tree: Any) -> dict[str, tuple[dict[str, Stored], dict[str, Any]]]:
    """Tensors and arguments of every network in the tree, G_ema first."""
    if _is_network(tree):
        return {"D" if tree.arguments[0].get("class_name") == "Discriminator" else "G": _opened(tree)}
    found = {}
    for name in _NETWORKS if isinstance(tree, dict) else ():
        value = tree.get(name)
        if _is_network(value):
            found[name] = _opened(value)
        elif is_state_dict(value) and any(key in value for key in ("synthesis.b4.const", "b4.out.weight")):
            arguments = tree.get("init_kwargs")
            found[name] = (value, arguments.get(name, {}) if isinstance(arguments, dict) else {})
    return found


def _is_network(value: Any) -> bool:
    is_persistent = isinstance(value, Record) and value.path == _PERSISTENT and len(value.arguments) == 1
    return is_persistent and isinstance(value.arguments[0], dict) and "_modules" in _state(value)


def _state(record: Record) -> dict[str, Any]:
    meta = record.arguments[0] if record.path == _PERSISTENT else {"state": record.state}
    state = meta.get("state") if isinstance(meta, dict) else None
    return state if isinstance(state, dict) else {}


def _opened(record: Record) -> tuple[dict[str, Stored], dict[str, Any]]:
    tensors: dict[str, Stored] = {}
    _collect(record, "", tensors, set(), 0)
    kwargs = _state(record).get("_init_kwargs")
    return tensors, kwargs if isinstance(kwargs, dict) else {}


def _collect(record: Any, prefix: str, tensors: dict[str, Stored], seen: set[int], depth: int) -> None:
    """The state dict of a module: its own tensors, then those of its children."""
    if not isinstance(record, Record) or id(record) in seen or depth > _MAX_DEPTH:
        raise Fault(f"module {prefix.rstrip('.')!r} in it is none, or is in several places")
    seen.add(id(record))
    state = _state(record)
    for kind in ("_parameters", "_buffers"):
        for name, value in _items(state.get(kind)):
            if isinstance(plain(value), Stored):
                tensors[f"{prefix}{name}"] = plain(value)
    for name, child in _items(state.get("_modules")):
        if child is not None:
            _collect(child, f"{prefix}{name}.", tensors, seen, depth + 1)


def _items(value: Any) -> Any:
    return value.items() if isinstance(value, dict) else ()


def _weights(name: str, tensors: dict[str, Stored], kwargs: dict[str, Any], is_ada: bool, report: Report) -> Weights:
    if any(key.startswith("synthesis.input.") for key in tensors):
        raise Fault("it is an alias-free network of StyleGAN3, which no model here can be")
    state = to_ours({key: (key,) for key in tensors}, tensors, report)
    nested = kwargs.get("synthesis_kwargs" if "mapping.w_avg" in tensors else "block_kwargs")
    options = {**kwargs, **(nested if isinstance(nested, dict) else {})}
    _check_standard(name, kwargs)
    clamp = options.get("conv_clamp", None if is_ada else 256)
    if "conv_clamp" not in options:
        report.notes.append(f"{name}: conv_clamp is not in the file; taken as {clamp}")
    if "mapping.w_avg" in tensors:
        return Weights("stylegan2", "Generator", {**stylegan2_generator(state), "conv_clamp": clamp}, state)
    epilogue = options.get("epilogue_kwargs")
    group = epilogue.get("mbstd_group_size", 4) if isinstance(epilogue, dict) else 4
    init_kwargs = {**stylegan2_discriminator(state), "conv_clamp": clamp, "mbstd_group_size": group}
    return Weights("stylegan2", "Discriminator", init_kwargs, state)


def _check_standard(name: str, kwargs: dict[str, Any]) -> None:
    """Options that change what the layers compute, which no tensor shows."""
    for options in (kwargs, *(value for value in kwargs.values() if isinstance(value, dict))):
        for key, standard in _STANDARD.items():
            value = options.get(key, standard)
            if type(value) is not type(standard) or value != standard:
                raise Fault(f"its {name} has another {key} than {standard} ({told(value)}), which no model here has")


def _their_kwargs(ours: dict[str, Any], is_generator: bool) -> dict[str, Any]:
    """The arguments by their names, in the flat form of stylegan3."""
    shared = {name: ours[name] for name in ("img_resolution", "img_channels", "c_dim", "channel_base", "channel_max", "conv_clamp")}
    if is_generator:
        return {**shared, "z_dim": ours["z_dim"], "w_dim": ours["w_dim"], "mapping_kwargs": {"num_layers": ours["num_layers"]}}
    return {**shared, "epilogue_kwargs": {"mbstd_group_size": ours["mbstd_group_size"], "mbstd_num_channels": ours["mbstd_num_channels"]}}
