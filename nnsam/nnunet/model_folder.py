"""nnU-Net's model folders: which networks one holds, and what they were trained for."""

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsam.errors import InputError, NnsamError
from nnsam.nnunet.allowed import check_plans, check_trainer_name
from nnsam.nnunet.checkpoint import read_nnunet_checkpoint
from nnsam.nnunet.folders import fold_hint
from nnsam.nnunet.trainer_names import TRAINERS, trainer_class
from nnsam.prompts.box_model import BoxModelSpec
from nnsam.support.files import read_json
from nnsam.support.text import clipped, shown

if TYPE_CHECKING:
    from torch import nn

    from nnsam.networks.sam_branch import SAMBranch

CHECKPOINT = "checkpoint_final.pth"
_BOX_TRAINERS = "nnSAMBox"
Folds = int | str | Sequence[int | str]


@dataclass(frozen=True)
class TrainedModel:
    """A trained model: everything but the weights, which :meth:`networks` reads fold by fold.

    Attributes:
        folder: holds plans.json, dataset.json and fold_*.
        checkpoint: name of the checkpoint in each fold.
        folds: names of the folds to use, e.g. ("0", "1") or ("all",).
        trainer: name of the trainer.
        configuration: name of the configuration.
        plans: content of plans.json.
        dataset_json: content of dataset.json.
        mirror_axes: spatial axes that test-time mirroring may flip; None where there is none.
        note: a sentence on the choice of the folds, "" where there was none.
    """

    folder: Path
    checkpoint: str
    folds: tuple[str, ...]
    trainer: str
    configuration: str
    plans: dict[str, Any]
    dataset_json: dict[str, Any]
    mirror_axes: tuple[int, ...] | None = None
    note: str = ""
    # Checkpoints that were read to find the above, by fold; each is given up when its network is made.
    _read: dict[str, dict[str, Any]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_box(self) -> bool:
        """Segments what lies in boxes, instead of images by itself."""
        return self.trainer.startswith(_BOX_TRAINERS)

    @cached_property
    def box(self) -> BoxModelSpec | None:
        """What a box model is; None for automatic models.

        Raises:
            InputError: plans without box prompts, or damaged ones.
        """
        if not self.is_box:
            return None
        return BoxModelSpec.from_plans(self.plans, self.dataset_json, self.trainer, self.configuration)

    @cached_property
    def manager(self) -> Any:
        """nnU-Net's manager of the plans."""
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of plans of older nnU-Net versions, which are translated
            return PlansManager(self.plans)

    @cached_property
    def settings(self) -> Any:
        """nnU-Net's manager of the configuration."""
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.manager.get_configuration(self.configuration)

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Network input in voxels, (z, y, x) or (y, x)."""
        return tuple(int(side) for side in self.settings.patch_size)

    @property
    def image_channels(self) -> int:
        """Number of the image's channels."""
        return len(self.dataset_json.get("channel_names") or self.dataset_json["modality"])

    @property
    def outputs(self) -> int:
        """Number of the network's outputs: labels with background, or regions; 2 for box models."""
        # Background and object, whatever labels the data set had.
        return 2 if self.is_box else self.manager.get_label_manager(self.dataset_json).num_segmentation_heads

    @property
    def has_regions(self) -> bool:
        """Outputs are overlapping regions (sigmoid) instead of labels (softmax)."""
        return not self.is_box and self.manager.get_label_manager(self.dataset_json).has_regions

    def networks(self) -> "Iterator[tuple[str, nn.Module]]":
        """Gives fold by fold its name and its network: on the CPU, in evaluation, without deep supervision.

        One network at a time is in memory, unless the caller keeps them.

        Raises:
            InputError: a checkpoint is damaged, does not fit the plans, or is of another trainer or configuration
                than the first one.
        """
        cls = find_trainer(self.trainer, self.folder)
        for fold in self.folds:
            path = _checkpoint_path(self.folder, fold, self.checkpoint)
            content = self._read.pop(fold, None) or read_nnunet_checkpoint(path)
            found = _origin(content)
            if found != (self.trainer, self.configuration):
                raise InputError(
                    f"{path} was trained by {found[0]} in the configuration {found[1]}, fold {self.folds[0]} by "
                    f"{self.trainer} in {self.configuration}; the folds of one model have to agree"
                )
            yield fold, self._build(cls, content["network_weights"], path)

    def _build(self, cls: Any, weights: dict[str, Any], path: Path) -> "nn.Module":
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                network = cls.build_network_architecture(
                    self.manager, self.settings, self.image_channels, self.outputs, enable_deep_supervision=False
                )
        except NnsamError:
            raise
        except Exception as error:  # plans of other nnU-Net versions fail in many ways
            raise InputError(
                f"{self.folder}: {self.trainer} cannot build its network from plans.json ({clipped(error)}); "
                f"nnsam supports nnU-Net 2.8's own trainers with its plain and residual-encoder U-Nets, and its own"
            ) from error
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(f"{path} does not fit plans.json: {clipped(str(error).splitlines()[-1], 400)}") from None
        return network.eval().requires_grad_(False)


def load_trained_model(folder: str | Path, folds: Folds | None = None, checkpoint: str | None = None) -> TrainedModel:
    """Reads a model folder.

    Args:
        folder: nnU-Net's `<trainer>__<plans>__<configuration>`.
        folds: fold or folds to use; None: of automatic models those that nnUNetv2_predict uses (all numbered ones,
            else fold_all), of box models "all" where there is one, else the lowest.
        checkpoint: file in each fold; None for checkpoint_final.pth.

    Raises:
        InputError: the folder is not one of a trained model, or an incomplete or damaged one.
    """
    folder, checkpoint = Path(folder), checkpoint or CHECKPOINT
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; expected the model folder of a trained model")
    plans, dataset_json = _read_object(folder / "plans.json"), _read_object(folder / "dataset.json")
    check_plans(plans, folder / "plans.json")
    found = _found_folds(folder, checkpoint)
    chosen = found if folds is None else _wanted_folds(folder, checkpoint, found, folds)
    # Any fold tells what the model is; this one is used in any case but that of fold_all beside numbered ones.
    first = "all" if folds is None and "all" in found else chosen[0]
    content = read_nnunet_checkpoint(_checkpoint_path(folder, first, checkpoint))
    trainer, configuration = _origin(content)
    note = ""
    if folds is None:
        chosen, note = (_fold_of_boxes if trainer.startswith(_BOX_TRAINERS) else _folds_of_prediction)(found)
    axes = content.get("inference_allowed_mirroring_axes")
    model = TrainedModel(
        folder=folder,
        checkpoint=checkpoint,
        folds=tuple(chosen),
        trainer=trainer,
        configuration=configuration,
        plans=plans,
        dataset_json=dataset_json,
        mirror_axes=_mirror_axes(axes, folder),
        note=note,
        _read={first: content} if first in chosen else {},
    )
    _ = model.box  # refuses plans that do not fit
    return model


def _mirror_axes(axes: Any, folder: Path) -> tuple[int, ...] | None:
    """Axes that test-time mirroring may flip, as a checkpoint names them."""
    if not axes:
        return None
    if not isinstance(axes, list | tuple) or any(type(axis) is not int or not 0 <= axis <= 2 for axis in axes):
        raise InputError(
            f"the checkpoint of {folder} names {shown(axes)} as the axes of mirroring; expected some of 0, 1 and 2, so "
            "copy it again"
        )
    return tuple(axes)


def _checkpoint_path(folder: Path, fold: str, checkpoint: str) -> Path:
    return folder / f"fold_{fold}" / checkpoint


def _origin(checkpoint: dict[str, Any]) -> tuple[str, str]:
    """Trainer and configuration."""
    return check_trainer_name(checkpoint["trainer_name"], "the checkpoint"), str(
        checkpoint["init_args"].get("configuration", "2d")
    )


def _found_folds(folder: Path, checkpoint: str) -> list[str]:
    """Names of the folds with this checkpoint: numbered ones first, at least one in all."""
    found = sorted(
        (path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{checkpoint}")),
        key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name),
    )
    if not found:
        raise InputError(f"{folder} has no fold with a {checkpoint}; train the model first, or name another checkpoint")
    return found


def _wanted_folds(folder: Path, checkpoint: str, found: Sequence[str], folds: Folds) -> list[str]:
    wanted = list(map(str, folds if isinstance(folds, Iterable) and not isinstance(folds, str) else [folds]))
    missing = [name for name in wanted if name not in found]
    if missing or not wanted:
        raise InputError(
            f"{folder} has no {checkpoint} of fold {', '.join(missing) or '(none given)'}; it has {', '.join(found)}"
        )
    return list(dict.fromkeys(wanted))


def _fold_of_boxes(found: Sequence[str]) -> tuple[list[str], str]:
    if "all" in found:
        return ["all"], ""
    note = f"fold {found[0]} of {', '.join(found)} was used, since none was chosen" if len(found) > 1 else ""
    return [found[0]], note


def _folds_of_prediction(found: Sequence[str]) -> tuple[list[str], str]:
    numbered = [name for name in found if name.isdigit()]
    if not numbered:
        return ["all"] if "all" in found else [found[0]], ""
    names = f"fold {numbered[0]}" if len(numbered) == 1 else f"folds {', '.join(numbered)}"
    rest = "; fold_all is not" if "all" in found else ""
    return numbered, f"{names} {'is' if len(numbered) == 1 else 'are'} used, as by nnUNetv2_predict{rest}"


def _read_object(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file of a model folder."""
    missing = f"{path.parent} has no {path.name}; expected the model folder of a trained model{fold_hint(path.parent)}"
    content = read_json(path, "copy the model folder again", missing)
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a JSON object; expected what nnU-Net wrote")
    return content


def find_trainer(name: str, folder: Path) -> Any:
    """Returns the class of a trainer by its name: this package's, nnU-Net's, or one in nnUNet_extTrainer.

    Raises:
        InputError: there is none.
    """
    check_trainer_name(name, folder)
    try:
        if name.split("_")[0] in TRAINERS:
            return trainer_class(name)
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

        with contextlib.redirect_stdout(io.StringIO()):
            return recursive_find_trainer_class_by_name(name)
    except (LookupError, RuntimeError, AssertionError, ImportError) as error:
        reason = f" ({error})" if isinstance(error, ImportError) else ""
        raise InputError(
            f"{folder} was trained by {name}, which neither nnsam nor nnU-Net has{reason}; update nnsam, or set "
            f"nnUNet_extTrainer to the folder with that trainer"
        ) from None


def sam_branch(network: "nn.Module") -> "SAMBranch | None":
    """Returns the network's SAM branch, None where it has none."""
    return getattr(network, "sam", None)
