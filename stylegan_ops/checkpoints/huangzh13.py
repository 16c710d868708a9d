"""huangzh13's StyleGAN.pytorch: the state dict of a generator (`GAN_GEN_*.pth`, or of the averaged one `GAN_GEN_SHADOW_*.pth`).

Its tensors are those of the published network, see `karras2019`, with a toRGB for every resolution.
"""

from __future__ import annotations

from typing import Any

from stylegan_ops._pickle_machine import Fault

from .arguments import stylegan_generator
from .layout import Table, count, flat, is_state_dict, ones, resolutions, to_ours
from .report import Report
from .stylegan_names import Part, stylegan_table
from .weights import Weights

NAME = "huangzh13"
_BLUR = ".conv0_up.intermediate.kernel"


def matches(tree: Any) -> bool:
    """A state dict of a generator or discriminator."""
    return is_state_dict(tree) and ("g_synthesis.init_block.const" in tree or "final_block.conv.weight" in tree)


def read(tree: Any, report: Report) -> dict[str, Weights]:
    """The generator."""
    if "final_block.conv.weight" in tree:
        raise Fault("it is a discriminator, of which this layout is known by its generators alone")
    steps = count(tree, r"g_synthesis\.to_rgb\.(\d+)\.")
    table = stylegan_table(steps, count(tree, r"g_mapping\.map\.dense(\d+)\."), _name)
    if "truncation.avg_latent" not in tree:
        del table["truncation.avg_latent"]
    if any(name.endswith(_BLUR) for name in tree):
        table |= _blurs(steps)
    state = to_ours(table, tree, report)
    report.notes.append("which depth the training had reached is not in the file; the network stands at its full size")
    return {"G": Weights("stylegan", "Generator", stylegan_generator(state), state)}


def _blurs(steps: int) -> Table:
    sizes = resolutions(steps)[1:]
    return {f"g_synthesis.blocks.{j}{_BLUR}": (f"synthesis.up{r}.blur.resample_filter", ones(2)) for j, r in enumerate(sizes)}


def _name(part: Part) -> Any:
    block = f"g_synthesis.blocks.{part.i - 1}" if part.i else "g_synthesis.init_block"
    conv = "conv0_up" if part.k == 0 else "conv1" if part.i else "conv"
    epilogue = f"{block}.epi{part.k + 1}"
    return {
        "dense": f"g_mapping.map.dense{part.i}.{part.part}",
        "w_avg": ("truncation.avg_latent", flat(1)),
        "const": (f"{block}.const", ones(1)),
        "weight": f"{block}.{conv}.weight",
        "bias": f"{block}.{conv}.bias" if (part.i, part.k) != (0, 0) else f"{block}.bias",
        "noise": f"{epilogue}.top_epi.noise.weight",
        "noise_const": None,
        "style": f"{epilogue}.style_mod.lin.{part.part}",
        "torgb": f"g_synthesis.to_rgb.{part.i}.{part.part}",
    }[part.kind]
