"""Our own files, and the commands that read any file."""

import json
import struct

import layouts
import pytest
import torch
from click.testing import CliRunner

from stylegan_ops.checkpoints import WRITERS, convert, load_any
from stylegan_ops.cli import main
from stylegan_ops.cli.convert import FORMATS
from stylegan_ops.training import CheckpointError, load_checkpoint, load_generator


def invoke(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def assert_same_networks(found, expected):
    assert list(found) == list(expected)
    for name, network in found.items():
        assert type(network) is type(expected[name]) and network.init_kwargs == expected[name].init_kwargs
        for key, value in network.state_dict().items():
            assert torch.equal(value, expected[name].state_dict()[key]), (name, key)


@pytest.mark.parametrize("model", ["progan", "stylegan", "stylegan2"])
def test_a_trainings_checkpoint_gives_its_networks_at_its_stage(trained, model):
    path = trained(model)
    networks, report = load_any(path)
    state = load_checkpoint(path)
    assert list(networks) == ["G_ema", "G", "D"] and report.layout == "native" and set(report.changes) == set()
    for name, network in networks.items():
        assert all(torch.equal(value, state[name][key]) for key, value in network.state_dict().items())
    expected = load_generator(path)
    z = torch.randn(2, 6)
    assert torch.equal(networks["G_ema"](z, noise_mode="none"), expected(z, noise_mode="none"))
    if model != "stylegan2":
        assert networks["D"].resolution == expected.synthesis.resolution == state["stage"]["resolution"] < 16


@pytest.mark.parametrize("model", ["progan", "stylegan", "stylegan2"])
@pytest.mark.parametrize("layout", ["native", "safetensors"])
def test_there_and_back_is_exact(trained, tmp_path, model, layout):
    if layout == "safetensors":
        pytest.importorskip("safetensors")
    source, target = trained(model), tmp_path / "a.jpg"
    convert(source, target, layout)
    found, expected = load_any(target)[0], load_any(source)[0]
    assert_same_networks(found, expected)
    assert model == "stylegan2" or found["G_ema"].synthesis.resolution == expected["G_ema"].synthesis.resolution


def test_safetensors_are_read_as_the_package_writes_them(tmp_path):
    torch_files = pytest.importorskip("safetensors.torch")
    state = layouts.rosinality_generator()
    state["mapping"] = state.pop("style.1.weight")  # of another order than the names
    state["style.1.weight"] = state.pop("mapping").half()
    torch_files.save_file(dict(state), tmp_path / "a")
    networks, report = load_any(tmp_path / "a")  # another layout inside
    assert report.layout == "rosinality"
    assert torch.equal(networks["G"].mapping.fc0.weight, state["style.1.weight"].float())
    assert torch.equal(networks["G"].synthesis.b16.conv0.weight, state["convs.2.conv.weight"][0])


def header(**tensors):
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


OURS = {"format": "stylegan_ops networks"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (struct.pack("<Q", 2**62) + b"{}" * 9, "header cannot have"),
        (struct.pack("<Q", 20) + b"{" * 20, "header is damaged"),
        (header(a={"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}), "has shape"),
        (header(a={"dtype": "F32", "shape": [4], "data_offsets": [0, 4]}) + bytes(4), "but 4 bytes"),
        (header(a={"dtype": "F32", "shape": [-4], "data_offsets": [0, -16]}), "no tensor of numbers"),
        (header(a={"dtype": "os.system", "shape": [4], "data_offsets": [0, 16]}) + bytes(16), "no tensor of numbers"),
        (header(**{str(i): {"dtype": "F32", "shape": [64], "data_offsets": [0, 256]} for i in range(200)}) + bytes(256), "over each other"),
        (header(a={}), "KeyError"),
        (header(__metadata__=OURS), "metadata is damaged"),
        (header(__metadata__={**OURS, "version": "1", "networks": "[" * 10**5}), "metadata is damaged"),
        (
            header(__metadata__={**OURS, "version": "9", "networks": "{}"}),
            r"must have version 1 of the format \(9\)",
        ),
    ],
)
def test_damaged_safetensors_end_in_an_error(tmp_path, data, message):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        load_any(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_layers": 10**9}, "num_layers must be no more than there are tensors"),
        ({"resample_filter": [1.0] * 10**5}, "filters must have at most 32 taps"),
        ({"img_resolution": 2**50, "channel_base": 2**50}, "cannot be built|lacks"),
        ({"channel_max": 2**31, "channel_base": 2**40}, "cannot be built|of shape"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_arguments_that_would_build_something_else_are_refused(trained, tmp_path, change, message):
    convert(trained(), tmp_path / "a.pt", "native")
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    state["networks"]["G_ema"]["init_kwargs"] |= change
    torch.save(state, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match=message):
        load_any(tmp_path / "b.pt")
    state["networks"]["G_ema"]["kind"] = "SynthesisNetwork"
    torch.save(state, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match="cannot be built"):
        load_any(tmp_path / "b.pt")


def test_commands_take_a_file_of_another_layout(tmp_path):
    pytest.importorskip("PIL")
    source = tmp_path / "550000.jpg"
    torch.save({"g_ema": layouts.rosinality_generator(), "latent_avg": torch.randn(6)}, source)
    for command in (["generate"], ["mix", "--rows", "0", "--columns", "1"], ["truncation"]):
        options = ["--seeds", "0-1"] if command[0] != "mix" else []
        result = invoke(command[0], source, *command[1:], *options, "--out", tmp_path / f"{command[0]}.png")
        assert result.exit_code == 0, result.output
        assert (tmp_path / f"{command[0]}.png").is_file()
    result = invoke("inspect", source)
    assert result.exit_code == 0
    for line in (
        "G_ema: stylegan2 Generator",
        "resolution: 16 px, 3 channels",
        "feature maps: 8 at 4, 8 at 8, 4 at 16",
        "labels: none",
        "parameters: 2,912",
        "latents: z 6, w 6, 6 codes",
        "w_avg: norm ",
        "layout: rosinality, ",
        "renamed ",
        "checked 4: convs.0.conv.blur.kernel",
    ):
        assert line in result.output, result.output
    result = invoke("convert", source, tmp_path / "b.pkl", "--format", "nvlabs-pt")
    assert result.exit_code == 0 and result.output.endswith(f"written: {tmp_path / 'b.pkl'}\n")
    assert "layout: nvlabs-pt" in invoke("inspect", tmp_path / "b.pkl").output


def test_the_command_line_has_every_writer():
    assert tuple(WRITERS) == FORMATS


def test_commands_end_in_an_error(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"GIF89a")
    for command in (["inspect"], ["convert", tmp_path / "b", "--format", "native"]):
        result = invoke(command[0], tmp_path / "a.pt", *command[1:])
        assert result.exit_code == 1
        assert "neither a file of torch.save, nor a pickle, nor safetensors" in " ".join(result.output.split())
    assert not (tmp_path / "b").exists()
    assert invoke("convert", tmp_path / "a.pt", tmp_path / "b", "--format", "gif").exit_code == 2


def test_a_file_is_not_converted_onto_itself(trained, tmp_path):
    source, link = trained(), tmp_path / "link"
    content = source.read_bytes()
    link.symlink_to(source)
    for target in (source, link):
        result = invoke("convert", source, target, "--format", "native")
        assert result.exit_code == 1 and "target must be another file than source" in " ".join(result.output.split())
    assert source.read_bytes() == content and link.is_symlink()
