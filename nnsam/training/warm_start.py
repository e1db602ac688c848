"""Makes a starting point for nnSAM out of a trained nnU-Net, for nnU-Net's ``-pretrained_weights``.

nnU-Net accepts only checkpoints that hold every tensor of the network but its output layers. An nnU-Net checkpoint
lacks the SAM branch and the fusion; with the fusion at its initial identity, the network that starts from the result
computes what the nnU-Net computes.
"""

from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnsam import weights
from nnsam.errors import InputError, NnsamError
from nnsam.nnunet.allowed import check_plans
from nnsam.nnunet.checkpoint import read_nnunet_checkpoint
from nnsam.nnunet.trainer_names import trainer_class
from nnsam.support.concurrency import pass_on_ending
from nnsam.support.files import atomic_file
from nnsam.support.outputs import check_outputs
from nnsam.support.text import clipped
from nnsam.training.checks import check_configuration
from nnsam.training.sam_trainer import fill_encoder

# What nnU-Net writes into a checkpoint about its training, as far as it is used here.
_ARGUMENTS = {"plans": dict, "configuration": str, "dataset_json": dict}
OURS = ("sam.", "fusion.", "level_set_head.")


def write_warm_start(
    source: str | Path, target: str | Path, trainer: str = "nnSAMTrainer", overwrite: bool = False
) -> dict[str, int]:
    """Writes the starting point.

    Args:
        source: checkpoint of any nnU-Net trainer with nnU-Net's own networks, 2d configuration.
        target: file to write; replaced at once when it is complete.
        trainer: the nnSAM trainer that will start from it.
        overwrite: replace a file that exists.

    Returns:
        Number of tensors taken from nnU-Net (`taken`) and of new ones (`added`).

    Raises:
        InputError: the checkpoint does not fit.
        WeightsError: there are no SAM weights.
    """
    target = Path(target)
    if not target.resolve().parent.is_dir():
        raise InputError(f"the folder {target.resolve().parent} does not exist; create it first")
    check_outputs([("-o", target)], [source], "the checkpoint", overwrite=overwrite)
    checkpoint = read_nnunet_checkpoint(source)
    try:
        cls = trainer_class(trainer)
    except LookupError as error:
        raise InputError(str(error)) from None
    network = _build(cls, checkpoint["init_args"], trainer, source)
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
    with atomic_file(target) as draft:
        try:
            with draft.open("wb") as file:  # by its name, PyTorch would write the draft's into the file
                torch.save({"network_weights": network.state_dict(), "trainer_name": trainer}, file)
        except RuntimeError as error:  # PyTorch's, where a write failed
            reason = error.__context__ if isinstance(error.__context__, OSError) else str(error).splitlines()[0]
            raise InputError(f"{target} cannot be written ({reason}); is the disk full?") from error
    return {"taken": len(taken), "added": len(network.state_dict()) - len(taken)}


def _build(cls: Any, arguments: Any, trainer: str, source: str | Path) -> Any:
    """The trainer's network for the plans in a checkpoint."""
    wrong = [name for name, kind in _ARGUMENTS.items() if not isinstance(dict(arguments).get(name), kind)]
    if wrong:
        raise InputError(
            f"{source} does not say what it was trained with (no usable {', '.join(wrong)} in init_args); expected a "
            "checkpoint that nnU-Net wrote."
        )
    check_plans(arguments["plans"], source)
    try:
        check_configuration(arguments["plans"], arguments["configuration"], trainer)
        plans = PlansManager(arguments["plans"])
        configuration = plans.get_configuration(arguments["configuration"])
        channels = determine_num_input_channels(plans, configuration, arguments["dataset_json"])
        outputs = plans.get_label_manager(arguments["dataset_json"]).num_segmentation_heads
        return cls.build_network_architecture(plans, configuration, channels, outputs, True)
    except NnsamError:
        raise
    except Exception as error:  # nnU-Net takes fields out of plans in which anything may be damaged
        pass_on_ending()
        reason = f"{type(error).__name__}: {clipped(error)}"
        raise InputError(
            f"{source}: {trainer} cannot build its network from the plans in it ({reason}); expected a checkpoint of "
            "nnU-Net 2.8's own trainers."
        ) from error
