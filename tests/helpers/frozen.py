"""The check that a trained network's SAM encoder is frozen, to be shared by tests and to be tested itself."""

import torch

from helpers.official_names import checkpoint_tensors
from nnsam.networks.mobile_sam import encoder_state


def expected_state() -> dict[str, torch.Tensor]:
    """What the encoder loaded from the tests' checkpoint holds, parameters and buffers."""
    return encoder_state(checkpoint_tensors())


def changed_tensors(trainer) -> list[str]:
    """Names of the encoder's tensors that are not bit for bit those of the checkpoint."""
    found = trainer.bare_network.sam.encoder.state_dict()
    expected = expected_state()
    assert found.keys() == expected.keys()
    return [name for name, tensor in expected.items() if not torch.equal(found[name], tensor)]


def assert_frozen(trainer) -> None:
    """Equal to the checkpoint bit for bit, no gradient, no optimizer state, nothing in training mode."""
    encoder = trainer.bare_network.sam.encoder
    assert changed_tensors(trainer) == []
    assert [name for name, parameter in encoder.named_parameters() if parameter.requires_grad] == []
    assert [name for name, parameter in encoder.named_parameters() if parameter.grad is not None] == []
    frozen = {id(parameter) for parameter in encoder.parameters()}
    assert not [p for group in trainer.optimizer.param_groups for p in group["params"] if id(p) in frozen]
    assert not [p for p in trainer.optimizer.state if id(p) in frozen]
    assert [name for name, module in encoder.named_modules() if module.training] == []
