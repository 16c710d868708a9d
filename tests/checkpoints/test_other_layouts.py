"""genforce, the published StyleGAN, huangzh13, style-based, mmagic, BasicSR: the pictures of their own mathematics, and round trips."""

import math

import layouts
import numpy as np
import pytest
import tensorflow_layouts
import torch
from layouts import LAYERS, W_DIM
from stylegan2_definition import close, rosinality_logits, rosinality_pictures, same
from stylegan_definition import Definition
from torch.nn import functional as F

from stylegan_ops.checkpoints import convert, load_any, native
from stylegan_ops.checkpoints.report import Report
from stylegan_ops.models import stylegan
from stylegan_ops.training import CheckpointError


def double(state):
    return {name: x.double() for name, x in state.items()}


def load(path, tree, **options):
    torch.save(tree, path)
    return load_any(path, **options)


def noise_of(G):
    """What the definition of StyleGAN wants to know of the noise."""
    buffers = {name.split(".")[1].removeprefix("epilogue"): x for name, x in G.named_buffers() if name.endswith("noise_const")}
    return {tuple(map(int, key.split("_"))): x.double() for key, x in buffers.items()}


def close64(G, z, expected):
    """In float64, where 1e-8 and 1e-6 under a root are not the same."""
    torch.testing.assert_close(G.double()(z.double(), noise_mode="const"), expected, rtol=0, atol=1e-9 * float(expected.abs().max()))


@torch.no_grad()
@pytest.mark.parametrize(("names", "eps"), [(layouts.BASICSR, 1e-8), (layouts.MMAGIC, 1e-6)], ids=["basicsr", "mmagic"])
def test_stylegan2_under_other_names(tmp_path, names, eps):
    ours, theirs = layouts.renamed_generator(names, filters=names is layouts.MMAGIC)
    z = torch.randn(3, W_DIM)
    expected = rosinality_pictures(double(ours), z.double(), eps=eps)
    if names is layouts.MMAGIC:
        state = {f"generator_ema.{name}": x for name, x in theirs.items()} | {
            "discriminator.final_linear.0.linear.weight_orig": torch.ones(1)
        }
        networks, report = load(tmp_path / "a.pth", {"state_dict": state, "meta": {"iter": 5}})
        assert report.changes["ignored"] == ["discriminator"] and networks["G_ema"].init_kwargs["norm_eps"] == 1e-6
        close64(networks["G_ema"], z, expected)
        with pytest.raises(CheckpointError, match="cannot be written as rosinality .*not exactly.* eps 1e-8 there and 1e-06 here"):
            convert(tmp_path / "a.pth", tmp_path / "b.pt", "rosinality")
        _, report = convert(tmp_path / "a.pth", tmp_path / "b.pt", "rosinality", inexact=True)
        assert "a factor of about 1 + 5e-07" in report.inexact[0]
        back = torch.load(tmp_path / "b.pt", weights_only=True)["g_ema"]
        same(back, ours)
    else:
        networks, report = load(tmp_path / "a.pth", {"params": theirs, "params_ema": theirs})
        assert list(networks) == ["G_ema", "G"] and report.layout == "basicsr"
        close(networks["G_ema"](z, noise_mode="const"), expected)
        ours, theirs = layouts.basicsr_discriminator()
        networks, _ = load(tmp_path / "d.pth", {"params": theirs})
        image = torch.randn(4, 3, 16, 16)
        close(networks["D"](image), rosinality_logits(double(ours), image.double()))


@torch.no_grad()
def test_genforce_stylegan2(tmp_path):
    """Its upsampling convolutions run through their weights forwards, and its styles are 1 more than the affine map."""
    ours, theirs = layouts.genforce_stylegan2()
    d_ours, d_theirs = layouts.genforce_discriminator()
    tree = {"generator": theirs, "discriminator": d_theirs, "generator_smooth": theirs}
    networks, report = load(tmp_path / "a.pth", {"models": tree, "running_metadata": {}, "learning_rates": {}})
    assert list(networks) == ["G_ema", "G", "D"] and report.layout == "genforce" and len(report.changes["flipped"]) == 4
    p = double(ours)
    p |= {name: double(theirs)[_style_bias(name)] + 1 for name in p if name.endswith("modulation.bias")}
    z, image = torch.randn(3, W_DIM), torch.randn(4, 3, 16, 16)
    close(networks["G_ema"](z, noise_mode="const"), rosinality_pictures(p, z.double(), correlates=True))
    close(networks["D"](image), rosinality_logits(double(d_ours), image.double()))
    assert torch.equal(networks["G"].mapping.w_avg, theirs["truncation.w_avg"])


def _style_bias(name):
    """genforce's name of a style's bias."""
    layer = name.split(".conv.")[0]
    numbers = {"conv1": "layer0", "to_rgb1": "output0"}
    if layer not in numbers:
        kind, number = layer.split(".")
        numbers[layer] = f"{'layer' if kind == 'convs' else 'output'}{int(number) + 1}"
    return f"synthesis.{numbers[layer]}.style.bias"


def test_genforce_there_and_back(tmp_path):
    _, theirs = layouts.genforce_stylegan2()
    _, discriminator = layouts.genforce_discriminator()
    state = layouts.seed_generator()
    for name, tree in {
        "2": {"generator_smooth": theirs, "discriminator": discriminator},
        "1": {"generator_smooth": layouts.genforce_stylegan(state, layouts.other_torgbs())},
        "0": {"generator_smooth": layouts.genforce_progan()},
    }.items():
        torch.save(tree, tmp_path / f"{name}.pth")
        convert(tmp_path / f"{name}.pth", tmp_path / "b.safetensors", "native")
        convert(tmp_path / "b.safetensors", tmp_path / "c.pth", "genforce")
        back = torch.load(tmp_path / "c.pth", weights_only=True)
        assert set(back) == set(tree)
        for network, expected in tree.items():
            # Style biases went through b + 1 - 1.
            rounded = {key: x for key, x in expected.items() if name == "2" and key.endswith("style.bias")}
            for key, x in rounded.items():
                torch.testing.assert_close(back[network].pop(key), x, rtol=0, atol=3e-7)
            same(back[network], {key: x for key, x in expected.items() if key not in rounded})


@torch.no_grad()
def test_stylegan2_of_tensorflow(tmp_path):
    (generator, theirs), (discriminator, judge) = tensorflow_layouts.stylegan2(), tensorflow_layouts.discriminator()
    mark = tmp_path / "mark"
    data = tensorflow_layouts.pickled([("G", theirs), ("D", judge), ("Gs", theirs)], f"open({str(mark)!r}, 'w')")
    (tmp_path / "a.pkl").write_bytes(data)
    networks, report = load_any(tmp_path / "a.pkl")
    assert list(networks) == ["G_ema", "G", "D"] and report.layout == "nvlabs-tf" and not mark.exists()
    assert len(report.changes["flipped"]) == 2 * 2 and torch.equal(networks["G"].mapping.w_avg, torch.from_numpy(theirs["dlatent_avg"]))
    z = torch.randn(4, W_DIM)
    pictures = rosinality_pictures(double(generator), z.double())
    for name in ("G_ema", "G"):
        close(networks[name](z, noise_mode="const"), pictures)
    close(networks["D"](pictures.float()), rosinality_logits(double(discriminator), pictures))

    (tmp_path / "g.pkl").write_bytes(tensorflow_layouts.pickled([("Gs", theirs)]))
    assert list(load_any(tmp_path / "g.pkl")[0]) == ["G"]
    labels = {"LabelEmbed/weight": np.ones((4, W_DIM), "f4"), "LabelEmbed/bias": np.zeros(W_DIM, "f4")}
    conditional = theirs | labels | {"Dense0/weight": np.concatenate([theirs["Dense0/weight"]] * 2)}
    (tmp_path / "c.pkl").write_bytes(tensorflow_layouts.pickled([("G", conditional), ("D", judge | labels), ("Gs", conditional)]))
    networks, report = load_any(tmp_path / "c.pkl")
    assert list(networks) == ["G_ema", "G"] and networks["G"].c_dim == 4
    assert report.changes["ignored"] == ["D, which is neither a generator nor StyleGAN2's discriminator without labels"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"LabelConcat/weight": np.ones((4, W_DIM), "f4")}, "its labels are joined to the latents"),
        ({"lod": np.float32(1)}, "lod in it must be 0, the full size"),
        ({"8x8/Conv1/weight": np.ones((3, 3, 8), "f4")}, "8x8/Conv1/weight in it"),
        ({"8x8/Extra": np.ones(1, "f4")}, "no other names than the layout's .*8x8/Extra"),
        ({"Dense0/weight": "text"}, "a variable in it is no array"),
    ],
)
def test_tensorflow_pickles_that_are_refused(tmp_path, change, words):
    _, theirs = tensorflow_layouts.stylegan2()
    (tmp_path / "a.pkl").write_bytes(tensorflow_layouts.pickled([("Gs", theirs | change)]))
    with pytest.raises(CheckpointError, match=words):
        load_any(tmp_path / "a.pkl")


@torch.no_grad()
@pytest.mark.parametrize("resolution", [16, 128])
def test_stylegan_of_the_published_file_and_of_huangzh13_and_genforce(tmp_path, resolution):
    base = 64 if resolution == 16 else 256
    state, torgbs = layouts.seed_generator(resolution, base), layouts.other_torgbs(resolution, base)
    tensorflow = [(name, tensorflow_layouts.stylegan(state, torgbs)) for name in ("G", "D", "Gs")]
    tensorflow[1] = ("D", {"4x4/Dense1/weight": np.ones((2, 1), "f4"), "lod": np.float32(0)})
    files = {
        "nvlabs-tf": tensorflow,
        "seed": state,
        "huangzh13": layouts.huangzh13_generator(state, torgbs),
        "genforce": layouts.genforce_stylegan(state, torgbs),
    }
    z = torch.randn(2, W_DIM)
    for layout, tree in files.items():
        if layout == "nvlabs-tf":
            (tmp_path / layout).write_bytes(tensorflow_layouts.pickled(tree))
            networks, report = load_any(tmp_path / layout)
            assert list(networks) == ["G_ema", "G"] and report.changes["ignored"][0].startswith("D, which is neither a generator")
            assert len(report.changes.get("flipped", [])) == 2 * (resolution == 128)
            networks.pop("G")
        else:
            networks, report = load(tmp_path / layout, tree)
            assert len(report.changes.get("flipped", [])) == (resolution == 128)
        (G,) = networks.values()
        assert report.layout == layout
        D = Definition(double(state), noise_of(G), transposed_from=128)
        ws = D.mapping(z.double())[:, None].expand(-1, G.num_ws, -1)
        close(G(z, noise_mode="const"), D.images(ws, resolution))
        if resolution == 16:
            D.p |= {f"torgb.8.{part}": x.double() for part, x in zip(("weight", "bias"), torgbs[8], strict=True)}
            if layout != "seed":
                G.synthesis.grow_to(8)
                close(G(z, noise_mode="const"), D.images(ws, 8, growing=True))


@torch.no_grad()
def test_the_published_layout_there_and_back_and_its_estimates(tmp_path):
    state = layouts.seed_generator(taps=(1, 4, 6, 4, 1))
    networks, report = load(tmp_path / "a.pt", state)
    assert report.changes["estimated"] == ["mapping.w_avg"] and len(report.changes["drawn"]) == 6
    mean = networks["G_ema"].mapping(torch.randn(20_000, W_DIM))[:, 0].mean(0)
    torch.testing.assert_close(networks["G_ema"].mapping.w_avg, mean, rtol=0, atol=0.05 * float(mean.norm()))
    again, _ = load_any(tmp_path / "a.pt")
    same(again["G_ema"].state_dict(), networks["G_ema"].state_dict())
    convert(tmp_path / "a.pt", tmp_path / "b", "native")
    convert(tmp_path / "b", tmp_path / "c.pt", "seed")
    same(torch.load(tmp_path / "c.pt", weights_only=True), state)
    G = stylegan.Generator(16, z_dim=W_DIM, w_dim=W_DIM, channel_base=64, channel_max=8, norm_eps=1e-5)
    with open(tmp_path / "d", "wb") as file:
        native.write({"G": G}, file, Report("native"))
    with pytest.raises(CheckpointError, match="cannot be written as seed .*instance norms have eps 1e-8 there and 1e-05 here"):
        convert(tmp_path / "d", tmp_path / "e.pt", "seed")


def test_huangzh13_without_blur_and_with_w_avg(tmp_path):
    theirs = layouts.huangzh13_generator(layouts.seed_generator(), layouts.other_torgbs(), blur=False)
    theirs["truncation.avg_latent"] = torch.randn(W_DIM)
    networks, _ = load(tmp_path / "a", theirs)
    assert networks["G"].init_kwargs["blur_filter"] is None
    assert torch.equal(networks["G"].mapping.w_avg, theirs["truncation.avg_latent"])


def _lrelu(x):
    return F.leaky_relu(x, 0.2)


def style_based_pictures(p, z, noise, fused=(2,)):
    """rosinality's StyleGAN: each weight times sqrt(2 / fan_in), the bias before the blur."""

    def weight(name):
        x = p[f"{name}.weight_orig"]
        return x * math.sqrt(2 / x[0].numel())

    def linear(name, x):
        return x @ weight(f"{name}.linear").T + p[f"{name}.linear.bias"]

    w = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(LAYERS):
        w = _lrelu(linear(f"style.{2 * i + 1}", w))
    x = None
    for i in range(3):
        block = f"generator.progression.{i}"
        for k in (1, 2):
            if k == 2:
                x = F.conv2d(x, weight(f"{block}.conv2.conv"), p[f"{block}.conv2.conv.bias"], padding=1)
            elif i == 0:
                x = p[f"{block}.conv1.input"].repeat(len(z), 1, 1, 1)
            else:
                if i in fused:
                    kernel = p[f"{block}.conv1.0.weight"]
                    kernel = F.pad(kernel * math.sqrt(2 / (9 * kernel.shape[0])), [1] * 4)
                    kernel = (kernel[:, :, 1:, 1:] + kernel[:, :, :-1, 1:] + kernel[:, :, 1:, :-1] + kernel[:, :, :-1, :-1]) / 4
                    x = F.conv_transpose2d(x, kernel, p[f"{block}.conv1.0.bias"], stride=2, padding=1)
                else:
                    x = F.interpolate(x, scale_factor=2, mode="nearest")
                    x = F.conv2d(x, weight(f"{block}.conv1.1.conv"), p[f"{block}.conv1.1.conv.bias"], padding=1)
                blur = p[f"{block}.conv1.{1 if i in fused else 2}.weight"]
                x = F.conv2d(x, blur, padding=1, groups=x.shape[1])
            strength = p[f"{block}.noise{k}.weight_orig"]
            x = _lrelu(x + strength * math.sqrt(2 / strength[0].numel()) * noise[4 << i, k - 1])
            gamma, beta = linear(f"{block}.adain{k}.style", w)[:, :, None, None].chunk(2, 1)
            x = gamma * F.instance_norm(x, eps=1e-5) + beta
    return F.conv2d(x, weight("generator.to_rgb.2.conv"), p["generator.to_rgb.2.conv.bias"])


@torch.no_grad()
def test_style_based(tmp_path):
    state = layouts.style_based_generator()
    tree = {"generator": state, "discriminator": {"progression.0.conv1.0.conv.bias": torch.ones(2)}, "g_running": state}
    networks, report = load(tmp_path / "a.model", tree)
    assert list(networks) == ["G_ema", "G"] and report.changes["ignored"] == ["discriminator"] and not report.inexact
    z = torch.randn(2, W_DIM)
    expected = style_based_pictures(double(state), z.double(), noise_of(networks["G_ema"]))
    close(networks["G_ema"](z, noise_mode="const"), expected)


@torch.no_grad()
def test_style_based_with_biases_before_the_blur_is_refused_or_stated(tmp_path):
    state = layouts.style_based_generator(is_exact=False)
    with pytest.raises(CheckpointError, match="cannot be converted exactly.*biases before the blur are up to"):
        load(tmp_path / "a.model", state)
    networks, report = load_any(tmp_path / "a.model", inexact=True)
    biases = [x.abs().max() for name, x in state.items() if name.endswith(("conv1.0.bias", "conv1.1.conv.bias"))]
    assert (
        f"up to {float(max(biases)):.3g}:" in report.inexact[0]
        and f"up to {float(max(biases)) * 7 / 16:.3g} in the corners" in report.inexact[0]
    )
    # The statement, on what one layer gives: equal inside, at most so far off at the borders.
    G = networks["G_ema"]
    x, bias = torch.zeros(1, 8, 4, 4), state["generator.progression.1.conv1.1.conv.bias"]
    blur = state["generator.progression.1.conv1.2.weight"]
    theirs = F.conv2d(bias[None, :, None, None].expand(1, -1, 8, 8), blur, padding=1, groups=8)
    ours = G.synthesis.up8(x) + G.synthesis.epilogue8_0.bias[:, None, None]
    error = (theirs - ours).abs()
    assert error[:, :, 1:-1, 1:-1].max() < 1e-6
    torch.testing.assert_close(error[0, :, 0, 0], bias.abs() * 7 / 16)
    torch.testing.assert_close(error[0, :, 0, 3], bias.abs() / 4)


@torch.no_grad()
def test_genforce_progan(tmp_path):
    state = layouts.genforce_progan()
    networks, report = load(tmp_path / "a", {"generator_smooth": state})
    p, z = double(state), torch.randn(2, 7)

    def norm(x):
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

    def conv(name, x, gain, padding):
        weight = p[f"{name}.weight"]
        return F.conv2d(x, weight * gain / math.sqrt(weight[0].numel()), p[f"{name}.bias"], padding=padding)

    x = norm(z.double())[:, :, None, None]
    for k in range(6):
        if k in (2, 4):
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = norm(_lrelu(conv(f"layer{k}", x, math.sqrt(2), 3 if k == 0 else 1)))
    close(networks["G_ema"](z), conv("output2", x, 1, 0))
    state["lod"] += 1
    with pytest.raises(CheckpointError, match="lod in it must be 0"):
        load(tmp_path / "a", {"generator_smooth": state})


@torch.no_grad()
@pytest.mark.parametrize("layout", ["nvlabs-pt", "rosinality", "genforce", "seed", "safetensors", "native"])
def test_a_round_trip_gives_the_same_pictures(tmp_path, trained, layout):
    if layout == "safetensors":
        pytest.importorskip("safetensors")
    source = trained("stylegan" if layout == "seed" else "stylegan2")
    if layout == "seed":  # the layout has the full size alone
        torch.save(layouts.seed_generator(), tmp_path / "full")
        source = tmp_path / "full"
    expected = load_any(source)[0]["G_ema"]
    convert(source, tmp_path / "b", layout)
    found = load_any(tmp_path / "b")[0]["G_ema"]
    z = torch.randn(2, W_DIM)
    options = {"noise_mode": "none" if layout == "seed" else "const"}
    torch.testing.assert_close(found(z, **options), expected(z, **options), rtol=0, atol=1e-5)
    if layout != "seed":
        torch.testing.assert_close(found(z, truncation_psi=0.5, **options), expected(z, truncation_psi=0.5, **options), rtol=0, atol=1e-5)


def test_what_a_layout_has_no_place_for_is_refused(tmp_path, trained):
    for layout, model, message in [
        ("nvlabs-pt", "stylegan", "must be a StyleGAN2 of the architectures"),
        ("rosinality", "progan", "must be a StyleGAN2 of the architecture skip"),
        ("seed", "stylegan2", "must be a StyleGAN generator in the default form"),
        ("seed", "stylegan", "must be at its full size"),
        ("genforce", "stylegan", "must be at its full size"),
    ]:
        with pytest.raises(CheckpointError, match=f"cannot be written as {layout} .*{message}"):
            convert(trained(model), tmp_path / "b", layout)
    assert not (tmp_path / "b").exists()


def test_layouts_that_are_refused_with_a_reason(tmp_path):
    with pytest.raises(CheckpointError, match="lucidrains' stylegan2_pytorch, whose layers are others"):
        load(tmp_path / "a", {"GAN": {"G.initial_block": torch.ones(1)}, "version": "1.9.0"})
    with pytest.raises(CheckpointError, match="a discriminator, of which this layout is known by its generators alone"):
        load(tmp_path / "a", {"final_block.conv.weight": torch.ones(1)})
    with pytest.raises(CheckpointError, match="none of those known, a, b"):
        load(tmp_path / "a", {"a": 1, "b": torch.ones(1)})
