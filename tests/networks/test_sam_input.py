"""From nnU-Net's normalisation to SAM's: channels, robust rescaling, resizing."""

import pytest
import torch

from nnsam.errors import InputError
from nnsam.networks import SAMInput
from nnsam.networks.sam_branch import rescale_robust, resize_tensor, to_three_channels

# SAM's published statistics, written down again on purpose.
MEAN = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
STD = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)


def patch(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_values_are_sam_normalised():
    # 0..255 without outliers: the rescale is the identity, so SAM's own formula gives the expected values.
    image = torch.arange(256.0).repeat(4).view(1, 1, 32, 32)
    low, high = image.flatten().kthvalue(6).values, image.flatten().kthvalue(1019).values
    stretched = ((image - low) / (high - low)).clamp(0, 1) * 255
    torch.testing.assert_close(SAMInput(32)(image), (stretched.expand(1, 3, 32, 32) - MEAN) / STD)
    black_and_white = torch.zeros(1, 1, 32, 32)
    black_and_white[..., 16:] = 7.5
    found = SAMInput(32)(black_and_white)[0]
    torch.testing.assert_close(found[:, :, :1], ((0 - MEAN) / STD).expand(3, 32, 1))
    torch.testing.assert_close(found[:, :, -1:], ((255 - MEAN) / STD).expand(3, 32, 1))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7])
def test_any_channel_count_gives_three_finite_channels_of_the_asked_size(channels):
    found = SAMInput(64)(patch(2, channels, 50, 70))
    assert found.shape == (2, 3, 64, 64)
    assert torch.isfinite(found).all()
    assert found.std() > 0.3


def test_channels_are_mapped_by_the_stated_rules():
    image = patch(1, 7, 4, 4)
    one, two, three = image[:, :1], image[:, :2], image[:, :3]
    assert torch.equal(to_three_channels(one), one)
    assert torch.equal(to_three_channels(two), torch.cat((two, two.mean(1, keepdim=True)), 1))
    assert torch.equal(to_three_channels(three), three)
    for count, groups in ((4, (2, 1, 1)), (5, (2, 2, 1)), (6, (2, 2, 2)), (7, (3, 2, 2))):
        expected = [part.mean(1, keepdim=True) for part in image[:, :count].split(groups, dim=1)]
        torch.testing.assert_close(to_three_channels(image[:, :count]), torch.cat(expected, 1))


def test_one_channel_is_repeated():
    found = SAMInput(32)(patch(1, 1, 32, 32)) * STD + MEAN
    torch.testing.assert_close(found[:, 0], found[:, 1])
    torch.testing.assert_close(found[:, 0], found[:, 2])


def test_three_channels_share_their_scale_and_others_do_not():
    scales = torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1, 1)
    colour = rescale_robust(patch(1, 3, 64, 64) * scales)
    assert colour[:, 0].std() < 0.1 * colour[:, 2].std()
    separate = rescale_robust(patch(1, 4, 64, 64) * torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(1, 4, 1, 1))
    spread = separate.std(dim=(2, 3))
    assert spread.max() < 1.2 * spread.min()


@pytest.mark.parametrize("value", [0.0, -3.5, 1e6])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_a_constant_image_stays_finite_and_constant(value, channels):
    found = SAMInput(32)(torch.full((1, channels, 40, 40), value))
    assert torch.isfinite(found).all()
    assert found.std(dim=(2, 3)).max() < 1e-4


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize(("scale", "shift"), [(0.2, 0.0), (30.0, -7.0), (1.0, 100.0)])
def test_intensity_scale_and_shift_change_nothing(channels, scale, shift):
    image = patch(2, channels, 48, 48)
    torch.testing.assert_close(SAMInput(32)(image * scale + shift), SAMInput(32)(image), atol=2e-3, rtol=0)


def test_an_inverted_image_is_another_image():  # the test above compares what can differ
    image = patch(1, 1, 48, 48)
    assert (SAMInput(32)(-image) - SAMInput(32)(image)).abs().max() > 1


def test_outliers_do_not_darken_the_rest():
    image = patch(1, 1, 64, 64)
    spoilt = image.clone()
    spoilt[0, 0, 0, :4] = 1e6
    difference = (rescale_robust(spoilt) - rescale_robust(image)).abs()
    assert difference[0, 0, 1:].max() < 0.05


def test_a_nearly_flat_image_is_not_stretched_to_full_contrast():
    found = rescale_robust(1e-4 * patch(1, 1, 64, 64))
    assert found.max() < 0.1


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("size", [(40, 56), (100, 100), (64, 64)])
def test_a_flipped_patch_gives_the_flipped_image(axis, size):
    image, prepare = patch(1, 2, *size), SAMInput(64)
    torch.testing.assert_close(prepare(image.flip(axis)), prepare(image).flip(axis), atol=1e-5, rtol=0)


def test_resizing_is_exact_for_equal_sizes_and_antialiased_when_shrinking():
    image = patch(1, 1, 64, 64)
    assert resize_tensor(image, (64, 64)) is image
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., ::2] = 1
    # Every second column averages out; without anti-aliasing a shrink to a third picks columns and aliases.
    assert resize_tensor(stripes, (64, 20))[..., 2:-2].std() < 0.05
    assert torch.nn.functional.interpolate(stripes, (64, 20), mode="bilinear")[..., 2:-2].std() > 0.05


def test_no_gradient_flows_and_nothing_is_stored():
    image = patch(1, 1, 32, 32).requires_grad_()
    assert not SAMInput(32)(image).requires_grad
    assert dict(SAMInput(32).state_dict()) == {}
    assert not list(SAMInput(32).parameters())


def test_the_patch_is_left_as_it_is():
    image = patch(1, 3, 32, 32)
    before = image.clone()
    SAMInput(32)(image)
    assert torch.equal(image, before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_patches_give_float32(dtype):
    image = patch(1, 1, 64, 64)
    found = SAMInput(64)(image.to(dtype))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, SAMInput(64)(image.to(dtype).float()))


@pytest.mark.parametrize("size", [0, -32, 16, 33, 1000])
def test_other_sizes_are_refused(size):
    with pytest.raises(InputError, match=f"size is {size}; expected a positive multiple of 32"):
        SAMInput(size)
