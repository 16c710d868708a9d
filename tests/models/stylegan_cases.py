"""Small generators of StyleGAN for the tests, and the definition over their parameters."""

import torch
from stylegan_definition import Definition

from stylegan_ops.models.stylegan import Generator

SIZES = {"channel_base": 64, "channel_max": 8, "z_dim": 6, "w_dim": 5, "num_layers": 3}
SWITCHES = [
    {},
    {"const_input": False},
    {"noise": False},
    {"activation": "relu"},
    {"pixel_norm": True},
    {"instance_norm": False},
    {"instance_norm": False, "pixel_norm": True},
    {"styles": False},
    {"styles": False, "instance_norm": False, "noise": False},
    {"blur_filter": None},
    {"blur_filter": (1, 4, 6, 4, 1)},
    {"norm_eps": 1e-5},
]


def make(img_resolution=16, img_channels=3, **more):
    """A generator in float64 of which no parameter keeps the value it starts with."""
    G = Generator(img_resolution, img_channels, **{**SIZES, **more}).double()
    with torch.no_grad():
        for name, parameter in G.named_parameters():
            if name.endswith(("bias", "strength", "const")):
                parameter += 0.3 * torch.randn_like(parameter)
    return G


def document_names(G) -> dict[str, torch.Tensor]:
    """The generator's parameters by the names of the definition."""
    p = {}
    for name, value in G.state_dict().items():
        kind, *rest = name.removeprefix("mapping.").removeprefix("synthesis.").split(".")
        part = rest[-1] if rest else None
        if kind.startswith("fc"):
            p[f"mapping.dense{kind[2:]}.{part}"] = value
        elif kind == "const":
            p["blocks.4x4.const"] = value[None]
        elif kind == "dense":
            p[f"blocks.4x4.dense.{part}"] = value
        elif kind.startswith("torgb"):
            p[f"torgb.{kind[5:]}.{part}"] = p[f"torgb.{part}"] = value  # the last one stays
        elif kind.startswith("up") and rest == ["conv", "weight"]:
            p[f"blocks.{kind[2:]}x{kind[2:]}.conv0_up.weight"] = value
        elif kind.startswith("conv") and part == "weight":
            p[f"blocks.{kind[4:]}x{kind[4:]}.{'conv' if kind == 'conv4' else 'conv1'}.weight"] = value
        elif kind.startswith("epilogue"):
            r, i = kind.removeprefix("epilogue").split("_")
            block = f"blocks.{r}x{r}"
            if rest == ["bias"]:
                conv = ("conv" if r == "4" else "conv1") if i == "1" else "conv0_up"
                p[f"{block}.bias" if (r, i) == ("4", "0") else f"{block}.{conv}.bias"] = value
            elif rest == ["noise", "strength"]:
                p[f"{block}.epi{int(i) + 1}.top_epi.noise.weight"] = value
            elif rest[0] == "adain":
                p[f"{block}.epi{int(i) + 1}.adanorm.linear.{part}"] = value
    if "blocks.4x4.dense.bias" in p:  # every epilogue has a bias for each feature map
        p["blocks.4x4.dense.bias"] = p["blocks.4x4.dense.bias"] + p.pop("blocks.4x4.bias").repeat_interleave(16)
    return p


def define(G) -> Definition:
    kwargs = G.init_kwargs
    noise = {}
    for name, value in G.named_buffers():
        if name.endswith("noise_const"):
            r, i = name.split(".")[1].removeprefix("epilogue").split("_")
            noise[int(r), int(i)] = value
    switches = {name: kwargs[name] for name in ("activation", "pixel_norm", "instance_norm", "blur_filter")}
    return Definition(document_names(G), noise, **switches, eps=kwargs["norm_eps"])


def assert_same(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9 * float(expected.detach().abs().max()))
