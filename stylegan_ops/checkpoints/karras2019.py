"""The layout of the published StyleGAN generators in PyTorch, `karras2019stylegan-ffhq-1024x1024-generator.pt` for one.

116 tensors at 1024x1024: a mapping network, the blocks of two convolutions, and the last toRGB. Its file has neither w_avg nor the noise
of `noise_mode="const"`. Both directions rename, and drop or add dimensions of length 1. From 128x128 on the published network upsamples
inside a transposed convolution, which runs through its weights the other way round than the convolution behind an upsampling does that
it uses below: these weights are flipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch


def from_karras2019(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename a published generator's tensors to those of `stylegan_ops.models.stylegan.Generator(resolution, progressive=False)`.

        G = Generator(1024, progressive=False)
        G.load_state_dict(from_karras2019(torch.load(path, weights_only=True)), strict=False)
        G.mapping.w_avg.copy_(estimate_w_avg(G.mapping))  # only truncation needs it

    Args:
        state_dict: tensors by the names `mapping.dense{i}.*`, `blocks.{r}x{r}.*` and `torgb.*`, of any resolution.

    Returns:
        All parameters and the blurs of such a Generator, the same memory where nothing is flipped; its other buffers (the noise of
        "const", w_avg, filters) keep what they are built with.

    Raises:
        ValueError: a name is missing or is not of this layout, or a shape does not fit the others.
    """
    names = _names_of("from_karras2019", state_dict, r"mapping\.dense(\d+)\.", r"blocks\.(\d+)x")
    _check_names("from_karras2019", state_dict, names)
    channels = {r: state_dict[f"blocks.{r}x{r}.{_last_conv(r)}.bias"].numel() for r in _resolutions(names)}
    for theirs, shape in _shapes(state_dict, channels).items():
        if tuple(state_dict[theirs].shape) != shape:
            raise ValueError(f"from_karras2019: {theirs} must have shape {shape} (got shape {tuple(state_dict[theirs].shape)})")
    return {ours: _turned(theirs, _without_leading_ones(theirs, state_dict[theirs])) for theirs, ours in names.items()}


def to_karras2019(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The inverse of `from_karras2019`: give a generator's tensors the published names.

    Args:
        state_dict: of a `stylegan_ops.models.stylegan.Generator` in the default form of its layers, without labels. What the layout has no
            place for is left out: noise, w_avg, the toRGBs below the last.

    Returns:
        The tensors by their published names, the same memory where nothing is flipped.

    Raises:
        ValueError: a name is missing or belongs to a generator of another form.
    """
    names = _names_of("to_karras2019", state_dict, r"mapping\.fc(\d+)\.", r"synthesis\.conv(\d+)\.")
    left_out = re.compile(r"mapping\.w_avg|.*\.noise_const|synthesis\.torgb\d+\..*|synthesis\.(up\d+\.)?conv\d*\.resample_filter")
    wanted = set(names.values())
    _check_names("to_karras2019", [name for name in state_dict if name in wanted or not left_out.fullmatch(name)], names.values())
    return {theirs: _turned(theirs, _with_leading_ones(theirs, state_dict[ours])) for theirs, ours in names.items()}


def is_fused(r: int) -> bool:
    """Whether the published network upsamples to this resolution inside a transposed convolution."""
    return r >= 128


def _turned(theirs: str, x: torch.Tensor) -> torch.Tensor:
    found = re.fullmatch(r"blocks\.(\d+)x\d+\.conv0_up\.weight", theirs)
    return x.flip(2, 3) if found and is_fused(int(found[1])) else x


def _last_conv(r: int) -> str:
    return "conv" if r == 4 else "conv1"


def _resolutions(names: Mapping[str, str]) -> list[int]:
    return sorted({int(found[1]) for name in names if (found := re.match(r"blocks\.(\d+)x", name))})


def _names_of(owner: str, given: Iterable[str], layer: str, block: str) -> dict[str, str]:
    """Published name -> name here, for as many layers and resolutions as the given names speak of."""
    layers = {int(found[1]) for name in given if (found := re.match(layer, name))}
    blocks = {int(found[1]) for name in given if (found := re.match(block, name))}
    if not layers or not blocks:
        raise ValueError(f"{owner}: state_dict must be that of a StyleGAN generator (got {len(list(given))} names, {_some(given)})")
    names = {f"mapping.dense{i}.{part}": f"mapping.fc{i}.{part}" for i in range(max(layers) + 1) for part in ("weight", "bias")}
    for r in (2**i for i in range(2, max(blocks).bit_length())):
        theirs = f"blocks.{r}x{r}"
        if r == 4:
            names |= {f"{theirs}.const": "synthesis.const", f"{theirs}.bias": "synthesis.epilogue4_0.bias"}
        else:
            names[f"{theirs}.conv0_up.weight"] = f"synthesis.up{r}.conv.weight"
            names[f"{theirs}.conv0_up.bias"] = f"synthesis.epilogue{r}_0.bias"
            names[f"{theirs}.conv0_up.blur.weight"] = f"synthesis.up{r}.blur.resample_filter"
        names[f"{theirs}.{_last_conv(r)}.weight"] = f"synthesis.conv{r}.weight"
        names[f"{theirs}.{_last_conv(r)}.bias"] = f"synthesis.epilogue{r}_1.bias"
        for i in range(2):
            names[f"{theirs}.epi{i + 1}.top_epi.noise.weight"] = f"synthesis.epilogue{r}_{i}.noise.strength"
            for part in ("weight", "bias"):
                names[f"{theirs}.epi{i + 1}.adanorm.linear.{part}"] = f"synthesis.epilogue{r}_{i}.adain.affine.{part}"
    return names | {f"torgb.{part}": f"synthesis.torgb{max(blocks)}.{part}" for part in ("weight", "bias")}


def _check_names(owner: str, given: Iterable[str], expected: Iterable[str]) -> None:
    given, expected = set(given), set(expected)
    if missing := expected - given:
        raise ValueError(f"{owner}: state_dict must have all names of the layout (lacks {len(missing)}: {_some(missing)})")
    if others := given - expected:
        raise ValueError(f"{owner}: state_dict must have no other names than the layout's (has {len(others)}: {_some(others)})")


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _shapes(state_dict: Mapping[str, torch.Tensor], channels: dict[int, int]) -> dict[str, tuple[int, ...]]:
    """The published shapes of a network of these widths; the lengths of z and w and the number of the image's channels are the file's."""
    w_dim, z_dim = state_dict["mapping.dense0.bias"].numel(), state_dict["mapping.dense0.weight"].shape[-1]
    img_channels = state_dict["torgb.bias"].numel()
    last = max(channels)
    shapes = {"torgb.weight": (img_channels, channels[last], 1, 1), "torgb.bias": (img_channels,)}
    for name in state_dict:
        if found := re.match(r"mapping\.dense(\d+)\.(weight|bias)", name):
            shapes[name] = (w_dim,) if found[2] == "bias" else (w_dim, z_dim if found[1] == "0" else w_dim)
    for r, c in channels.items():
        theirs = f"blocks.{r}x{r}"
        if r == 4:
            shapes |= {f"{theirs}.const": (1, c, 4, 4), f"{theirs}.bias": (c,)}
        else:
            taps = state_dict[f"{theirs}.conv0_up.blur.weight"].shape[-1]
            shapes[f"{theirs}.conv0_up.weight"] = (c, channels[r // 2], 3, 3)
            shapes[f"{theirs}.conv0_up.bias"] = (c,)
            shapes[f"{theirs}.conv0_up.blur.weight"] = (1, 1, taps, taps)
        shapes |= {f"{theirs}.{_last_conv(r)}.weight": (c, c, 3, 3), f"{theirs}.{_last_conv(r)}.bias": (c,)}
        for i in (1, 2):
            shapes[f"{theirs}.epi{i}.top_epi.noise.weight"] = (c,)
            shapes[f"{theirs}.epi{i}.adanorm.linear.weight"] = (2 * c, w_dim)
            shapes[f"{theirs}.epi{i}.adanorm.linear.bias"] = (2 * c,)
    return shapes


def _ones(theirs: str) -> int:
    """How many dimensions of length 1 the published tensor has in front."""
    return {"const": 1, "weight": 2 if ".blur." in theirs else 0}.get(theirs.rsplit(".", 1)[1], 0)


def _without_leading_ones(theirs: str, x: torch.Tensor) -> torch.Tensor:
    return x[(0,) * _ones(theirs)]


def _with_leading_ones(theirs: str, x: torch.Tensor) -> torch.Tensor:
    return x[(None,) * _ones(theirs)]
