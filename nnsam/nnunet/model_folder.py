"""nnU-Net's model folders: which networks one holds, what they were trained for, what a bundle can express of it."""

import contextlib
import io
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsam.errors import InputError, NnsamError
from nnsam.nnunet.checkpoint import read_nnunet_checkpoint
from nnsam.nnunet.trainer_names import TRAINERS, trainer_class
from nnsam.prompts.box_model import BoxModelSpec

if TYPE_CHECKING:
    from torch import nn

    from nnsam.networks.sam_branch import SAMBranch

NORMALIZATIONS = (
    "ZScoreNormalization",
    "CTNormalization",
    "NoNormalization",
    "RescaleTo01Normalization",
    "RGBTo01Normalization",
)
RESAMPLING = "resample_data_or_seg_to_shape"
# Defaults of nnU-Net's function (2.8.1), which hold where the plans leave an argument out.
RESAMPLING_DEFAULTS: Mapping[str, Any] = {
    "order": 3,
    "order_z": 0,
    "force_separate_z": False,
    "separate_z_anisotropy_threshold": 3,
}
READERS = (
    "NaturalImage2DIO",
    "SimpleITKIO",
    "SimpleITKIOWithReorient",
    "NibabelIO",
    "NibabelIOWithReorient",
    "Tiff3DIO",
)


def read_object(path: Path) -> dict[str, Any]:
    """Returns the JSON object in a file of a model folder.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path.parent} has no {path.name}; expected the model folder of a trained model") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); copy the model folder again") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a JSON object; expected what nnU-Net wrote")
    return content


def check_supported(
    folder: Path, plans: dict[str, Any], dataset_json: dict[str, Any], configuration: str
) -> tuple[Any, Any]:
    """Returns nnU-Net's managers of the plans and of the configuration, where a bundle can express them.

    Raises:
        InputError: a cascade, another preprocessor, label manager, reader, normalisation or resampling than nnU-Net's
            usual ones, or damaged plans.
    """
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of plans of older nnU-Net versions, which are translated
            manager = PlansManager(plans)
            settings = manager.get_configuration(configuration)
            _check_settings(folder, plans, settings)
            manager.get_label_manager(dataset_json)
            channels = len(dataset_json.get("channel_names") or dataset_json["modality"])
            masked = list(settings.use_mask_for_norm)
    except InputError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, AssertionError) as error:
        raise InputError(
            f"plans.json or dataset.json of {folder} are incomplete or damaged ({error or repr(error)}); expected what "
            f"nnU-Net wrote at training"
        ) from None
    if not len(settings.normalization_schemes) == len(masked) == channels:
        raise InputError(
            f"{folder}: plans.json normalises {len(settings.normalization_schemes)} channels and dataset.json has "
            f"{channels}; give a model folder whose files belong together"
        )
    return manager, settings


def resampling_arguments(settings: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Returns function and arguments of a resampling, nnU-Net's defaults filled in.

    Args:
        settings: the configuration in the plans.
        what: "data" or "probabilities".

    Raises:
        InputError: a function or an argument that the runtime does not have.
    """
    function, arguments = settings[f"resampling_fn_{what}"], dict(settings[f"resampling_fn_{what}_kwargs"])
    if function != RESAMPLING:
        raise InputError(f"the plans resample {what} by {function}; export supports nnU-Net's default, {RESAMPLING}")
    unknown = set(arguments) - set(RESAMPLING_DEFAULTS) - {"is_seg"}
    if unknown or arguments.pop("is_seg", False):
        raise InputError(
            f"the plans resample {what} with {', '.join(sorted(unknown)) or 'is_seg'}, which export does not support"
        )
    return {"function": function, **RESAMPLING_DEFAULTS, **arguments}


def _check_settings(folder: Path, plans: Mapping[str, Any], settings: Any) -> None:
    def refuse(what: str, found: Any, expected: Any) -> None:
        raise InputError(f"{folder} uses the {what} {found}, which export does not support; it supports {expected}")

    if settings.previous_stage_name is not None:
        refuse("cascade", f"on top of {settings.previous_stage_name}", "single-stage models: 2d, 3d_fullres, 3d_lowres")
    if settings.preprocessor_name != "DefaultPreprocessor":
        refuse("preprocessor", settings.preprocessor_name, "DefaultPreprocessor")
    if plans.get("label_manager", "LabelManager") != "LabelManager":
        refuse("label manager", plans["label_manager"], "LabelManager")
    if plans["image_reader_writer"] not in READERS:
        refuse("image reader", plans["image_reader_writer"], ", ".join(READERS))
    for scheme in settings.normalization_schemes:
        if scheme not in NORMALIZATIONS:
            refuse("normalisation", scheme, ", ".join(NORMALIZATIONS))
    for what in ("data", "probabilities"):
        resampling_arguments(settings.configuration, what)


TRAINER_PREFIX = "nnSAMBox"


def load_networks(
    folder: Path, fold: int | str | Sequence[int | str] | None, checkpoint: str
) -> tuple[list[Any], BoxModelSpec, str]:
    """Builds the networks of a model folder and fills in their weights, on the CPU, without deep supervision.

    Returns:
        The networks, what they are, and a sentence about the choice of the fold ("" where there was none).

    Raises:
        InputError: see :meth:`nnsam.inference.torch_backend.TorchBackend.from_folder`.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; expected the model folder of a trained box model")
    plans, dataset = (_read_json(folder / name) for name in ("plans.json", "dataset.json"))
    folds, note = choose_folds(folder, fold, checkpoint)
    networks, spec = [], None
    for name in folds:
        network, spec = _load_one(folder / f"fold_{name}" / checkpoint, plans, dataset)
        networks.append(network)
    assert spec is not None
    return networks, spec, note


def choose_folds(folder: Path, fold: int | str | Sequence[int | str] | None, checkpoint: str) -> tuple[list[str], str]:
    """Returns the names of folds to use, such as ["0"] or ["all"], and a sentence where one of several was chosen.

    Raises:
        InputError: a fold or its checkpoint is missing.
    """
    found = sorted(
        (path.parent.name.removeprefix("fold_") for path in folder.glob(f"fold_*/{checkpoint}")),
        key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name),
    )
    if not found:
        raise InputError(f"{folder} has no fold with a {checkpoint}; train the model first, or name another checkpoint")
    if fold is None:
        chosen = "all" if "all" in found else found[0]
        note = ""
        if len(found) > 1 and chosen != "all":
            note = f"fold {chosen} of {', '.join(found)} was used, since none was chosen"
        return [chosen], note
    wanted = [str(fold)] if isinstance(fold, int | str) else [str(name) for name in fold]
    missing = [name for name in wanted if name not in found]
    if missing or not wanted:
        raise InputError(
            f"{folder} has no {checkpoint} of fold {', '.join(missing) or '(none given)'}; it has {', '.join(found)}"
        )
    return list(dict.fromkeys(wanted)), ""


def _load_one(path: Path, plans: dict[str, Any], dataset: dict[str, Any]) -> tuple[Any, BoxModelSpec]:
    from nnsam.nnunet.checkpoint import read_nnunet_checkpoint
    from nnsam.nnunet.trainer_names import trainer_class

    checkpoint = read_nnunet_checkpoint(path)
    trainer = str(checkpoint["trainer_name"])
    if not trainer.startswith(TRAINER_PREFIX):
        raise InputError(f"{path.parent.parent} is a model of {trainer}; box prompts need one of nnSAMBoxTrainer")
    configuration = str(checkpoint["init_args"].get("configuration", "2d"))
    spec = BoxModelSpec.from_plans(plans, dataset, trainer, configuration)
    try:
        network = _build(trainer_class(trainer), plans, configuration, spec.image_channels)
    except LookupError as error:
        raise InputError(f"{path.parent.parent}: {error}; update nnsam") from None
    try:
        network.load_state_dict(checkpoint["network_weights"])
    except RuntimeError as error:
        raise InputError(f"{path} does not fit its plans: {str(error).splitlines()[-1].strip()}") from None
    return network.eval(), spec


def _build(trainer: Any, plans: dict[str, Any], configuration: str, channels: int) -> Any:
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    manager = PlansManager(plans)
    # Two outputs, background and object, whatever labels the data set had.
    return trainer.build_network_architecture(manager, manager.get_configuration(configuration), channels, 2, False)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path.parent} has no {path.name}; expected the model folder of a trained model") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} does not hold a JSON object; expected what nnU-Net wrote")
    return content


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

    def networks(self) -> "Iterator[tuple[str, nn.Module]]":
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


def sam_branch(network: "nn.Module") -> "SAMBranch | None":
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
