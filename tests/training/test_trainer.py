"""The loop: what it writes, how it ends, how it goes on."""

import json
import multiprocessing
import os
import signal
import threading

import pytest
import torch
from PIL import Image
from training_helpers import assert_same_bits

from stylegan_ops.data import ImageDataset
from stylegan_ops.training import Processes, TrainingDiverged, load_checkpoint
from stylegan_ops.training.checkpoint import list_checkpoints
from stylegan_ops.training.interrupt import StopSignals


def test_run_writes_everything(make_trainer, tmp_path):
    trainer = make_trainer(tmp_path / "run", kimg=0.04, snapshot_kimg=0.016, log_seconds=1e-6, keep_checkpoints=2)
    result = trainer.run()
    run = tmp_path / "run"
    assert result.exit_code == 0
    assert result.checkpoint == run / "checkpoint-000000040.pt"
    assert [path.name for path in list_checkpoints(run)] == ["checkpoint-000000032.pt", "checkpoint-000000040.pt"]
    assert sorted(os.listdir(run)) == [
        *("checkpoint-000000032.pt", "checkpoint-000000040.pt", "config.json", "grids", "log.jsonl", "reals.png", "tb"),
    ]
    assert result.grid == run / "grids" / "kimg000000.png"
    assert Image.open(result.grid).size == (128, 64)
    assert Image.open(run / "reals.png").size == (128, 16)  # 24 images in rows of 16
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [8, 16, 24, 32, 40]
    assert lines[0].keys() >= {"seconds", "images_per_second", "loss/G", "loss/D", "path/mean", "r1/penalty"}
    about = json.loads((run / "config.json").read_text())
    assert about["config"]["batch_size"] == 8
    assert about["data"]["num_images"] == 24


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_resumed_run_has_the_same_bits(make_trainer, tmp_path, precision):
    settings = {"precision": precision, "workers": 2, "conditional": True}
    whole = make_trainer(tmp_path / "whole", kimg=0.056, **settings).run().checkpoint
    first = make_trainer(tmp_path / "parts", kimg=0.024, **settings).run().checkpoint
    second = make_trainer(tmp_path / "parts", kimg=0.056, resume=load_checkpoint(first), **settings).run().checkpoint
    assert_same_bits(load_checkpoint(whole), load_checkpoint(second))


def test_data_position_goes_on(make_trainer, tmp_path, monkeypatch):
    """24 images in batches of 8: three steps are an epoch, and a resumed run goes on within it."""
    seen = []

    def record(trainer):
        step = trainer.training_step

        def recorded(next_batch):
            def noted():
                images, labels = next_batch()
                seen.append(images.clone())
                return images, labels

            return step(noted)

        trainer.training_step = recorded
        return trainer

    first = record(make_trainer(tmp_path / "run", kimg=0.016)).run().checkpoint
    record(make_trainer(tmp_path / "run", kimg=0.024, resume=load_checkpoint(first))).run()
    assert len(torch.cat(seen).flatten(1).unique(dim=0)) == 24


def test_resumed_run_drops_the_log_lines_it_repeats(make_trainer, tmp_path):
    first = make_trainer(tmp_path / "run", kimg=0.016, log_seconds=1e-6).run().checkpoint
    log = tmp_path / "run" / "log.jsonl"
    with open(log, "a") as file:
        file.write('{"images": 24, "seconds": 9}\n{"images": 3')  # lines of a run that was killed
    make_trainer(tmp_path / "run", kimg=0.032, log_seconds=1e-6, resume=load_checkpoint(first)).run()
    assert [json.loads(line)["images"] for line in log.read_text().splitlines()] == [8, 16, 24, 32]


def test_finished_run_stays_finished(make_trainer, tmp_path):
    first = make_trainer(tmp_path / "run", kimg=0.016).run().checkpoint
    before = load_checkpoint(first)
    assert make_trainer(tmp_path / "run", kimg=0.016, resume=before).run().checkpoint == first
    assert_same_bits(before, load_checkpoint(first))


def test_minutes_count_over_resumed_runs(make_trainer, tmp_path):
    first = make_trainer(tmp_path / "run", kimg=0.016).run().checkpoint
    state = load_checkpoint(first)
    state["seconds"] = 59.9999
    result = make_trainer(tmp_path / "run", kimg=None, minutes=1.0, resume=state).run()
    assert load_checkpoint(result.checkpoint)["step"] == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_after_the_step(make_trainer, tmp_path, number, code):
    trainer = make_trainer(tmp_path / "run", kimg=1.0)
    step = trainer.training_step

    def interrupted(next_batch):
        if trainer.state.step == 2:
            os.kill(os.getpid(), number)
        return step(next_batch)

    trainer.training_step = interrupted
    before = signal.getsignal(number)
    result = trainer.run()
    assert result.exit_code == code
    assert load_checkpoint(result.checkpoint)["step"] == 3
    assert signal.getsignal(number) == before


def test_second_signal_has_its_former_effect():
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_runs_in_a_thread(make_trainer, tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(make_trainer(tmp_path / "run", kimg=0.008).run()))
    thread.start()
    thread.join()
    assert results[0].exit_code == 0


def test_diverged_run_names_step_and_keeps_the_good_checkpoint(make_trainer, tmp_path):
    trainer = make_trainer(tmp_path / "run", kimg=1.0, snapshot_kimg=0.016)
    step = trainer.training_step

    def poisoned(next_batch):
        if trainer.state.step == 3:
            trainer.state.D.b4.out.bias.data.fill_(float("nan"))
        return step(next_batch)

    trainer.training_step = poisoned
    with pytest.raises(TrainingDiverged) as error:
        trainer.run()
    good = tmp_path / "run" / "checkpoint-000000016.pt"
    assert str(error.value) == f"train: loss/G must be finite (nan) at step 4 (0.032 kimg); the last good checkpoint is {str(good)!r}"
    assert list_checkpoints(tmp_path / "run") == [good]
    assert load_checkpoint(good)["D"]["b4.out.bias"].isfinite().all()


def test_error_leaves_no_worker_behind(make_trainer, tmp_path):
    """While the error is held, as it is until the process ends, workers that ignore signals would keep it from ending."""
    trainer = make_trainer(tmp_path / "run", kimg=1.0, workers=1)

    def broken(next_batch):
        next_batch()
        assert multiprocessing.active_children()
        raise ValueError("broken")

    trainer.training_step = broken
    with pytest.raises(ValueError, match="broken") as error:
        trainer.run()
    assert error and not multiprocessing.active_children()


def test_checkpoint_of_bad_weights_is_refused(make_trainer, tmp_path):
    """Weights may go wrong in the update after finite losses."""
    trainer = make_trainer(tmp_path / "run", kimg=0.008)
    step = trainer.training_step

    def poisoned(next_batch):
        stats = step(next_batch)
        trainer.state.G.synthesis.b4.const.data[0, 0, 0] = float("inf")
        return stats

    trainer.training_step = poisoned
    with pytest.raises(TrainingDiverged, match=r"parameters must be finite at step 1 \(0.008 kimg\); there is no checkpoint yet"):
        trainer.run()
    assert list_checkpoints(tmp_path / "run") == []


def test_float16_goes_on_after_an_overflow(make_trainer, tmp_path):
    trainer = make_trainer(tmp_path / "run", kimg=0.016, precision="float16")
    step = trainer.training_step
    trainer.training_step = lambda *batch: {**step(*batch), "loss/G": torch.tensor(float("inf"))}
    trainer.run()
    trainer = make_trainer(tmp_path / "other", kimg=0.016, precision="float16")
    trainer.state.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-11)
    step = trainer.training_step
    trainer.training_step = lambda *batch: {**step(*batch), "loss/G": torch.tensor(float("inf"))}
    with pytest.raises(TrainingDiverged, match="loss/G must be finite"):
        trainer.run()


def test_rejects_another_runs_folder(make_trainer, tmp_path):
    first = make_trainer(tmp_path / "run", kimg=0.008).run().checkpoint
    with pytest.raises(ValueError, match="train: outdir must not hold another run"):
        make_trainer(tmp_path / "run")
    state = load_checkpoint(first)
    make_trainer(tmp_path / "run", kimg=0.016, resume=state).run()
    with pytest.raises(ValueError, match="train: outdir must have the resumed checkpoint as its newest.*checkpoint-000000016.pt"):
        make_trainer(tmp_path / "run", kimg=0.016, resume=state)
    make_trainer(tmp_path / "branch", kimg=0.016, resume=state)  # but a new folder may branch off


def test_rejects_a_file_as_folder(make_trainer, tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match=r"train: outdir must be a folder \('.*run'\)"):
        make_trainer(tmp_path / "run")


def test_rejects_a_batch_that_does_not_divide(make_trainer, tmp_path):
    with pytest.raises(ValueError, match=r"batch_size must be a multiple of the number of processes, 3 \(8\)"):
        make_trainer(tmp_path / "run", processes=Processes(torch.device("cpu"), 0, 3))


def test_rejects_another_data_set(make_trainer, tmp_path, data_path):
    first = make_trainer(tmp_path / "run", kimg=0.008).run().checkpoint
    state = load_checkpoint(first)
    state["data"]["num_images"] = 23
    with pytest.raises(ValueError, match="train: DATA must be the data set of the run, .*23"):
        make_trainer(tmp_path / "run", resume=state)


def test_rejects_conditional_without_labels(data_path, tmp_path):
    from stylegan_ops.training import Trainer, TrainingConfig

    dataset = ImageDataset(data_path, use_labels=False)
    with pytest.raises(ValueError, match="conditional must be False for a data set without labels"):
        Trainer(TrainingConfig(conditional=True), dataset, tmp_path / "run", Processes(torch.device("cpu")))
    assert not (tmp_path / "run").exists()


def test_removes_what_a_crash_left(make_trainer, tmp_path):
    left = tmp_path / "run" / ".checkpoint-000000008.pt.123.tmp"
    left.parent.mkdir()
    left.write_bytes(b"half")
    make_trainer(tmp_path / "run")
    assert not left.exists()
