"""NVlabs' TensorFlow pickles of StyleGAN, StyleGAN2 and StyleGAN2-ADA: the tuple `G, D, Gs` of networks, whose variables are NumPy arrays.

Each network's own unpickling would run the source code that it carries; here that is a string that nobody reads. Convolutions are stored
[height, width, in, out] and fully connected layers [in, out]. StyleGAN2's weights of upsampling convolutions are flipped, and its style
biases are 1 less; StyleGAN's are those of the published network, see `karras2019`. Discriminators are StyleGAN2's without labels alone.

The names of the variables are those that genforce's converters (MIT) read.
"""

from __future__ import annotations

from typing import Any

import torch

from stylegan_ops._pickle_machine import Fault

from .arguments import stylegan2_discriminator, stylegan2_generator, stylegan_generator
from .layout import FLIP, Step, Table, count, flat, numbers, plus, resolutions, to_ours, without_lod
from .report import Report
from .safe_pickle import Record, plain
from .stored import Stored
from .stylegan_names import Part, stylegan_table
from .weights import Weights

NAME = "nvlabs-tf"
_NETWORK = "dnnlib.tflib.network.Network"
_MAX_NETWORKS = 16  # with its components

_CONVOLUTION = Step("transposed", lambda x: x.permute(3, 2, 0, 1), lambda x: x.permute(2, 3, 1, 0))
_DENSE = Step("transposed", lambda x: x.permute(1, 0), lambda x: x.permute(1, 0))


def matches(tree: Any) -> bool:
    """The three networks, or one of them."""
    return bool(_records(tree))


def read(tree: Any, report: Report) -> dict[str, Weights]:
    """The networks, G_ema first."""
    found = {}
    for name, record in _records(tree).items():
        tensors = without_lod(_variables(record, set()), report, "lod")
        if "4x4/Conv/mod_weight" in tensors:
            found[name] = _stylegan2(tensors, report)
        elif "4x4/Conv/StyleMod/weight" in tensors:
            found[name] = _stylegan(tensors, report)
        elif "Output/weight" in tensors and "LabelEmbed/weight" not in tensors:
            found["D"] = _discriminator(tensors, report)
        else:
            report.add("ignored", f"{name}, which is neither a generator nor StyleGAN2's discriminator without labels")
    if found:
        report.notes.append("filters, activations and the mapping's learning rate are no variables: taken to be the standard ones")
    else:
        raise Fault("it holds no generator of StyleGAN or StyleGAN2, and no discriminator of StyleGAN2 without labels")
    return found


def stylegan2_table(tensors: dict[str, Stored]) -> Table:
    """StyleGAN2's generator in the architecture that has these variables."""
    table: Table = {"dlatent_avg": ("mapping.w_avg", flat(1)), "4x4/Const/const": ("synthesis.b4.const", flat(3, 4))}
    for i in range(count(tensors, r"Dense(\d+)/")):
        table |= _dense(f"Dense{i}", f"mapping.fc{i}")
    if "LabelEmbed/weight" in tensors:
        table |= _dense("LabelEmbed", "mapping.embed")
    for i, r in enumerate(_sizes(tensors)):
        ours = f"synthesis.b{r}"
        for layer, conv, number in [("Conv", "conv1", 0)] if i == 0 else [("Conv0_up", "conv0", 2 * i - 1), ("Conv1", "conv1", 2 * i)]:
            table |= _modulated(f"{r}x{r}/{layer}", f"{ours}.{conv}", *([FLIP] if conv == "conv0" else []))
            table[f"{r}x{r}/{layer}/noise_strength"] = (f"{ours}.{conv}.noise_strength", flat(0))
            table[f"noise{number}"] = (f"{ours}.{conv}.noise_const", flat(2, 4))
        if f"{r}x{r}/ToRGB/weight" in tensors:
            table |= _modulated(f"{r}x{r}/ToRGB", f"{ours}.torgb")
        if f"{r}x{r}/Skip/weight" in tensors:
            table[f"{r}x{r}/Skip/weight"] = (f"{ours}.skip.weight", _CONVOLUTION)
    return table


def discriminator_table(tensors: dict[str, Stored]) -> Table:
    """StyleGAN2's discriminator in the architecture that has these variables."""
    table = _convolution("4x4/Conv", "b4.conv") | _dense("4x4/Dense0", "b4.fc") | _dense("Output", "b4.out")
    for r in _sizes(tensors):
        if r > 4:
            table |= _convolution(f"{r}x{r}/Conv0", f"b{r}.conv0") | _convolution(f"{r}x{r}/Conv1_down", f"b{r}.conv1")
        if f"{r}x{r}/FromRGB/weight" in tensors:
            table |= _convolution(f"{r}x{r}/FromRGB", f"b{r}.fromrgb")
        if f"{r}x{r}/Skip/weight" in tensors:
            table[f"{r}x{r}/Skip/weight"] = (f"b{r}.skip.weight", _CONVOLUTION)
    return table


def _dense(theirs: str, ours: str) -> Table:
    return {f"{theirs}/weight": (f"{ours}.weight", _DENSE), f"{theirs}/bias": (f"{ours}.bias",)}


def _convolution(theirs: str, ours: str, *steps: Step) -> Table:
    return {f"{theirs}/weight": (f"{ours}.weight", _CONVOLUTION, *steps), f"{theirs}/bias": (f"{ours}.bias",)}


def _modulated(theirs: str, ours: str, *steps: Step) -> Table:
    style = {f"{theirs}/mod_weight": (f"{ours}.affine.weight", _DENSE), f"{theirs}/mod_bias": (f"{ours}.affine.bias", plus(1))}
    return _convolution(theirs, ours, *steps) | style


def _stylegan_name(part: Part, steps: int) -> Any:
    r = 4 << part.i
    layer = f"{r}x{r}/" + (("Const", "Conv") if part.i == 0 else ("Conv0_up", "Conv1"))[part.k]
    dense, convolution = ([_DENSE], [_CONVOLUTION]) if part.part == "weight" else ([], [])
    return {
        "dense": (f"Dense{part.i}/{part.part}", *dense),
        "w_avg": ("dlatent_avg", flat(1)),
        "const": ("4x4/Const/const", flat(3, 4)),
        "weight": (f"{layer}/weight", _CONVOLUTION),
        "bias": f"{layer}/bias",
        "noise": f"{layer}/Noise/weight",
        "noise_const": (f"noise{2 * part.i + part.k}", flat(2, 4)),
        "style": (f"{layer}/StyleMod/{part.part}", *dense),
        "torgb": (f"ToRGB_lod{steps - 1 - part.i}/{part.part}", *convolution),
    }[part.kind]


def _stylegan2(tensors: dict[str, Stored], report: Report) -> Weights:
    if "LabelConcat/weight" in tensors:
        raise Fault("its labels are joined to the latents before both are normalised together, which no model here does")
    state = to_ours(stylegan2_table(tensors), tensors, report)
    return Weights("stylegan2", "Generator", stylegan2_generator(state), state)


def _discriminator(tensors: dict[str, Stored], report: Report) -> Weights:
    state = to_ours(discriminator_table(tensors), tensors, report)
    return Weights("stylegan2", "Discriminator", stylegan2_discriminator(state), state)


def _stylegan(tensors: dict[str, Stored], report: Report) -> Weights:
    steps = len(_sizes(tensors))
    table = stylegan_table(steps, count(tensors, r"Dense(\d+)/"), lambda part: _stylegan_name(part, steps))
    state = to_ours(table, tensors, report)
    return Weights("stylegan", "Generator", {**stylegan_generator(state), "blur_filter": [1, 2, 1]}, state)


def _sizes(tensors: dict[str, Stored]) -> list[int]:
    return resolutions(len(numbers(tensors, r"(\d+)x\d+/")))


def _records(tree: Any) -> dict[str, Record]:
    networks = tree if isinstance(tree, (list, tuple)) else [tree]
    if not networks or not all(isinstance(x, Record) and x.path == _NETWORK for x in networks):
        return {}
    if len(networks) == 3:
        return {"G_ema": networks[2], "G": networks[0], "D": networks[1]}
    return {"G": networks[0]} if len(networks) == 1 else {}


def _variables(record: Record, seen: set[int]) -> dict[str, Stored]:
    """Those of a network and of its components."""
    state = record.state if isinstance(record.state, dict) else {}
    variables, components = state.get("variables"), state.get("components", {})
    if not isinstance(variables, (list, tuple)) or not isinstance(components, dict):
        raise Fault("a network in it has no list of variables")
    if id(record) in seen or len(seen) > _MAX_NETWORKS:
        raise Fault("a network in it is in several places, or there are too many")
    seen.add(id(record))
    found: dict[str, Stored] = {}
    for entry in variables:
        name, value = entry if isinstance(entry, tuple) and len(entry) == 2 else (None, None)
        value = Stored.of(torch.tensor(value)) if type(value) in (float, int) else plain(value)
        if not isinstance(name, str) or not isinstance(value, Stored) or name in found:
            raise Fault("a variable in it is no array with a name of its own")
        found[name] = value
    for part in components.values():
        if not isinstance(part, Record):
            raise Fault("a component of a network in it is none")
        inner = _variables(part, seen)
        if both := found.keys() & inner.keys():
            raise Fault(f"several networks in it have the variable {min(both)}")
        found |= inner
    return found
