"""The files with the parts of the loss: complete or as before, and continued where a training goes on."""

import json

import pytest

from nnsam.training.loss_history import JSON_NAME, PNG_NAME, LossHistory, unlearnt_level_sets

PARTS = {"segmentation": 1.0, "level_set": 0.5, "curvature": 0.25, "level_set_share": 0.9}
PNG = b"\x89PNG\r\n\x1a\n"


def epochs(folder) -> list[int]:
    return [entry["epoch"] for entry in json.loads((folder / JSON_NAME).read_text())]


def filled(folder, count: int) -> LossHistory:
    history = LossHistory(folder)
    for epoch in range(count):
        history.add(epoch, PARTS, {name: value + epoch for name, value in PARTS.items()})
    return history


def test_both_files_appear_and_nothing_else(tmp_path):
    filled(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [JSON_NAME, PNG_NAME]
    content = json.loads((tmp_path / JSON_NAME).read_text())
    assert content[1] == {"epoch": 1, "train": PARTS, "validation": {k: v + 1 for k, v in PARTS.items()}}
    assert (tmp_path / PNG_NAME).read_bytes().startswith(PNG)


@pytest.mark.parametrize(("start", "kept"), [(0, []), (2, [0, 1]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])])
def test_a_resumed_training_keeps_the_epochs_before_its_start(tmp_path, start, kept):
    before = [{"epoch": epoch, "train": PARTS, "validation": PARTS} for epoch in range(4)]
    (tmp_path / JSON_NAME).write_text(json.dumps(before))

    class Undrawn(LossHistory):  # drawing takes a while
        def plot(self, path):
            path.write_bytes(PNG)

    resumed = Undrawn(tmp_path, start_epoch=start)
    assert [entry["epoch"] for entry in resumed.epochs] == kept
    resumed.add(start, PARTS, PARTS)
    assert epochs(tmp_path) == [*kept, start]


def test_resuming_without_files_starts_anew(tmp_path):
    LossHistory(tmp_path, start_epoch=3).add(3, PARTS, PARTS)
    assert epochs(tmp_path) == [3]


def test_an_interrupted_picture_leaves_the_one_before(tmp_path):
    filled(tmp_path, 1)
    before = (tmp_path / PNG_NAME).read_bytes()

    class Interrupted(LossHistory):
        def plot(self, path):
            path.write_bytes(PNG)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Interrupted(tmp_path, start_epoch=1).add(1, PARTS, PARTS)
    assert (tmp_path / PNG_NAME).read_bytes() == before
    assert epochs(tmp_path) == [0, 1]
    assert len(list(tmp_path.iterdir())) == 2


def test_phases_may_lack_a_part_and_values_may_be_nan(tmp_path):
    LossHistory(tmp_path).add(0, {**PARTS, "curvature": float("nan")}, {"segmentation": 1.0})
    assert (tmp_path / PNG_NAME).stat().st_size > 1000


def test_a_part_that_the_last_epoch_lacks_is_still_drawn(tmp_path):
    from matplotlib.figure import Figure

    history, titles = LossHistory(tmp_path), []
    history.add(0, PARTS, PARTS)
    without = {name: value for name, value in PARTS.items() if name != "level_set_share"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, *_, **__: titles.extend(a.get_title() for a in figure.axes))
        history.epochs.append({"epoch": 1, "train": without, "validation": without})
        history.plot(tmp_path / "x.png")
    assert "level set share" in titles


@pytest.mark.parametrize(("share", "unlearnt"), [(0.3, False), (0.99, True), (float("nan"), True), (None, False)])
def test_a_folder_tells_of_a_head_that_learnt_nothing(tmp_path, share, unlearnt):
    assert not unlearnt_level_sets(tmp_path)
    LossHistory(tmp_path).add(0, {"segmentation": 1.0} | ({} if share is None else {"level_set_share": share}), {})
    assert unlearnt_level_sets(tmp_path) == unlearnt


def test_a_training_logs_and_draws_the_parts(trained):
    content = json.loads((trained.folder / JSON_NAME).read_text())
    assert [entry["epoch"] for entry in content] == [0, 1]
    for entry in content:
        for phase in ("train", "validation"):
            assert set(entry[phase]) == set(PARTS)
            assert all(value > 0 for value in entry[phase].values())
    assert (trained.folder / PNG_NAME).read_bytes().startswith(PNG)
    log = "".join(path.read_text() for path in trained.folder.glob("training_log_*.txt"))
    assert log.count("train_loss parts") == log.count("val_loss parts") == 2
    # nnU-Net's own mean loss is the sum of the parts with their weights; the curvature's is warmed up after one epoch.
    logged = trained.trainer.logger.get_value("train_losses", step=None)
    for entry, total in zip(content, logged, strict=True):
        parts = entry["train"]
        assert parts["segmentation"] + parts["level_set"] + 0.1 * parts["curvature"] == pytest.approx(total, rel=1e-4)


def test_a_training_without_level_sets_draws_nothing(make_trainer, official):
    trainer = make_trainer("nnSAMNoLevelSetTrainer_1epochs_1iters_sam32")
    trainer.on_train_start()
    assert trainer._history is None
