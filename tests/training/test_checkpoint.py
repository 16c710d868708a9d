"""Checkpoints: complete, safe to load, and loud when damaged."""

import pickle

import pytest
import torch

from stylegan_ops.training import CheckpointError, latest_checkpoint, load_checkpoint, load_generator, save_checkpoint
from stylegan_ops.training.checkpoint import KEYS, checkpoint_path, list_checkpoints


@pytest.fixture
def saved(make_trainer, tmp_path):
    """A checkpoint after two steps, with its state."""
    trainer = make_trainer(tmp_path / "run", kimg=0.016)
    path = trainer.run().checkpoint
    return path, trainer.state


def test_holds_everything_and_loads_weights_only(saved):
    path, state = saved
    loaded = torch.load(path, weights_only=True)
    assert loaded.keys() >= KEYS
    assert loaded["step"] == 2
    assert loaded["images"] == 16
    for name in ("G", "D", "G_ema"):
        for key, value in getattr(state, name).state_dict().items():
            assert torch.equal(loaded[name][key], value), (name, key)
    assert loaded["path_length"]["mean"] == state.path_length.mean != 0
    assert loaded["g_optimizer"]["state"][0]["exp_avg_sq"].norm() > 0


def test_load_generator_gives_the_average(saved):
    path, state = saved
    G = load_generator(path)
    assert not G.training
    assert not any(p.requires_grad for p in G.parameters())
    z = torch.randn(2, G.z_dim)
    assert torch.equal(G(z, noise_mode="const"), state.G_ema(z, noise_mode="const"))
    assert not torch.equal(G(z, noise_mode="const"), state.G(z, noise_mode="const"))


def test_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="checkpoint: '.*absent.pt' must be a file"):
        load_checkpoint(tmp_path / "absent.pt")


@pytest.mark.parametrize("size", [0, 100, 0.5, 0.999])
def test_truncated_file(saved, tmp_path, size):
    content = saved[0].read_bytes()
    path = tmp_path / "cut.pt"
    path.write_bytes(content[: size if isinstance(size, int) else int(size * len(content))])
    with pytest.raises(CheckpointError, match=r"cut.pt' must be an undamaged checkpoint"):
        load_checkpoint(path)


def test_flipped_bit(saved, tmp_path):
    content = bytearray(saved[0].read_bytes())
    content[content.index(saved[1].G.synthesis.b4.const.detach().numpy().tobytes()) + 10] ^= 1
    path = tmp_path / "flipped.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"flipped.pt' must be an undamaged checkpoint"):
        load_checkpoint(path)


def test_names_an_older_checkpoint(saved):
    path, _ = saved
    broken = path.with_name("checkpoint-000000999.pt")
    broken.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="checkpoint-000000999.pt.*an older one is '.*checkpoint-000000016.pt'"):
        load_checkpoint(latest_checkpoint(path.parent))


class Evil:
    """Would run code if it were unpickled."""

    def __reduce__(self):
        return (print, ("code from a file ran",))


@pytest.mark.parametrize("content", [b"no checkpoint at all", pickle.dumps({"format": 1}, protocol=2), pickle.dumps(Evil(), protocol=2)])
def test_foreign_file(tmp_path, content, capsys):
    path = tmp_path / "foreign.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="foreign.pt"):
        load_checkpoint(path)
    assert capsys.readouterr().out == ""


def test_runs_no_code(tmp_path, capsys):
    torch.save({"format": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError, match="evil.pt' must be an undamaged checkpoint"):
        load_checkpoint(tmp_path / "evil.pt")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "must have been written by `stylegan-ops train`"),
        ({"version": 99}, r"must have version 2 \(99\)"),
        ({"G_ema": None}, "must hold G_ema"),
    ],
)
def test_other_content(saved, tmp_path, change, message):
    state = {key: value for key, value in {**torch.load(saved[0], weights_only=True), **change}.items() if value is not None}
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=f"other.pt' {message}"):
        load_checkpoint(tmp_path / "other.pt")


def test_weights_of_another_network(saved, tmp_path):
    state = torch.load(saved[0], weights_only=True)
    state["G_init_kwargs"]["w_dim"] = 4
    torch.save(state, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="other.pt' must fit its G_init_kwargs"):
        load_generator(tmp_path / "other.pt")


def test_weights_that_do_not_fit_their_own_config(saved):
    path, state = saved
    content = load_checkpoint(path)
    for name, part in (("D", {}), ("g_optimizer", {"state": {}, "param_groups": []})):
        with pytest.raises(CheckpointError, match=f"checkpoint: {name} must fit the networks of the checkpoint's own config"):
            state.load_state_dict({**content, name: part})


def test_keeps_the_newest_and_finds_them_by_number(saved, tmp_path):
    state = torch.load(saved[0], weights_only=True)
    for images in (8, 16, 1_000_000_000, 999_999_999):
        save_checkpoint(checkpoint_path(tmp_path, images), {**state, "images": images}, keep=3)
    (tmp_path / "checkpoint-latest.pt").write_bytes(b"")
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "checkpoint-000000016.pt",
        "checkpoint-999999999.pt",
        "checkpoint-1000000000.pt",
    ]
    assert latest_checkpoint(tmp_path).name == "checkpoint-1000000000.pt"


def test_no_checkpoint_to_resume_from(tmp_path):
    with pytest.raises(CheckpointError, match=r"must hold a file checkpoint-\*.pt to resume from"):
        latest_checkpoint(tmp_path)
