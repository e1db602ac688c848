"""A model folder of nnU-Net, read and checked for export: which networks it holds and what they were trained for."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from nnsam.errors import InputError, NnsamError
from nnsam.export.support import check_supported, read_object
from nnsam.inference.model_folder import TRAINER_PREFIX, choose_folds
from nnsam.inference.spec import BoxModelSpec
from nnsam.networks.sam_branch import SAMBranch
from nnsam.training.trainer_names import TRAINERS, trainer_class
from nnsam.training.warm_start import read_nnunet_checkpoint

_NOT_EXPORTED = "nnSAMAutoSAMTrainer"


@dataclass(frozen=True)
class TrainedModel:
    """A model folder: everything but the weights, which :meth:`networks` reads fold by fold.

    Attributes:
        folder: holds plans.json, dataset.json and fold_*.
        checkpoint: name of the checkpoint in each fold.
        folds: names of the folds to use, e.g. ("0", "1") or ("all",).
        note: a sentence on the choice of the folds, "" where there was none.
        trainer: name of the trainer.
        configuration: name of the configuration.
        plans: content of plans.json.
        dataset_json: content of dataset.json.
        mirror_axes: spatial axes that test-time mirroring may flip; None where there is none.
        box: what a box model is; None for automatic models.
    """

    folder: Path
    checkpoint: str
    folds: tuple[str, ...]
    note: str
    trainer: str
    configuration: str
    plans: dict[str, Any]
    dataset_json: dict[str, Any]
    mirror_axes: tuple[int, ...] | None
    box: BoxModelSpec | None
    manager: Any = field(repr=False)
    settings: Any = field(repr=False)

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
        return 2 if self.box else self.manager.get_label_manager(self.dataset_json).num_segmentation_heads

    @property
    def has_regions(self) -> bool:
        """Outputs are overlapping regions (sigmoid) instead of labels (softmax)."""
        return not self.box and self.manager.get_label_manager(self.dataset_json).has_regions

    def networks(self) -> Iterator[tuple[str, nn.Module]]:
        """Gives fold by fold its name and its network: on the CPU, in evaluation, without deep supervision.

        One network at a time is in memory, unless the caller keeps them.

        Raises:
            InputError: a checkpoint is damaged, does not fit the plans, or is of another trainer or configuration
                than the first one.
        """
        cls = find_trainer(self.trainer, self.folder)
        for fold in self.folds:
            path = self.folder / f"fold_{fold}" / self.checkpoint
            content = read_nnunet_checkpoint(path)
            found = (str(content["trainer_name"]), str(content["init_args"].get("configuration")))
            if found != (self.trainer, self.configuration):
                raise InputError(
                    f"{path} was trained by {found[0]} in the configuration {found[1]}, fold {self.folds[0]} by "
                    f"{self.trainer} in {self.configuration}; the folds of one model have to agree"
                )
            yield fold, self._build(cls, content["network_weights"], path)

    def _build(self, cls: Any, weights: dict[str, Any], path: Path) -> nn.Module:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                network = cls.build_network_architecture(
                    self.manager, self.settings, self.image_channels, self.outputs, enable_deep_supervision=False
                )
        except NnsamError:
            raise
        except Exception as error:  # plans of other nnU-Net versions fail in many ways
            raise InputError(
                f"{self.folder}: {self.trainer} cannot build its network from plans.json ({error}); export supports "
                f"nnU-Net 2.8's own trainers with its plain and residual-encoder U-Nets, and nnsam's"
            ) from error
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(f"{path} does not fit plans.json: {str(error).splitlines()[-1].strip()}") from None
        return network.eval().requires_grad_(False)


def load_trained_model(
    folder: str | Path, folds: Sequence[int | str] | None = None, checkpoint: str = "checkpoint_final.pth"
) -> TrainedModel:
    """Reads and checks a model folder.

    Args:
        folder: nnU-Net's `<trainer>__<plans>__<configuration>`.
        folds: folds to use; None chooses as nnUNetv2_predict (all numbered ones, else fold_all) for automatic models,
            and as `nnsam segment` (one of them) for box models.
        checkpoint: file in each fold.

    Raises:
        InputError: the folder is not one of a trained model, or one that a bundle cannot express.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; expected the model folder of a trained model")
    plans, dataset_json = read_object(folder / "plans.json"), read_object(folder / "dataset.json")
    first, note = choose_folds(folder, folds[0] if folds else None, checkpoint)
    content = read_nnunet_checkpoint(folder / f"fold_{first[0]}" / checkpoint)
    trainer, configuration = str(content["trainer_name"]), str(content["init_args"].get("configuration", "2d"))
    if trainer.split("_")[0] == _NOT_EXPORTED:
        raise InputError(
            f"{folder} was trained by {trainer}, a baseline for comparisons, which export does not support"
        )
    is_box = trainer.startswith(TRAINER_PREFIX)
    if folds is not None:
        names, note = choose_folds(folder, folds, checkpoint)
    elif is_box:
        names = first
    else:
        names, note = _folds_of_prediction(folder, checkpoint)
    manager, settings = check_supported(folder, plans, dataset_json, configuration)
    axes = content.get("inference_allowed_mirroring_axes")
    return TrainedModel(
        folder=folder,
        checkpoint=checkpoint,
        folds=tuple(names),
        note=note,
        trainer=trainer,
        configuration=configuration,
        plans=plans,
        dataset_json=dataset_json,
        mirror_axes=tuple(int(axis) for axis in axes) if axes else None,
        box=BoxModelSpec.from_plans(plans, dataset_json, trainer, configuration) if is_box else None,
        manager=manager,
        settings=settings,
    )


def find_trainer(name: str, folder: Path) -> Any:
    """Returns the class of a trainer by its name: this package's, nnU-Net's, or one in nnUNet_extTrainer.

    Raises:
        InputError: there is none.
    """
    try:
        if name.split("_")[0] in TRAINERS:
            return trainer_class(name)
        from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

        with contextlib.redirect_stdout(io.StringIO()):
            return recursive_find_trainer_class_by_name(name)
    except InputError:
        raise
    except (LookupError, RuntimeError, AssertionError, ImportError) as error:
        reason = f" ({error})" if isinstance(error, ImportError) else ""
        raise InputError(
            f"{folder} was trained by {name}, which neither nnsam nor nnU-Net has{reason}; update nnsam, or set "
            f"nnUNet_extTrainer to the folder with that trainer"
        ) from None


def sam_branch(network: nn.Module) -> SAMBranch | None:
    """Returns the network's SAM branch, None where it has none."""
    return getattr(network, "sam", None)


def _folds_of_prediction(folder: Path, checkpoint: str) -> tuple[list[str], str]:
    found = {path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{checkpoint}")}
    numbered = sorted((name for name in found if name.isdigit()), key=int)
    if not numbered:
        return ["all"] if "all" in found else sorted(found)[:1], ""
    names = f"fold {numbered[0]}" if len(numbered) == 1 else f"folds {', '.join(numbered)}"
    rest = "; fold_all is not" if "all" in found else ""
    return numbered, f"{names} {'is' if len(numbered) == 1 else 'are'} used, as by nnUNetv2_predict{rest}"
