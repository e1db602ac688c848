import numpy as np
import pytest
import torch

from nnsam.training.transforms import RandomColours


@pytest.fixture
def case():
    np.random.seed(0)
    return {"image": torch.randn(3, 5, 6), "segmentation": torch.ones(1, 5, 6)}


def test_grey_is_the_mean_of_the_channels(case):
    result = RandomColours(grey=1, swap=0, negative=0)(**case)
    for channel in result["image"]:
        torch.testing.assert_close(channel, case["image"].mean(dim=0))
    assert result["segmentation"] is case["segmentation"]


def test_swapped_channels_are_the_same_ones_in_some_order(case):
    seen = set()
    for _ in range(60):
        image = RandomColours(grey=0, swap=1, negative=0)(**case)["image"]
        order = tuple(next(i for i in range(3) if torch.equal(image[c], case["image"][i])) for c in range(3))
        seen.add(order)
    assert len(seen) == 6


def test_the_negative_changes_signs_and_the_input_is_left_alone(case):
    before = case["image"].clone()
    assert torch.equal(RandomColours(grey=0, swap=0, negative=1)(**case)["image"], -before)
    assert torch.equal(case["image"], before)


def test_without_chance_nothing_changes_and_grey_images_stay_grey(case):
    assert torch.equal(RandomColours(0, 0, 0)(**case)["image"], case["image"])
    grey = {"image": case["image"][:1].repeat(3, 1, 1), "segmentation": case["segmentation"]}
    for _ in range(20):
        image = RandomColours()(**grey)["image"]
        torch.testing.assert_close(image.abs(), grey["image"].abs())
