"""Reads a trained box model from nnU-Net's model folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nnsam.errors import InputError
from nnsam.inference.spec import BoxModelSpec

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
    from nnsam.training.trainer_names import trainer_class
    from nnsam.training.warm_start import read_nnunet_checkpoint

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
