"""Keeps the parts of the loss per epoch, in a JSON file and a picture beside nnU-Net's progress.png.

Imports no torch: few-shot studies read the files from processes that only start others.
"""

from pathlib import Path

from nnsam.support.files import atomic_file, read_json, write_json

JSON_NAME = "loss_parts.json"
PNG_NAME = "loss_parts.png"
# Share of a constant's loss from which on a level-set head counts as one that has learnt nothing.
_UNLEARNT_SHARE = 0.95


def has_learnt(parts: dict[str, float]) -> bool:
    """Tells from an epoch's parts of the training loss whether the level-set head beats a constant; NaN does not.

    Example:
        >>> has_learnt({"level_set_share": 0.3}), has_learnt({"level_set_share": 1.0}), has_learnt({})
        (True, False, True)
    """
    return parts.get("level_set_share", 0.0) <= _UNLEARNT_SHARE


def unlearnt_level_sets(folder: str | Path) -> bool:
    """Whether the last epoch in an output folder says that its level-set head has learnt nothing; False without one."""
    path = Path(folder, JSON_NAME)
    epochs = read_json(path, "train again") if path.is_file() else []
    return bool(epochs) and not has_learnt(epochs[-1]["train"])


class LossHistory:
    """Means per epoch of the loss's parts, for training and validation.

    Args:
        folder: nnU-Net's output folder of the fold.
        start_epoch: first epoch of this run; what the files hold of earlier epochs is kept, later ones are dropped
            (a resumed training repeats them).
    """

    def __init__(self, folder: str | Path, start_epoch: int = 0):
        self.folder = Path(folder)
        self.epochs: list[dict] = []
        path = self.folder / JSON_NAME
        if start_epoch and path.is_file():
            self.epochs = [entry for entry in read_json(path, "remove it") if entry["epoch"] < start_epoch]

    def add(self, epoch: int, train: dict[str, float], validation: dict[str, float]) -> None:
        """Appends one epoch and rewrites both files."""
        self.epochs.append({"epoch": epoch, "train": train, "validation": validation})
        write_json(self.folder / JSON_NAME, self.epochs, end="")
        with atomic_file(self.folder / PNG_NAME) as path:
            self.plot(path)

    def plot(self, path: str | Path) -> None:
        """Draws one panel per part, training and validation over epochs."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        # Not every epoch has every part: there may be no boundaries.
        parts = list(dict.fromkeys(part for entry in self.epochs for part in entry["train"]))
        figure = Figure(figsize=(5 * len(parts), 4), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, part in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts, strict=True):
            for phase in ("train", "validation"):
                points = [(entry["epoch"], entry[phase][part]) for entry in self.epochs if part in entry[phase]]
                axes.plot(*zip(*points, strict=True), marker="." if len(points) < 50 else None, label=phase)
            axes.set(title=part.replace("_", " "), xlabel="epoch")
            axes.grid(alpha=0.3)
            axes.legend()
        figure.savefig(path, dpi=80, format="png")
