"""TensorFlow's pickles of NVlabs, made from the numbers of other layouts."""

from __future__ import annotations

import pickle
import sys
import types

import numpy as np
import torch
from layouts import LAYERS, W_DIM, EasyDict, nvlabs_modules, rosinality_discriminator, rosinality_generator


class Network:
    """Pickles as a network of the TensorFlow code bases does."""

    def __init__(self, name, variables, source, components):
        self.state = {"version": 4, "name": name, "build_module_src": source, "variables": variables, "components": components}

    def __getstate__(self):
        return self.state

    def __setstate__(self, state):
        exec(state["build_module_src"], {})


Network.__module__ = "dnnlib.tflib.network"


def pickled(networks, source=""):
    """Networks' variables as a network-snapshot.pkl, the tuple (G, D, Gs); a generator's are mostly those of its components."""
    module = types.ModuleType("dnnlib.tflib.network")
    module.Network = Network

    def network(name, variables):
        if isinstance(variables, Network):
            return variables

        def part(*starts):
            return [(key, x) for key, x in variables.items() if key.startswith(starts)]

        if "dlatent_avg" not in variables:
            return Network(name, list(variables.items()), source, EasyDict())
        mapping = part("Dense", "Label")
        own = {"dlatent_avg", *dict(mapping)}
        synthesis = [(key, x) for key, x in variables.items() if key not in own]
        parts = {
            "mapping": Network("G_mapping", mapping, source, EasyDict()),
            "synthesis": Network("G_synthesis", synthesis, source, EasyDict()),
        }
        return Network(name, part("dlatent_avg"), source, EasyDict(parts))

    with nvlabs_modules():
        sys.modules |= {"dnnlib.tflib": types.ModuleType("dnnlib.tflib"), module.__name__: module}
        data = pickle.dumps(tuple(network(name, variables) for name, variables in networks), protocol=3)
        assert b"dnnlib.tflib.network" in data
        for name in ("dnnlib.tflib", module.__name__):
            del sys.modules[name]
    return data


def hwio(x):
    """A convolution [out, in, height, width] as TensorFlow has it."""
    return x.permute(2, 3, 1, 0).numpy()


def stylegan2():
    """(rosinality's names for TensorFlow's numbers, TensorFlow's)"""
    ours = rosinality_generator()
    theirs = {f"Dense{i}/{part}": ours[f"style.{i + 1}.{part}"].t().numpy() for i in range(LAYERS) for part in ("weight", "bias")}
    theirs |= {"dlatent_avg": np.random.default_rng(0).standard_normal(W_DIM).astype("f4"), "4x4/Const/const": ours["input.input"].numpy()}
    layers = {"conv1": "4x4/Conv", "to_rgb1": "4x4/ToRGB", "convs.0": "8x8/Conv0_up", "convs.1": "8x8/Conv1", "to_rgbs.0": "8x8/ToRGB"}
    layers |= {"convs.2": "16x16/Conv0_up", "convs.3": "16x16/Conv1", "to_rgbs.1": "16x16/ToRGB"}
    for name, layer in layers.items():
        weight = ours[f"{name}.conv.weight"][0]
        theirs[f"{layer}/weight"] = hwio(weight.flip(2, 3) if layer.endswith("up") else weight)
        theirs[f"{layer}/mod_weight"] = ours[f"{name}.conv.modulation.weight"].t().numpy()
        theirs[f"{layer}/mod_bias"] = (ours[f"{name}.conv.modulation.bias"] - 1).numpy()
        theirs[f"{layer}/bias"] = (ours[f"{name}.bias"].flatten() if "rgb" in name else ours[f"{name}.activate.bias"]).numpy()
        if "rgb" not in name:
            theirs[f"{layer}/noise_strength"] = np.float32(ours[f"{name}.noise.weight"].item())
    return ours, theirs | {f"noise{i}": ours[f"noises.noise_{i}"].numpy() for i in range(5)}


def discriminator():
    """(rosinality's, TensorFlow's)"""
    ours, theirs = rosinality_discriminator(), {}
    names = {"convs.0.0.weight": "16x16/FromRGB/weight", "convs.0.1.bias": "16x16/FromRGB/bias"}
    for block, r in (("convs.1", "16x16"), ("convs.2", "8x8")):
        names |= {f"{block}.conv1.0.weight": f"{r}/Conv0/weight", f"{block}.conv1.1.bias": f"{r}/Conv0/bias"}
        names |= {f"{block}.conv2.1.weight": f"{r}/Conv1_down/weight", f"{block}.conv2.2.bias": f"{r}/Conv1_down/bias"}
        names[f"{block}.skip.1.weight"] = f"{r}/Skip/weight"
    names |= {"final_conv.0.weight": "4x4/Conv/weight", "final_conv.1.bias": "4x4/Conv/bias"}
    names |= {
        f"final_linear.{i}.{part}": f"{layer}/{part}" for i, layer in enumerate(("4x4/Dense0", "Output")) for part in ("weight", "bias")
    }
    for name, layer in names.items():
        theirs[layer] = hwio(ours[name]) if ours[name].ndim == 4 else ours[name].t().numpy()
    return ours, theirs


def stylegan(state, torgbs):
    """The published tensors under TensorFlow's names, with noise."""
    last = max(torgbs) * 2
    theirs = {"dlatent_avg": np.zeros(W_DIM, "f4"), "lod": np.float32(0)}
    for name, x in state.items():
        part = name.rpartition(".")[2]
        if name.startswith("mapping.dense"):
            theirs[f"Dense{name.split('.')[1][5:]}/{part}"] = x.t().numpy()
        elif name.startswith("torgb"):
            theirs[f"ToRGB_lod0/{part}"] = hwio(x) if part == "weight" else x.numpy()
        elif ".blur." not in name:
            size, rest = name.split(".", 2)[1:]
            second = rest.startswith(("conv1", "epi2", "conv."))
            layer = f"{size}/" + (("Const", "Conv") if size == "4x4" else ("Conv0_up", "Conv1"))[second]
            if "adanorm" in rest:
                theirs[f"{layer}/StyleMod/{part}"] = x.t().numpy()
            elif "noise" in rest:
                r = int(size.split("x")[0])
                theirs[f"{layer}/Noise/weight"] = x.numpy()
                theirs[f"noise{2 * (r.bit_length() - 3) + second}"] = torch.randn(1, 1, r, r).numpy()
            else:
                theirs[f"{layer}/{part}"] = hwio(x) if part == "weight" else x.numpy()
    for r, (weight, bias) in torgbs.items():
        lod = last.bit_length() - r.bit_length()
        theirs |= {f"ToRGB_lod{lod}/weight": hwio(weight), f"ToRGB_lod{lod}/bias": bias.numpy()}
    return theirs
