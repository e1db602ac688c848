"""Makes a starting point for nnSAM out of a trained nnU-Net, for nnU-Net's ``-pretrained_weights``.

nnU-Net accepts only checkpoints that hold every tensor of the network but its output layers. An nnU-Net checkpoint
lacks the SAM branch and the fusion; with the fusion at its initial identity, the network that starts from the result
computes what the nnU-Net computes.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnsam.errors import InputError

OURS = ("sam.", "fusion.", "level_set_head.")


def read_nnunet_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint that nnU-Net's trainer wrote, without running code from it (``weights_only=True``).

    Raises:
        InputError: the file is missing, damaged, or no checkpoint of nnU-Net v2.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no file {path}; expected a checkpoint of nnU-Net, e.g. fold_0/checkpoint_final.pth")
    # What nnU-Net puts into its log beside plain Python values: numpy scalars.
    core = np._core if hasattr(np, "_core") else np.core
    allowed: list[Any] = [core.multiarray.scalar, np.dtype]
    allowed += [type(np.dtype(name)) for name in ("float16", "float32", "float64", "int32", "int64")]
    try:
        with torch.serialization.safe_globals(allowed):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for files that are no checkpoints
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{path} cannot be read as a checkpoint of nnU-Net: {reason}; give a checkpoint_*.pth "
            f"that nnUNetv2_train wrote"
        ) from error
    missing = {"network_weights", "init_args", "trainer_name"} - set(checkpoint)
    if missing:
        raise InputError(f"{path} is no checkpoint of nnU-Net v2: it lacks {', '.join(sorted(missing))}")
    return checkpoint


def write_warm_start(source: str | Path, target: str | Path, trainer: str = "nnSAMTrainer") -> dict[str, int]:
    """Writes the starting point.

    Args:
        source: checkpoint of any nnU-Net trainer with nnU-Net's own networks, 2d configuration.
        target: file to write; replaced at once when it is complete.
        trainer: the nnSAM trainer that will start from it.

    Returns:
        Number of tensors taken from nnU-Net (`taken`) and of new ones (`added`).

    Raises:
        InputError: the checkpoint does not fit.
        WeightsError: there are no SAM weights.
    """
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnsam import weights
    from nnsam.training.checks import check_configuration
    from nnsam.training.encoder_weights import fill_encoder
    from nnsam.training.trainer_names import trainer_class

    target = Path(target)
    if not target.resolve().parent.is_dir():
        raise InputError(f"the folder {target.resolve().parent} does not exist; create it first")
    checkpoint = read_nnunet_checkpoint(source)
    try:
        cls = trainer_class(trainer)
    except LookupError as error:
        raise InputError(str(error)) from None
    arguments = checkpoint["init_args"]
    check_configuration(arguments["plans"], arguments["configuration"], trainer)
    plans = PlansManager(arguments["plans"])
    configuration = plans.get_configuration(arguments["configuration"])
    channels = determine_num_input_channels(plans, configuration, arguments["dataset_json"])
    outputs = plans.get_label_manager(arguments["dataset_json"]).num_segmentation_heads
    network: Any = cls.build_network_architecture(plans, configuration, channels, outputs, True)
    taken = checkpoint["network_weights"]
    try:
        missing, unknown = network.load_state_dict(taken, strict=False)
    except RuntimeError as error:
        raise InputError(f"{source} does not fit {trainer}: {str(error).splitlines()[-1].strip()}") from None
    missing = [key for key in missing if not key.startswith(OURS)]
    if missing or unknown:
        raise InputError(
            f"{source} (of {checkpoint['trainer_name']}) does not fit {trainer}: {len(missing)} tensors missing, "
            f"{len(unknown)} unknown (first: {[*missing, *unknown][0]}); give a checkpoint with nnU-Net's own network"
        )
    if network.sam is not None:
        fill_encoder(network.sam, None if cls.random_encoder else weights.resolve(), cls.seed or 0)
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        torch.save({"network_weights": network.state_dict(), "trainer_name": trainer}, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return {"taken": len(taken), "added": len(network.state_dict()) - len(taken)}
