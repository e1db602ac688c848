import pytest
import torch

from nnsam.errors import InputError
from nnsam.networks import MobileSAMEncoder, SAMBranch, build_box_unet
from nnsam.networks.box_unet import BoxUNet, box_architecture
from nnsam.networks.fused_unet import build_unet


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return build_box_unet("small", prompt="ellipse").eval()


def test_the_full_network_has_the_papers_number_of_parameters():
    with torch.device("meta"):
        unet = build_unet(box_architecture("full"), 4, 2, False)
    assert count(BoxUNet(unet, 3)) == 71_817_450


def test_the_small_network(small):
    assert count(build_box_unet("small")) == 2_474_808
    assert count(small) == 2_474_952  # one prompt channel more: 16 filters of 3 x 3


def test_the_paper_has_six_stages_because_288_is_no_multiple_of_64():
    arguments = box_architecture("full")["arch_kwargs"]
    assert arguments["n_stages"] == 6
    assert 224 % 2**5 == 288 % 2**5 == 0
    assert 288 % 2**6


def test_without_a_prompt_it_computes_what_it_computes_for_zeros(small):
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        plain, zeros = small(image), small(torch.cat((image, torch.zeros(2, 2, 64, 96)), dim=1))
        prompted = small(torch.cat((image, torch.ones(2, 2, 64, 96)), dim=1))
    assert plain.shape == (2, 2, 64, 96)
    assert torch.equal(plain, zeros)
    assert not torch.allclose(plain, prompted)


def test_deep_supervision_gives_one_output_per_decoder_stage():
    outputs = build_box_unet("small", deep_supervision=True)(torch.randn(1, 4, 64, 64))
    assert [tuple(output.shape) for output in outputs] == [(1, 2, side, side) for side in (64, 32, 16, 8)]


def test_the_sam_branch_sees_the_image_only():
    torch.manual_seed(0)
    branch = SAMBranch(MobileSAMEncoder.random(0), 64, random_by_design=True)
    network = build_box_unet("small", sam=branch).eval()
    seen = []
    branch.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    patch = torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        network(patch)
    assert torch.equal(seen[0], patch[:, :3])


def test_at_its_start_the_hybrid_computes_what_the_box_network_computes():
    torch.manual_seed(0)
    plain = build_box_unet("small").eval()
    hybrid = build_box_unet("small", sam=SAMBranch(MobileSAMEncoder.random(0), 64, random_by_design=True)).eval()
    hybrid.load_state_dict(plain.state_dict(), strict=False)
    patch = torch.randn(1, 4, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(hybrid(patch), plain(patch), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_other_numbers_of_channels_are_refused(small, channels):
    with pytest.raises(InputError, match="expected 3 image channels"):
        small(torch.zeros(1, channels, 64, 64))


def test_unknown_models_and_prompts_are_refused():
    with pytest.raises(InputError, match="full or small"):
        build_box_unet("huge")
    with pytest.raises(InputError, match="binary or ellipse"):
        build_box_unet("small", prompt="points")
