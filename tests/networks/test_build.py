"""Networks from plans: which plans are refused, and that the trainers' networks are the same."""

import copy

import pytest
import torch
from helpers.official_names import skip_initialisation
from helpers.plans import PLAIN, RESENC, build_with, make_plans

from nnsam.errors import InputError
from nnsam.networks import build_nnsam_unet
from nnsam.networks.fused_unet import architecture_of
from nnsam.training.trainer_names import TRAINERS, trainer_class
from nnsam.training.trainers import MonaiTrainer


@pytest.mark.parametrize(
    ("configuration", "message"),
    [("3d_fullres", "is not 2D"), ("2d_bs8", "no configuration '2d_bs8'; they have: 2d, 2d_cascade, 3d_fullres")],
)
def test_other_configurations_are_refused(configuration, message):
    with pytest.raises(InputError, match=message):
        build_nnsam_unet(make_plans(), None, configuration=configuration, input_channels=1, num_classes=2)


def test_a_configuration_inherits_its_architecture():
    plans = make_plans()
    assert architecture_of(plans, "2d_cascade") == plans["configurations"]["2d"]["architecture"]


def test_plans_of_an_older_nnunet_are_refused():
    plans = make_plans()
    del plans["configurations"]["2d"]["architecture"]
    with pytest.raises(InputError, match="holds no architecture"):
        build_nnsam_unet(plans, None, input_channels=1, num_classes=2)


@pytest.mark.parametrize(
    ("trainer", "network"),
    [*((name, PLAIN) for name in TRAINERS), ("nnSAMTrainer", RESENC), ("nnSAMLegacyTrainer", RESENC)],
)
def test_a_trainers_network_can_be_rebuilt_from_its_class_and_loaded_strictly(monkeypatch, trainer, network):
    # What nnUNetv2_predict does: no file is read, no weights are resolved, deep supervision is off.
    skip_initialisation(monkeypatch)
    if issubclass(trainer_class(trainer), MonaiTrainer):
        pytest.importorskip("monai")
    cls, plans = trainer_class(f"{trainer}_seed1"), make_plans(network, features=2)
    plans["configurations"]["2d"]["nnsam_box"] = {"model": "small", "prompt": "ellipse"}  # others ignore it
    trained, rebuilt = build_with(cls, plans), build_with(cls, plans, deep_supervision=False)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    rebuilt.load_state_dict(copy.deepcopy(trained.state_dict()), strict=True)
    if hasattr(trained, "decoder"):
        trained.decoder.deep_supervision = False
    image = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    trained.eval(), rebuilt.eval()
    if trained.sam is not None:
        trained.sam.encoder.clear_cache()
        shrink(trained), shrink(rebuilt)
    with torch.no_grad():
        assert torch.equal(rebuilt(image), trained(image))
    if trained.level_set_head is not None:
        assert trained.level_set_head.seg_layers.out_channels == 3


def shrink(network) -> None:
    """Lets the encoder see 32 x 32 pixels, which is quicker than the trainers' default of 1024."""
    network.sam.prepare = network.sam.build_input(32)
