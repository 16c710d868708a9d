"""NVlabs' PyTorch pickles and rosinality's files: strictly read, exactly written, and the pictures that their own mathematics gives."""

import io
import pickle

import layouts
import pytest
import torch
from layouts import W_DIM, fir
from stylegan2_definition import close, rosinality_logits, rosinality_pictures, same

from stylegan_ops.checkpoints import convert, load_any
from stylegan_ops.models import stylegan2
from stylegan_ops.training import CheckpointError


@torch.no_grad()
def test_a_rosinality_file_gives_rosinalitys_pictures_and_logits(tmp_path):
    state = layouts.rosinality_training()
    torch.save(state, tmp_path / "030000.pt")
    networks, report = load_any(tmp_path / "030000.pt")
    assert list(networks) == ["G_ema", "G", "D"] and report.layout == "rosinality"
    assert report.changes["ignored"] == ["ada_aug_p", "args", "d_optim", "g_optim"] and report.changes["estimated"] == ["mapping.w_avg"] * 2
    z, image = torch.randn(4, W_DIM), torch.randn(8, 3, 16, 16)
    for theirs, ours in (("g_ema", "G_ema"), ("g", "G")):
        p = {name: value.double() for name, value in state[theirs].items()}
        expected = rosinality_pictures(p, z.double())
        close(networks[ours](z, noise_mode="const"), expected)
    close(networks["D"](image), rosinality_logits({name: value.double() for name, value in state["d"].items()}, image.double()))


def test_the_nvlabs_table_is_the_models():
    with torch.device("meta"):
        G, D = stylegan2.Generator(1024), stylegan2.Discriminator(1024)  # the published sizes
    assert (len(G.state_dict()), sum(p.numel() for p in G.parameters())) == (182, 30_370_060)
    assert (len(D.state_dict()), sum(p.numel() for p in D.parameters())) == (82, 29_012_513)


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("kwargs", [{"conv_clamp": 256}, {"synthesis_kwargs": {"conv_clamp": 256}}, {"synthesis_kwargs": {}}, {}])
def test_a_persistent_pickle_is_read_bit_by_bit_and_not_run(tmp_path, protocol, kwargs):
    mark = tmp_path / "mark"
    states = {"G": layouts.nvlabs_generator(c_dim=2, z_dim=5), "D": layouts.nvlabs_discriminator(c_dim=2)}
    states["G_ema"] = layouts.nvlabs_generator(c_dim=2, z_dim=5)
    data = layouts.nvlabs_pickle(states, kwargs, f"open({str(mark)!r}, 'w')", protocol)
    (tmp_path / "network-snapshot.pkl").write_bytes(data)
    networks, report = load_any(tmp_path / "network-snapshot.pkl")
    assert not mark.exists() and report.layout == "nvlabs-pt" and list(networks) == ["G_ema", "G", "D"]
    for name, network in networks.items():
        same(network.state_dict(), states[name])
        assert not any(p.requires_grad for p in network.parameters()) and not network.training
    clamp = None if kwargs == {"synthesis_kwargs": {}} else 256
    assert networks["G"].init_kwargs["conv_clamp"] == clamp and networks["G"].init_kwargs["c_dim"] == 2
    with layouts.nvlabs_modules():
        pickle.loads(data)
    assert mark.exists(), "the pickle would have run"


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_architectures_are_recognised(tmp_path, architecture):
    (tmp_path / "a").write_bytes(layouts.nvlabs_pickle({"G_ema": layouts.nvlabs_generator(architecture=architecture, img_channels=1)}))
    networks, _ = load_any(tmp_path / "a")
    assert networks["G_ema"].init_kwargs["architecture"] == architecture and networks["G_ema"].img_channels == 1


def test_a_single_network_and_a_network_of_stylegan3(tmp_path):
    with layouts.nvlabs_modules():
        (tmp_path / "D.pkl").write_bytes(pickle.dumps(layouts.Persistent("Discriminator", layouts.nvlabs_discriminator())))
        alias_free = layouts.fill({"mapping.w_avg": (6,), "synthesis.input.freqs": (4, 2), "synthesis.L0_36_8.weight": (8, 8, 3, 3)})
        (tmp_path / "3.pkl").write_bytes(pickle.dumps({"G_ema": layouts.Persistent("Generator", alias_free)}))
    assert list(load_any(tmp_path / "D.pkl")[0]) == ["D"]
    with pytest.raises(CheckpointError, match="discriminator alone"):
        load_any(tmp_path / "D.pkl", only_generator=True)
    with pytest.raises(CheckpointError, match="alias-free network of StyleGAN3"):
        load_any(tmp_path / "3.pkl")


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"mapping_kwargs": {"lr_multiplier": 1.0}}, r"its G_ema has another lr_multiplier than 0\.01 \(1\.0\)"),
        ({"synthesis_kwargs": {"activation": "relu"}}, r"another activation than lrelu \('relu'\)"),
        ({"activation": ["lrelu"]}, r"another activation than lrelu \(list\)"),
    ],
)
def test_options_that_no_model_here_has_are_refused(tmp_path, kwargs, words):
    data = layouts.nvlabs_pickle({"G_ema": layouts.nvlabs_generator()}, kwargs)
    (tmp_path / "a.pkl").write_bytes(data)
    with pytest.raises(CheckpointError, match=words):
        load_any(tmp_path / "a.pkl")


def test_a_discriminator_has_the_clamp_of_its_files_generation(tmp_path):
    """Both generations give it block_kwargs; stylegan2-ada's generator alone has synthesis_kwargs."""
    states = {"G_ema": layouts.nvlabs_generator(), "D": layouts.nvlabs_discriminator()}
    for synthesis, clamp in (({}, 256), ({"synthesis_kwargs": {}}, None)):
        with layouts.nvlabs_modules():
            kwargs = {"G_ema": synthesis, "D": {"block_kwargs": {}}}
            kinds = {"G_ema": "Generator", "D": "Discriminator"}
            data = pickle.dumps({name: layouts.Persistent(kinds[name], states[name], kwargs[name]) for name in states})
        (tmp_path / "a.pkl").write_bytes(data)
        networks, _ = load_any(tmp_path / "a.pkl")
        assert [network.init_kwargs["conv_clamp"] for network in networks.values()] == [clamp, clamp]


def test_rosinality_there_and_back_is_exact(tmp_path):
    state = {"g_ema": layouts.rosinality_generator(), "latent_avg": torch.randn(W_DIM), "g": layouts.rosinality_generator()}
    state["d"] = layouts.rosinality_discriminator()
    torch.save(state, tmp_path / "a.pt")
    convert(tmp_path / "a.pt", tmp_path / "b.pkl", "nvlabs-pt")
    _, report = convert(tmp_path / "b.pkl", tmp_path / "c.pt", "rosinality")
    assert report.changes["ignored"] == ["G.mapping.w_avg"]
    back = torch.load(tmp_path / "c.pt", weights_only=True)
    assert set(back) == set(state) and torch.equal(back["latent_avg"], state["latent_avg"])
    for name in ("g_ema", "g", "d"):
        same(back[name], state[name])


def test_nvlabs_there_and_back_is_exact(tmp_path):
    states = {"G_ema": layouts.nvlabs_generator(), "D": layouts.nvlabs_discriminator()}
    (tmp_path / "a.pkl").write_bytes(layouts.nvlabs_pickle(states))
    _, report = convert(tmp_path / "a.pkl", tmp_path / "b.pt", "rosinality")
    assert any("conv_clamp 256 is left out" in note for note in report.notes)
    convert(tmp_path / "b.pt", tmp_path / "c.pkl", "nvlabs-pt")
    back = pickle.loads((tmp_path / "c.pkl").read_bytes())
    for name in states:
        same(back[name], states[name])
    assert back["init_kwargs"]["D"]["epilogue_kwargs"] == {"mbstd_group_size": 4, "mbstd_num_channels": 1} and back["G"] is None


@torch.no_grad()
def test_a_half_precision_file_is_widened(tmp_path):
    state = {name: value.half() for name, value in layouts.rosinality_generator().items()}
    torch.save(state, tmp_path / "a.pt")
    networks, _ = load_any(tmp_path / "a.pt")
    assert list(networks) == ["G"] and networks["G"].synthesis.b4.const.dtype == torch.float32
    assert torch.equal(networks["G"].synthesis.b4.const, state["input.input"][0].float())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda g: g.pop("conv1.activate.bias"), r"lacks 1: conv1.activate.bias"),
        (lambda g: g.update({"style.9.weight": torch.ones(2)}), "not numbered from 1"),
        (lambda g: g.update({"other": torch.ones(2)}), "has 1: other"),
        (lambda g: g.update({"convs.0.conv.blur.kernel": fir(1)}), "convs.0.conv.blur.kernel in it is another filter"),
        (lambda g: g.update({"conv1.noise.weight": torch.ones(2)}), "conv1.noise.weight in it must have 1 dimensions of length 1 in front"),
        (lambda g: g.update({"convs.3.activate.bias": torch.ones(2)}), "feature maps must be"),
        (
            lambda g: g.update({"convs.2.activate.bias": torch.ones(8)}),
            r"b16.conv0.bias of shape \[4\] \(got shape \[8\]\)",
        ),
        (lambda g: g.update({"style.1.bias": torch.ones(6, dtype=torch.int64)}), "style.1.bias in it must be floating point"),
    ],
)
def test_strictness(tmp_path, change, message):
    g = layouts.rosinality_generator()
    change(g)
    torch.save({"g_ema": g}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        load_any(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"c_dim": 2}, "must have no labels"),
        ({"z_dim": 5}, "z_dim equal to w_dim"),
        ({"architecture": "resnet"}, "architecture skip"),
        ({"img_channels": 1}, "images of 3 channels"),
    ],
)
def test_what_rosinality_has_no_place_for_is_refused(tmp_path, network, message):
    (tmp_path / "a.pkl").write_bytes(layouts.nvlabs_pickle({"G_ema": layouts.nvlabs_generator(**network)}))
    with pytest.raises(CheckpointError, match=message):
        convert(tmp_path / "a.pkl", tmp_path / "b.pt", "rosinality")
    assert not (tmp_path / "b.pt").exists()


def test_the_older_form_of_torch_save_is_read(tmp_path):
    state = {"g_ema": layouts.rosinality_generator(), "latent_avg": torch.randn(W_DIM)}
    old, new = io.BytesIO(), io.BytesIO()
    torch.save(state, old, _use_new_zipfile_serialization=False)
    torch.save(state, new)
    found = []
    for name, file in (("old.jpg", old), ("new", new)):  # by content, not by name
        (tmp_path / name).write_bytes(file.getvalue())
        found.append(load_any(tmp_path / name, only_generator=True)[0]["G_ema"].state_dict())
    same(*found)
