"""Which arguments modulated_conv2d refuses, and in which words."""

import pytest
import torch
from support import assert_rejects

from stylegan_ops import modulated_conv2d, setup_filter

X, WEIGHT, STYLES = torch.zeros(2, 3, 4, 5), torch.zeros(6, 3, 3, 3), torch.zeros(2, 3)


def call(**kwargs):
    return modulated_conv2d(**{"x": X, "weight": WEIGHT, "styles": STYLES, **kwargs})


WEIGHT_RULE = "weight must have shape [O, I, K_h, K_w] with I = 3 as in x"
FACTOR_RULE = "up and down must be single integers, not both above 1"
PADDING_RULE = "padding must be one integer, [x, y] or [left, right, top, bottom]"


@pytest.mark.parametrize(
    ("error", "message", "kwargs"),
    [
        (TypeError, "x must be a tensor (got NoneType)", {"x": None}),
        (TypeError, "x must be of a floating-point dtype (got torch.int64)", {"x": X.long()}),
        (ValueError, "x must have 4 dimensions (got shape (3, 4, 5))", {"x": X[0]}),
        (TypeError, "weight must be a tensor (got Parameters)", {"weight": type("Parameters", (), {})()}),
        (ValueError, f"{WEIGHT_RULE} (got shape (6, 4, 3, 3))", {"weight": torch.zeros(6, 4, 3, 3)}),
        (ValueError, f"{WEIGHT_RULE} (got shape (3, 3, 3))", {"weight": torch.zeros(3, 3, 3)}),
        (ValueError, f"{WEIGHT_RULE} (got shape (6, 3, 0, 3))", {"weight": torch.zeros(6, 3, 0, 3)}),
        (ValueError, "weight must be on the device of the image, cpu (got meta)", {"weight": torch.zeros(6, 3, 3, 3, device="meta")}),
        (ValueError, "styles must have shape [N, I] = [2, 3] (got shape (3,))", {"styles": torch.zeros(3)}),
        (ValueError, "styles must have shape [N, I] = [2, 3] (got shape (1, 3))", {"styles": torch.zeros(1, 3)}),
        (TypeError, "styles must be of a floating-point dtype (got torch.bool)", {"styles": STYLES.bool()}),
        (ValueError, "styles must be on the device of the image, cpu (got meta)", {"styles": torch.zeros(2, 3, device="meta")}),
        (ValueError, "noise must have shape [2, 1, 2, 3], [1, 1, 2, 3] or [2, 3] (got shape (4, 5))", {"noise": torch.zeros(4, 5)}),
        (
            ValueError,
            "noise must have shape [2, 1, 8, 10], [1, 1, 8, 10] or [8, 10] (got shape (4, 5))",
            {"noise": torch.zeros(4, 5), "up": 2, "padding": 1, "resample_filter": setup_filter([1, 3, 3, 1])},
        ),
        (ValueError, "bias must have shape [6], the length of dimension 0 of weight (got shape (3,))", {"bias": torch.zeros(3)}),
        (TypeError, "bias must be a tensor (got float)", {"bias": 0.5}),
        (ValueError, f"{FACTOR_RULE} (got up=(2, 2), down=(2, 2))", {"up": 2, "down": 2}),
        (ValueError, f"{FACTOR_RULE} (got up=(1, 2), down=(1, 1))", {"up": [1, 2]}),
        (ValueError, "up must be at least 1 (got 0)", {"up": 0}),
        (TypeError, "down must be an integer (got 2.0)", {"down": 2.0}),
        (ValueError, f"{PADDING_RULE} (got [1, 1, 1])", {"padding": [1, 1, 1]}),
        (TypeError, "padding must consist of integers (got 0.5)", {"padding": 0.5}),
        (TypeError, "f must be a tensor (got list)", {"resample_filter": [1, 3, 3, 1], "up": 2}),
        (ValueError, "eps must be at least 0 (got -1e-08)", {"eps": -1e-8}),
        (TypeError, "eps must be a real number (got None)", {"eps": None}),
        (TypeError, "gain must be a real number (got '1')", {"gain": "1"}),
        (ValueError, "clamp must be None or at least 0 (got -256)", {"clamp": -256}),
        (ValueError, "impl must be one of auto, native, reference (got 'cuda')", {"impl": "cuda"}),
        (
            ValueError,
            "weight of 3 x 3 taps must fit into the padded image "
            "(got x of 4 x 5 pixels, padding (-1, -1, -1, -1) with the filter's share)",
            {"padding": -1},
        ),
    ],
)
def test_rejects_arguments(implementation, error, message, kwargs):
    assert_rejects(error, f"modulated_conv2d: {message}", call, **kwargs)


def test_styles_may_be_none_but_not_forgotten():
    with pytest.raises(TypeError, match="styles"):
        modulated_conv2d(X, WEIGHT)


def test_an_inference_kernel_refuses_to_be_differentiated(native):
    """It has no derivative, and says so instead of cutting the graph."""
    x = X.clone().requires_grad_()
    y = torch.ops.stylegan_ops.modulated_conv2d_inference(x, WEIGHT, None, None, None, None, None, 1, 1, [1, 1, 1, 1], 0, 0.0, 1.0, -1.0)
    with pytest.raises(RuntimeError, match="modulated_conv2d_inference: has no derivative"):
        y.sum().backward()
