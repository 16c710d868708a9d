"""The layouts of other code bases as names and shapes, and small random files of them."""

from __future__ import annotations

import argparse
import contextlib
import pickle
import sys
import types
from collections import OrderedDict

import torch

W_DIM, LAYERS = 6, 3


def channels_of(resolution, base=64, most=8):
    return {r: min(base // r, most) for r in (4 << i for i in range(resolution.bit_length() - 2))}


def fir(gain=1.0):
    taps = torch.tensor([1.0, 3, 3, 1])
    return gain * taps.outer(taps) / 64


def fill(shapes, filters=None):
    """Random tensors of these shapes; filters are what they are."""
    found = OrderedDict((name, torch.randn(shape)) for name, shape in shapes.items())
    for name in found:
        if name.endswith(("affine.bias", "modulation.bias")):  # styles begin at 1
            found[name] += 1
    found.update({name: value.clone() for name, value in (filters or {}).items()})
    return found


# NVlabs, PyTorch ------------------------------------------------------------------------------------------------------------------------


def nvlabs_generator(resolution=16, c_dim=0, z_dim=W_DIM, img_channels=3, architecture="skip"):
    shapes, filters, before = {"mapping.w_avg": (W_DIM,)}, {}, None
    if c_dim:
        shapes |= {"mapping.embed.weight": (W_DIM, c_dim), "mapping.embed.bias": (W_DIM,)}
    features = z_dim + (W_DIM if c_dim else 0)
    for i in range(LAYERS):
        shapes |= {f"mapping.fc{i}.weight": (W_DIM, features if i == 0 else W_DIM), f"mapping.fc{i}.bias": (W_DIM,)}
    for r, c in channels_of(resolution).items():
        block = f"synthesis.b{r}"
        filters[f"{block}.resample_filter"] = fir()
        if r == 4:
            shapes[f"{block}.const"] = (c, 4, 4)
        for conv, inputs in ([] if r == 4 else [("conv0", before)]) + [("conv1", c)]:
            name = f"{block}.{conv}"
            filters[f"{name}.resample_filter"] = fir()
            shapes |= {
                f"{name}.weight": (c, inputs, 3, 3),
                f"{name}.bias": (c,),
                f"{name}.noise_strength": (),
                f"{name}.noise_const": (r, r),
            }
            shapes |= {f"{name}.affine.weight": (inputs, W_DIM), f"{name}.affine.bias": (inputs,)}
        if architecture == "skip" or r == resolution:
            name = f"{block}.torgb"
            shapes |= {f"{name}.weight": (img_channels, c, 1, 1), f"{name}.bias": (img_channels,)}
            shapes |= {f"{name}.affine.weight": (c, W_DIM), f"{name}.affine.bias": (c,)}
        if architecture == "resnet" and r > 4:
            shapes[f"{block}.skip.weight"] = (c, before, 1, 1)
            filters[f"{block}.skip.resample_filter"] = fir()
        before = c
    return fill(shapes, filters)


def nvlabs_discriminator(resolution=16, c_dim=0, img_channels=3):
    shapes, filters, channels = {}, {}, channels_of(resolution)
    for r, c in channels.items():
        if r == 4:
            continue
        convs = {"conv0": (c, c, 3, 3), "conv1": (channels[r // 2], c, 3, 3), "skip": (channels[r // 2], c, 1, 1)}
        if r == resolution:
            convs["fromrgb"] = (c, img_channels, 1, 1)
        filters[f"b{r}.resample_filter"] = fir()
        for conv, shape in convs.items():
            shapes[f"b{r}.{conv}.weight"] = shape
            filters[f"b{r}.{conv}.resample_filter"] = fir()
            if conv != "skip":
                shapes[f"b{r}.{conv}.bias"] = shape[:1]
    c = channels[4]
    cmap = c if c_dim else 1
    if c_dim:
        shapes |= {"mapping.embed.weight": (c, c_dim), "mapping.embed.bias": (c,)}
        for i in range(8):
            shapes |= {f"mapping.fc{i}.weight": (c, c), f"mapping.fc{i}.bias": (c,)}
    filters["b4.conv.resample_filter"] = fir()
    shapes |= {"b4.conv.weight": (c, c + 1, 3, 3), "b4.conv.bias": (c,), "b4.fc.weight": (c, c * 16), "b4.fc.bias": (c,)}
    return fill(shapes | {"b4.out.weight": (cmap, c), "b4.out.bias": (cmap,)}, filters)


class Persistent:
    """Pickles as an object of a persistent class does."""

    def __init__(self, class_name, tensors, kwargs=None, module_src=""):
        children = OrderedDict()
        for name in tensors:
            if "." in name:
                children.setdefault(name.split(".")[0], OrderedDict())
        own = OrderedDict((name, value) for name, value in tensors.items() if "." not in name)
        for name, value in tensors.items():
            child, _, rest = name.partition(".")
            if rest:
                children[child][rest] = value
        is_buffer = {name: name.endswith(("_filter", "_const", "w_avg")) for name in own}
        self.meta = {"type": "class", "version": 6, "module_src": module_src, "class_name": class_name}
        self.meta["state"] = {
            "training": False,
            "_parameters": OrderedDict((name, torch.nn.Parameter(value)) for name, value in own.items() if not is_buffer[name]),
            "_buffers": OrderedDict((name, value) for name, value in own.items() if is_buffer[name]),
            "_modules": OrderedDict((name, Persistent("Layer", part, module_src=module_src)) for name, part in children.items()),
            "_non_persistent_buffers_set": set(),
            "_forward_hooks": OrderedDict(),
            "_init_args": (),
            "_init_kwargs": EasyDict(kwargs or {}),
        }

    def __reduce__(self):
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (self.meta,)


class EasyDict(dict):
    """A dict that pickles as NVlabs' does."""


EasyDict.__module__ = "dnnlib.util"


@contextlib.contextmanager
def nvlabs_modules():
    """The modules that a pickle made in here names; unpickled by `pickle`, it runs its `module_src`, as theirs would."""

    def _reconstruct_persistent_obj(meta):
        exec(meta["module_src"], {})
        return meta

    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")
    _reconstruct_persistent_obj.__module__, _reconstruct_persistent_obj.__qualname__ = persistence.__name__, "_reconstruct_persistent_obj"
    persistence._reconstruct_persistent_obj, util.EasyDict = _reconstruct_persistent_obj, EasyDict
    made = {"torch_utils": types.ModuleType("torch_utils"), "dnnlib": types.ModuleType("dnnlib")}
    made |= {module.__name__: module for module in (persistence, util)}
    try:
        sys.modules.update(made)
        yield
    finally:
        for name in made:
            del sys.modules[name]


def nvlabs_pickle(networks, kwargs=None, module_src="", protocol=4):
    """{"G": state dict, ...} as a network-snapshot.pkl."""
    with nvlabs_modules():
        objects = {}
        for name, tensors in networks.items():
            objects[name] = Persistent("Discriminator" if name == "D" else "Generator", tensors, kwargs, module_src)
        tree = {**objects, "augment_pipe": None, "training_set_kwargs": EasyDict(path="faces.zip", use_labels=False, xflip=True)}
        return pickle.dumps(tree, protocol=protocol)


# rosinality's StyleGAN2 -----------------------------------------------------------------------------------------------------------------


def rosinality_generator(resolution=16):
    shapes, filters, before, number = {}, {}, None, 0
    for i in range(LAYERS):
        shapes |= {f"style.{i + 1}.weight": (W_DIM, W_DIM), f"style.{i + 1}.bias": (W_DIM,)}

    def styled(name, outputs, inputs, r):
        nonlocal number
        modulation = {f"{name}.conv.modulation.weight": (inputs, W_DIM), f"{name}.conv.modulation.bias": (inputs,)}
        shapes.update({f"{name}.conv.weight": (1, outputs, inputs, 3, 3), **modulation})
        shapes.update({f"{name}.noise.weight": (1,), f"{name}.activate.bias": (outputs,), f"noises.noise_{number}": (1, 1, r, r)})
        number += 1

    for i, (r, c) in enumerate(channels_of(resolution).items()):
        if r == 4:
            shapes["input.input"] = (1, c, 4, 4)
            styled("conv1", c, c, r)
        else:
            styled(f"convs.{2 * i - 2}", c, before, r)
            styled(f"convs.{2 * i - 1}", c, c, r)
            filters |= {f"convs.{2 * i - 2}.conv.blur.kernel": fir(4), f"to_rgbs.{i - 1}.upsample.kernel": fir(4)}
        rgb = "to_rgb1" if r == 4 else f"to_rgbs.{i - 1}"
        shapes |= {f"{rgb}.bias": (1, 3, 1, 1), f"{rgb}.conv.weight": (1, 3, c, 1, 1)}
        shapes |= {f"{rgb}.conv.modulation.weight": (c, W_DIM), f"{rgb}.conv.modulation.bias": (c,)}
        before = c
    return fill(shapes, filters)


def rosinality_discriminator(resolution=16):
    channels = channels_of(resolution)
    shapes, filters = {"convs.0.0.weight": (channels[resolution], 3, 1, 1), "convs.0.1.bias": (channels[resolution],)}, {}
    for i, r in enumerate(reversed([r for r in channels if r > 4]), 1):
        c, after = channels[r], channels[r // 2]
        shapes |= {
            f"convs.{i}.conv1.0.weight": (c, c, 3, 3),
            f"convs.{i}.conv1.1.bias": (c,),
            f"convs.{i}.conv2.1.weight": (after, c, 3, 3),
        }
        shapes |= {f"convs.{i}.conv2.2.bias": (after,), f"convs.{i}.skip.1.weight": (after, c, 1, 1)}
        filters |= {f"convs.{i}.conv2.0.kernel": fir(), f"convs.{i}.skip.0.kernel": fir()}
    c = channels[4]
    shapes |= {"final_conv.0.weight": (c, c + 1, 3, 3), "final_conv.1.bias": (c,), "final_linear.0.weight": (c, 16 * c)}
    return fill(shapes | {"final_linear.0.bias": (c,), "final_linear.1.weight": (1, c), "final_linear.1.bias": (1,)}, filters)


def rosinality_training():
    """A training's file: three networks, an optimiser, the settings."""
    parameter = torch.nn.Parameter(torch.randn(3))
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.ones(3)
    optimizer.step()
    g, d, g_ema = rosinality_generator(), rosinality_discriminator(), rosinality_generator()
    args = argparse.Namespace(size=16, latent=W_DIM, n_mlp=LAYERS, path="faces")
    state = {"g_optim": optimizer.state_dict(), "d_optim": optimizer.state_dict(), "args": args, "ada_aug_p": 0.25}
    return {"g": g, "d": d, "g_ema": g_ema, **state}


# StyleGAN2 under other names, and the same under rosinality's ----------------------------------------------------------------------------

BASICSR = {
    "style": "style_mlp.{i}.{part}",
    "const": "constant_input.weight",
    "conv1": "style_conv1",
    "conv": "style_convs.{i}",
    "weight": "modulated_conv.weight",
    "modulation": {"weight": "modulated_conv.modulation.weight", "bias": "modulated_conv.modulation.bias"},
    "noise": "weight",
    "noises": "noises.noise{i}",
}
MMAGIC = {
    "style": "style_mapping.{i}.{part}",
    "const": "constant_input.input",
    "conv1": "conv1",
    "conv": "convs.{i}",
    "weight": "conv.weight",
    "modulation": {"weight": "conv.style_modulation.linear.weight_orig", "bias": "conv.style_modulation.bias"},
    "noise": "noise_injector.weight",
    "noises": "injected_noise_{i}",
}


def renamed_generator(names, filters):
    """(rosinality's state dict, the same tensors under other names)"""
    ours = rosinality_generator()
    theirs = OrderedDict()
    for i in range(1, LAYERS + 1):
        for part in ("weight", "bias"):
            their_part = "linear.weight_orig" if names is MMAGIC and part == "weight" else part
            theirs[names["style"].format(i=i, part=their_part)] = ours[f"style.{i}.{part}"]
    theirs[names["const"]] = ours["input.input"]
    for name, their_name in [("conv1", names["conv1"])] + [(f"convs.{i}", names["conv"].format(i=i)) for i in range(4)]:
        theirs[f"{their_name}.{names['noise']}"] = ours[f"{name}.noise.weight"]
        theirs[f"{their_name}.activate.bias"] = ours[f"{name}.activate.bias"]
    for i in range(5):
        theirs[names["noises"].format(i=i)] = ours[f"noises.noise_{i}"]
    for name in ["conv1", *(f"convs.{i}" for i in range(4)), "to_rgb1", "to_rgbs.0", "to_rgbs.1"]:
        their_name = names["conv1"] if name == "conv1" else names["conv"].format(i=name[-1]) if name.startswith("convs") else name
        theirs[f"{their_name}.{names['weight']}"] = ours[f"{name}.conv.weight"]
        for part, modulation in names["modulation"].items():
            theirs[f"{their_name}.{modulation}"] = ours[f"{name}.conv.modulation.{part}"]
        if name.startswith("to_rgb"):
            theirs[f"{name}.bias"] = ours[f"{name}.bias"]
    if filters:
        theirs.update({name: value for name, value in ours.items() if name.endswith("kernel")})
    return ours, theirs


def basicsr_discriminator():
    """(rosinality's, BasicSR's)"""
    ours = rosinality_discriminator()
    theirs = {("conv_body" + name[5:] if name.startswith("convs") else name): x for name, x in ours.items() if not name.endswith("kernel")}
    return ours, theirs


def genforce_stylegan2():
    """(rosinality's names for genforce's numbers, genforce's)"""
    ours, theirs = rosinality_generator(), OrderedDict({"truncation.w_avg": torch.randn(W_DIM)})
    for i in range(LAYERS):
        theirs |= {f"mapping.dense{i}.{part}": ours[f"style.{i + 1}.{part}"] for part in ("weight", "bias")}
    theirs["synthesis.early_layer.const"] = ours["input.input"]
    layers = {"conv1": "layer0", "to_rgb1": "output0"} | {f"convs.{i}": f"layer{i + 1}" for i in range(4)}
    for name, layer in (layers | {f"to_rgbs.{i}": f"output{i + 1}" for i in range(2)}).items():
        layer = f"synthesis.{layer}"
        theirs[f"{layer}.weight"] = ours[f"{name}.conv.weight"][0]
        theirs[f"{layer}.style.weight"] = ours[f"{name}.conv.modulation.weight"]
        theirs[f"{layer}.style.bias"] = ours[f"{name}.conv.modulation.bias"] - 1
        if name.startswith("to_rgb"):
            theirs[f"{layer}.bias"] = ours[f"{name}.bias"].flatten()
            continue
        theirs[f"{layer}.bias"] = ours[f"{name}.activate.bias"]
        theirs[f"{layer}.noise"] = ours[f"noises.noise_{layer[-1]}"]
        theirs[f"{layer}.noise_strength"] = ours[f"{name}.noise.weight"][0]
        if name in ("convs.0", "convs.2"):
            theirs[f"{layer}.filter.kernel"] = fir(4)[None, None]
    return ours, theirs


def genforce_discriminator():
    """(rosinality's, genforce's)"""
    ours, names = rosinality_discriminator(), {}
    for i, block in enumerate(("convs.1", "convs.2")):
        names |= {f"{block}.conv1.0.weight": f"layer{2 * i}.weight", f"{block}.conv1.1.bias": f"layer{2 * i}.bias"}
        names |= {f"{block}.conv2.1.weight": f"layer{2 * i + 1}.weight", f"{block}.conv2.2.bias": f"layer{2 * i + 1}.bias"}
        names[f"{block}.skip.1.weight"] = f"skip_layer{i}.weight"
    names |= {"convs.0.0.weight": "input0.weight", "convs.0.1.bias": "input0.bias"}
    names |= {"final_conv.0.weight": "layer4.weight", "final_conv.1.bias": "layer4.bias"}
    names |= {f"final_linear.{i}.{part}": f"layer{5 + i}.{part}" for i in range(2) for part in ("weight", "bias")}
    return ours, {theirs: ours[name] for name, theirs in names.items()}


# StyleGAN -------------------------------------------------------------------------------------------------------------------------------


def seed_generator(resolution=16, base=64, taps=(1, 2, 1)):
    """The published layout."""
    channels, before = channels_of(resolution, base), None
    shapes, filters = {}, {}
    for i in range(LAYERS):
        shapes |= {f"mapping.dense{i}.weight": (W_DIM, W_DIM), f"mapping.dense{i}.bias": (W_DIM,)}
    for r, c in channels.items():
        block, conv = f"blocks.{r}x{r}", "conv" if r == 4 else "conv1"
        if r == 4:
            shapes |= {f"{block}.const": (1, c, 4, 4), f"{block}.bias": (c,)}
        else:
            shapes |= {f"{block}.conv0_up.weight": (c, before, 3, 3), f"{block}.conv0_up.bias": (c,)}
            row = torch.tensor(taps, dtype=torch.float32)
            filters[f"{block}.conv0_up.blur.weight"] = (row.outer(row) / row.sum() ** 2)[None, None]
        shapes |= {f"{block}.{conv}.weight": (c, c, 3, 3), f"{block}.{conv}.bias": (c,)}
        for i in (1, 2):
            shapes[f"{block}.epi{i}.top_epi.noise.weight"] = (c,)
            shapes |= {f"{block}.epi{i}.adanorm.linear.weight": (2 * c, W_DIM), f"{block}.epi{i}.adanorm.linear.bias": (2 * c,)}
        before = c
    shapes |= {"torgb.weight": (3, before, 1, 1), "torgb.bias": (3,)}
    return fill(shapes, filters)


def other_torgbs(resolution=16, base=64):
    """A toRGB of every resolution but the last."""
    return {r: (torch.randn(3, c, 1, 1), torch.randn(3)) for r, c in channels_of(resolution, base).items() if r < resolution}


def huangzh13_generator(state, torgbs, blur=True):
    """The published tensors under huangzh13's names."""
    theirs, last = OrderedDict(), max(torgbs) * 2
    for name, x in state.items():
        name = name.replace("mapping.dense", "g_mapping.map.dense").replace("blocks.4x4.", "g_synthesis.init_block.")
        for r in channels_of(last):
            name = name.replace(f"blocks.{r}x{r}.", f"g_synthesis.blocks.{r.bit_length() - 4}.")
        name = name.replace(".adanorm.linear.", ".style_mod.lin.").replace(".blur.weight", ".intermediate.kernel")
        name = name.replace("torgb.", f"g_synthesis.to_rgb.{last.bit_length() - 3}.")
        if blur or not name.endswith("kernel"):
            theirs[name] = x
    for r, (weight, bias) in torgbs.items():
        theirs |= {f"g_synthesis.to_rgb.{r.bit_length() - 3}.{part}": x for part, x in (("weight", weight), ("bias", bias))}
    return theirs


def genforce_stylegan(state, torgbs):
    """The published tensors under genforce's names, and noise."""
    theirs, last = OrderedDict({"truncation.w_avg": torch.randn(W_DIM), "synthesis.lod": torch.zeros(())}), max(torgbs) * 2
    for name, x in state.items():
        if name.startswith("mapping"):
            theirs[name] = x
            continue
        if name.startswith("torgb"):
            theirs[f"synthesis.output{last.bit_length() - 3}.{name[6:]}"] = x
            continue
        r = int(name.split(".")[1].split("x")[0])
        rest = name.split(".", 2)[2]
        is_second = rest.startswith(("conv1", "epi2", "conv."))
        layer = f"synthesis.layer{2 * (r.bit_length() - 3) + is_second}"
        part = rest.rpartition(".")[2]
        inner = (
            "blur.kernel"
            if ".blur." in rest
            else "apply_noise.weight"
            if ".noise." in rest
            else f"style.{part}"
            if "adanorm" in rest
            else part
        )
        theirs[f"{layer}.{inner}"] = x
        if inner == "apply_noise.weight":
            theirs[f"{layer}.apply_noise.noise"] = torch.randn(1, 1, r, r)
    for r, (weight, bias) in torgbs.items():
        theirs |= {f"synthesis.output{r.bit_length() - 3}.{part}": x for part, x in (("weight", weight), ("bias", bias))}
    return theirs


def genforce_progan(resolution=16):
    channels, before, shapes = channels_of(resolution), 7, {}
    for i, (_r, c) in enumerate(channels.items()):
        for k in range(2):
            shapes |= {f"layer{2 * i + k}.weight": (c, before, *((4, 4) if i + k == 0 else (3, 3))), f"layer{2 * i + k}.bias": (c,)}
            before = c
        shapes |= {f"output{i}.weight": (3, c, 1, 1), f"output{i}.bias": (3,)}
    return fill(shapes) | {"lod": torch.zeros(())}


def style_based_generator(resolution=16, fused=(2,), is_exact=True):
    """rosinality's StyleGAN; `fused` are the blocks with a transposed convolution."""
    shapes, filters, before = {}, {}, None
    for i in range(LAYERS):
        shapes |= {f"style.{2 * i + 1}.linear.weight_orig": (W_DIM, W_DIM), f"style.{2 * i + 1}.linear.bias": (W_DIM,)}
    for i, c in enumerate(channels_of(resolution).values()):
        block = f"generator.progression.{i}"
        if i == 0:
            shapes[f"{block}.conv1.input"] = (1, c, 4, 4)
        elif i in fused:
            shapes |= {f"{block}.conv1.0.weight": (before, c, 3, 3), f"{block}.conv1.0.bias": (c,)}
        else:
            shapes |= {f"{block}.conv1.1.conv.weight_orig": (c, before, 3, 3), f"{block}.conv1.1.conv.bias": (c,)}
        if i > 0:
            row = torch.tensor([1.0, 2, 1])
            for name in ("weight", "weight_flip"):
                filters[f"{block}.conv1.{1 if i in fused else 2}.{name}"] = (row.outer(row) / 16).expand(c, 1, 3, 3)
        shapes |= {f"{block}.conv2.conv.weight_orig": (c, c, 3, 3), f"{block}.conv2.conv.bias": (c,)}
        for k in (1, 2):
            shapes[f"{block}.noise{k}.weight_orig"] = (1, c, 1, 1)
            shapes |= {f"{block}.adain{k}.style.linear.weight_orig": (2 * c, W_DIM), f"{block}.adain{k}.style.linear.bias": (2 * c,)}
        shapes |= {f"generator.to_rgb.{i}.conv.weight_orig": (3, c, 1, 1), f"generator.to_rgb.{i}.conv.bias": (3,)}
        before = c
    state = fill(shapes, filters)
    for name in state:
        if is_exact and name.endswith(("conv1.0.bias", "conv1.1.conv.bias")):
            state[name] = torch.zeros_like(state[name])
    return state
