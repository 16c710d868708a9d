"""MappingLayers and MappingNetwork: definition, truncation, running mean, labels, errors."""

import math

import pytest
import torch
import torch.nn.functional as F

from stylegan_ops.layers import MappingLayers, MappingNetwork


def normalized(x):
    return x / torch.sqrt((x**2).mean(dim=1, keepdim=True) + 1e-8)


def definition(net, z, c):
    parts = [] if z is None else [normalized(z)]
    if c is not None:
        parts.append(normalized(c @ net.embed.weight.t() / math.sqrt(c.shape[1]) + net.embed.bias))
    x = torch.cat(parts, dim=1)
    for i in range(net.num_layers):
        fc = getattr(net, f"fc{i}")
        x = x @ fc.weight.t() * 0.01 / math.sqrt(x.shape[1]) + fc.bias * 0.01
        x = F.leaky_relu(x, 0.2) * math.sqrt(2)
    return x


def make(c_dim=0, num_layers=3):
    torch.manual_seed(0)
    net = MappingNetwork(6, c_dim, 5, num_ws=4, num_layers=num_layers).double()
    torch.nn.init.normal_(net.w_avg)
    return net


@pytest.mark.parametrize(("z_dim", "c_dim"), [(6, 0), (6, 3), (0, 3)])
def test_layers_match_definition(z_dim, c_dim):
    net = MappingLayers(z_dim, c_dim, 5, num_layers=2).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    z = torch.randn(4, z_dim, dtype=torch.float64) if z_dim else None
    c = torch.randn(4, c_dim, dtype=torch.float64) if c_dim else None
    torch.testing.assert_close(net(z, c), definition(net, z, c), rtol=1e-12, atol=1e-14)


def test_names_match_checkpoints():
    layers = {f"fc{i}.{name}" for i in range(8) for name in ("weight", "bias")}
    assert set(MappingNetwork(6, 0, 5, 4).state_dict()) == layers | {"w_avg"}
    assert set(MappingNetwork(6, 3, 5, 4).state_dict()) == layers | {"w_avg", "embed.weight", "embed.bias"}
    assert set(MappingLayers(0, 3, 5).state_dict()) == layers | {"embed.weight", "embed.bias"}


def test_repeats_w_in_memory_of_its_own():
    ws = make()(torch.randn(2, 6))
    assert ws.shape == (2, 4, 5)
    assert torch.equal(ws, ws[:, :1].expand(2, 4, 5))
    with torch.no_grad():
        ws[:, 0] = 7  # style mixing writes single layers
    assert (ws[:, 1:] != 7).all()


@pytest.mark.parametrize("cutoff", [None, 0, 1, 4])
@pytest.mark.parametrize("psi", [1, 0.7, 0, -0.5])
def test_truncation(psi, cutoff):
    net, z = make(), torch.randn(3, 6, dtype=torch.float64)
    ws = net(z)
    expected = ws.clone()
    expected[:, :cutoff] = net.w_avg + psi * (ws[:, :cutoff] - net.w_avg)
    torch.testing.assert_close(net(z, truncation_psi=psi, truncation_cutoff=cutoff), expected, rtol=1e-12, atol=1e-12)


def test_running_mean():
    net, z = make(), torch.randn(3, 6, dtype=torch.float64)
    before = net.w_avg.clone()
    ws = net(z)
    assert torch.equal(net.w_avg, before)
    updated = net(z, update_w_avg=True)
    assert torch.equal(updated, ws) and updated.requires_grad and not net.w_avg.requires_grad
    torch.testing.assert_close(net.w_avg, 0.998 * before + 0.002 * ws[:, 0].mean(0), rtol=1e-12, atol=1e-14)


def test_stays_float32_under_autocast_and_takes_any_float():
    net = make(c_dim=3).float()
    z, c = torch.randn(2, 6), torch.eye(3)[:2]
    with torch.autocast("cpu", torch.bfloat16):
        ws = net(z, c)
    assert ws.dtype == torch.float32
    assert torch.equal(ws, net(z, c))
    assert net(z.bfloat16(), c.half()).dtype == torch.float32


def test_scale_of_z_does_not_matter():
    net, z = make(), torch.randn(2, 6, dtype=torch.float64)
    torch.testing.assert_close(net(z * 10), net(z), rtol=1e-6, atol=1e-9)


def test_rejects_bad_input():
    net, labelled = make(), make(c_dim=3)
    z = torch.zeros(2, 6)
    wrong_c = r"MappingNetwork: c must have shape \[2, {}\], the batch size and c_dim \(got shape \({}, 3\)\)"
    for call, message in [
        (lambda: net(torch.zeros(2, 5)), r"MappingNetwork: z must have shape \[N, 6\], z_dim being 6 \(got shape \(2, 5\)\)"),
        (lambda: net(torch.zeros(6)), r"MappingNetwork: z must have shape \[N, 6\], z_dim being 6 \(got shape \(6,\)\)"),
        (lambda: labelled(z), r"MappingNetwork: c must be given as labels \[N, 3\], since c_dim is 3 \(got None\)"),
        (
            lambda: labelled(z, torch.zeros(1, 3)),
            r"MappingNetwork: c must have shape \[2, 3\], the batch size and c_dim \(got shape \(1, 3\)\)",
        ),
        (lambda: net(z, torch.zeros(2, 3)), wrong_c.format(0, 2)),
        (lambda: net(z, truncation_cutoff=5), r"MappingNetwork: truncation_cutoff must be within 0 and num_ws=4 \(got 5\)"),
        (lambda: net(z, truncation_cutoff=-1), r"MappingNetwork: truncation_cutoff must be within 0 and num_ws=4 \(got -1\)"),
        (lambda: net(z, truncation_psi=float("nan")), r"MappingNetwork: truncation_psi must be finite \(got nan\)"),
        (lambda: net(z, truncation_psi=float("-inf")), r"MappingNetwork: truncation_psi must be finite \(got -inf\)"),
        (lambda: MappingNetwork(0, 3, 5, 4), r"MappingNetwork: z_dim must be at least 1 \(got 0\)"),
        (lambda: MappingNetwork(6, 0, 0, 4), r"MappingNetwork: w_dim must be at least 1 \(got 0\)"),
        (lambda: MappingNetwork(6, 0, 5, 4, 0), r"MappingNetwork: num_layers must be at least 1 \(got 0\)"),
        (lambda: MappingLayers(0, 0, 5), r"MappingLayers: z_dim and c_dim must be at least 0 and not both 0 \(got 0 and 0\)"),
        (lambda: MappingLayers(6, -1, 5), r"MappingLayers: z_dim and c_dim must be at least 0 and not both 0 \(got 6 and -1\)"),
    ]:
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()
    for call, message in [
        (lambda: net(torch.zeros(2, 6, dtype=torch.int64)), r"MappingNetwork: z must be of a floating-point dtype \(got torch.int64\)"),
        (lambda: net(z, truncation_psi="a"), r"MappingNetwork: truncation_psi must be a real number \(got 'a'\)"),
        (lambda: net(z, truncation_cutoff=1.5), r"MappingNetwork: truncation_cutoff must be an integer \(got 1.5\)"),
        (lambda: MappingNetwork(6, 1.5, 5, 4), r"MappingNetwork: c_dim must be an integer \(got 1.5\)"),
    ]:
        with pytest.raises(TypeError, match=f"^{message}$"):
            call()
    assert net(z, torch.zeros(2, 0)).shape == (2, 4, 5)  # what a loader of unlabelled images hands over
