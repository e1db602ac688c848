"""What a person sees while a training goes on, and what Ctrl-C says."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from rich.console import Console

from nnsam.support.concurrency import Terminated
from nnsam.training.progress import EpochBar, how_to_go_on

CONTROL = "nnSAMRandomEncoderTrainer_3epochs_2iters_sam32"  # needs no weights


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setattr(Console, "is_terminal", property(lambda self: True))


def test_a_bar_moves_with_the_steps_on_a_terminal(terminal, capsys):
    bar = EpochBar()
    bar.start("Epoch 3 of 9, training", 4)
    for _ in range(4):
        bar.step()
    bar.stop()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Epoch 3 of 9, training" in shown.err
    assert " 25%" in shown.err
    assert "100%" in shown.err


def test_a_log_gets_no_bar(capsys):
    bar = EpochBar()
    bar.start("Epoch 3 of 9, training", 4)
    bar.step()
    bar.stop()
    assert capsys.readouterr() == ("", "")


def test_a_bar_has_no_thread_of_its_own():
    code = """
import threading
from rich.console import Console
Console.is_terminal = property(lambda self: True)
from nnsam.training.progress import EpochBar
bar = EpochBar()
bar.start("x", 2)
bar.step()
print(threading.active_count())
bar.stop()
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()[-1] == "1"


def test_what_c_goes_on_from_is_what_nnunet_would_take(tmp_path):
    assert how_to_go_on(tmp_path, {}) == "there is no checkpoint yet: the same command begins anew, with --c, too"
    (tmp_path / "checkpoint_best.pth").touch()
    assert "from checkpoint_best.pth, which an earlier training in this folder has left" in how_to_go_on(tmp_path, {})
    epochs = {"checkpoint_best.pth": 8, "checkpoint_latest.pth": 5}
    assert how_to_go_on(tmp_path, epochs) == "with --c the same command goes on after epoch 7, from checkpoint_best.pth"
    (tmp_path / "checkpoint_latest.pth").touch()
    assert "after epoch 4, from checkpoint_latest.pth" in how_to_go_on(tmp_path, epochs)


@pytest.mark.parametrize(
    ("epoch", "sentence"), [(0, "there is no checkpoint yet"), (2, "the same command goes on after epoch ")]
)
def test_ctrl_c_says_what_c_goes_on_from(make_trainer, monkeypatch, capsys, epoch, sentence):
    trainer = make_trainer(CONTROL)
    step = nnUNetTrainer.train_step

    def interrupted(self, batch):
        if self.current_epoch == epoch:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(nnUNetTrainer, "train_step", interrupted)
    with pytest.raises(SystemExit) as ending:
        trainer.run_training()
    assert ending.value.code == 130
    assert ending.value.__suppress_context__  # no stack below the sentence
    said = capsys.readouterr().out
    assert f"nnsam: interrupted in epoch {epoch} of 3; " in said
    assert sentence in said
    if not epoch:
        return
    done, name = re.search(r"goes on after epoch (\d), from (\S+)", said).groups()
    again = make_trainer(CONTROL, continue_training=True)
    again.load_checkpoint(str(Path(trainer.output_folder, name)))
    assert again.current_epoch == int(done) + 1
    monkeypatch.setattr(nnUNetTrainer, "run_training", interrupted_at_once)
    with pytest.raises(SystemExit):
        again.run_training()
    assert f"goes on after epoch {done}, from {name}" in capsys.readouterr().out


def interrupted_at_once(self):
    raise KeyboardInterrupt


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (Terminated, 143)])
def test_the_stack_of_an_interruption_is_shown_on_request(make_trainer, monkeypatch, error, code):
    trainer = make_trainer(CONTROL)

    def end(self):
        raise error

    monkeypatch.setattr(nnUNetTrainer, "run_training", end)
    with pytest.raises(SystemExit) as ending:
        trainer.run_training()
    assert ending.value.code == code
    monkeypatch.setenv("NNSAM_TRACEBACK", "1")
    with pytest.raises(error):
        trainer.run_training()
