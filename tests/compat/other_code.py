"""Small code bases in the style of each family, written here: what their trainings and models do with the ops, and ops of their own.

Each is a mapping of files below a folder. Their own ops return marks instead of tensors, so that a test sees whose ran.
"""

from pathlib import Path

THEIR_FUNCTION = "def {name}(*args, **kwargs):\n    return 'theirs'\n"

NVLABS = {
    "torch_utils/__init__.py": "",
    "torch_utils/misc.py": "def params_and_buffers(module):\n    return [*module.parameters(), *module.buffers()]\n",
    "torch_utils/persistence.py": "from . import misc\n",
    "torch_utils/custom_ops.py": "verbosity = 'brief'\n" + THEIR_FUNCTION.format(name="get_plugin"),
    "torch_utils/ops/__init__.py": "",
    "torch_utils/ops/special.py": "ours = False\n",
    "torch_utils/ops/bias_act.py": "import torch\nfrom .. import custom_ops, misc\n" + THEIR_FUNCTION.format(name="bias_act"),
    "torch_utils/ops/upfirdn2d.py": THEIR_FUNCTION.format(name="upfirdn2d") + THEIR_FUNCTION.format(name="upsample2d"),
    "torch_utils/ops/conv2d_gradfix.py": "from torch.nn.functional import conv2d\nenabled = False\n",
    "training/__init__.py": "",
    "training/networks.py": '''
import torch
from torch_utils import misc, persistence
from torch_utils.ops import bias_act, conv2d_gradfix, conv2d_resample, fma, upfirdn2d
from torch_utils.ops.upfirdn2d import upsample2d


class Layer(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(channels, channels, 3, 3))
        self.bias = torch.nn.Parameter(torch.zeros(channels))
        self.register_buffer("resample_filter", upfirdn2d.setup_filter([1, 3, 3, 1]))

    def forward(self, x):
        gain = bias_act.activation_funcs["lrelu"].def_gain
        y = conv2d_resample.conv2d_resample(x, self.weight, f=self.resample_filter, up=2, padding=1, flip_weight=False)
        y = bias_act.bias_act(y, self.bias.to(x.dtype), act="lrelu", gain=gain, clamp=256)
        return fma.fma(y, torch.ones([]), upsample2d(x, self.resample_filter))


def r1_step(channels=2):
    """A training step with a gradient penalty; returns the parameters' gradients."""
    conv2d_gradfix.enabled = True
    layer = Layer(channels)
    x = torch.randn(2, channels, 5, 5, requires_grad=True)
    with conv2d_gradfix.no_weight_gradients():
        (gradient,) = torch.autograd.grad([layer(x).pow(2).sum()], [x], create_graph=True, only_inputs=True)
    gradient.square().sum().backward()
    return [p.grad for p in layer.parameters()] + misc.params_and_buffers(layer)[2:]
''',
}

ROSINALITY = {
    "op/__init__.py": "from .fused_act import FusedLeakyReLU, fused_leaky_relu\nfrom .upfirdn2d import upfirdn2d\n",
    "op/fused_act.py": THEIR_FUNCTION.format(name="fused_leaky_relu")
    + """
import torch


class FusedLeakyReLU(torch.nn.Module):
    def __init__(self, channel):
        super().__init__()
        self.bias = torch.nn.Parameter(torch.zeros(channel))

    def forward(self, input):
        return fused_leaky_relu(input, self.bias, 0.2, 2**0.5)
""",
    "op/upfirdn2d.py": THEIR_FUNCTION.format(name="upfirdn2d"),
    "op/conv2d_gradfix.py": "enabled = True\n",
    "op/extra.py": "here = True\n",
    "model.py": """
import torch
from op import FusedLeakyReLU, conv2d_gradfix, fused_leaky_relu, upfirdn2d


class Block(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.activate = FusedLeakyReLU(channels)
        self.weight = torch.nn.Parameter(torch.randn(channels, channels, 3, 3))
        k = torch.tensor([1.0, 3.0, 3.0, 1.0])
        self.register_buffer("kernel", k[None] * k[:, None] / 64 * 4)

    def forward(self, x):
        y = conv2d_gradfix.conv_transpose2d(x, self.weight, stride=2)
        return self.activate(upfirdn2d(y, self.kernel, pad=(1, 1)))


def r1_step(channels=2):
    block = Block(channels)
    x = torch.randn(2, channels, 5, 5, requires_grad=True)
    with conv2d_gradfix.no_weight_gradients():
        (gradient,) = torch.autograd.grad(block(x).pow(2).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    return [p.grad for p in block.parameters()]
""",
}

MMCV = {
    "mmcv/__init__.py": "__version__ = '2.2.0'\n",
    "mmcv/ops/__init__.py": "from .bias_act import bias_act\nfrom .nms import nms\nfrom torch.nn.functional import conv2d\n",
    "mmcv/ops/bias_act.py": THEIR_FUNCTION.format(name="bias_act"),
    "mmcv/ops/nms.py": THEIR_FUNCTION.format(name="nms"),
    "editor.py": """
import mmcv
import torch
from mmcv.ops import FusedBiasLeakyReLU, bias_act, conv2d, filter2d, nms
from mmcv.ops.upfirdn2d import downsample2d

assert mmcv.__version__ and nms() == "theirs"


def run():
    x, f = torch.randn(1, 2, 6, 6), torch.ones(2, 2) / 4
    return FusedBiasLeakyReLU(2)(downsample2d(input=filter2d(x, filter=f, padding=1), filter=f)).shape
""",
}

BASICSR = {
    "basicsr/__init__.py": "from .archs import arch\n",
    "basicsr/archs/__init__.py": "",
    "basicsr/archs/arch.py": """
import torch
from basicsr.ops.fused_act import FusedLeakyReLU, fused_leaky_relu
from basicsr.ops.upfirdn2d import upfirdn2d


def run():
    x = torch.randn(1, 2, 6, 6)
    return FusedLeakyReLU(2)(upfirdn2d(x, torch.ones(2, 2), up=2, pad=(1, 0)))
""",
    "basicsr/ops/__init__.py": "",
    "basicsr/ops/fused_act/__init__.py": "raise ImportError('fused_act_ext')\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder
