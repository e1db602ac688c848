from types import SimpleNamespace

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

from nnsam.geometry.boxes import box_of_mask
from nnsam.prompts.encoding import encode_box
from nnsam.prompts.sampling import BoxJitter
from nnsam.training.box_trainer import prompt_labels
from nnsam.training.prompted_dataset import BACKGROUND, IGNORED, OTHER, TARGET, PromptedDataset, ViewSampling, balanced
from nnsam.training.transforms import IGNORE_LABEL, AppendBoxPrompt

PATCH = (64, 80)


class Cases:
    """nnU-Net's data set, in memory: one slice-stack with two blobs of label 1, one of label 2, ignored pixels (3)."""

    source_folder = "nowhere"
    identifiers = ("case",)

    def __init__(self, empty=False):
        labels = np.zeros((1, 2, 100, 120), np.int16)
        if not empty:
            labels[0, 1, 10:30, 10:30] = labels[0, 1, 50:60, 10:40] = 1
            labels[0, 1, 60:90, 60:100] = 2
            labels[0, 1, 0:5] = 3
        self.labels = labels
        self.image = np.where(labels > 0, labels, 0).astype(np.float32)
        self.locations = {
            value: [(0, *voxel) for voxel in np.argwhere(labels[0] == value)] for value in (1, 2) if not empty
        }

    def load_case(self, identifier):
        return self.image, self.labels, None, {"class_locations": self.locations}


def dataset(empty=False, **changes):
    sampling = {"patch_size": PATCH, "view_size": PATCH, "ignore_label": 3} | changes
    return PromptedDataset(Cases(empty), ViewSampling(**sampling))


@pytest.fixture(autouse=True)
def seed():
    np.random.seed(0)


def load(data):
    image, segmentation, previous, properties = data.load_case("case")
    assert previous is None
    assert image.shape == (1, 1, *data.sampling.view_size)
    assert segmentation.shape == (1, 1, *data.sampling.view_size)
    assert properties["class_locations"][1]
    return image[0, 0], segmentation[0, 0]


def test_views_at_the_images_resolution_are_crops_with_one_component_as_target():
    for _ in range(40):
        image, segmentation = load(dataset(zoom_probability=0))
        values = set(np.unique(image[segmentation == TARGET]))
        assert values in ({1.0}, {2.0})
        y0, x0, y1, x1 = box_of_mask(segmentation == TARGET)
        assert (y1 - y0, x1 - x0) <= (30, 40)
        assert (segmentation[image == 0] <= BACKGROUND).all()
        assert (image[segmentation == OTHER] > 0).all()


def test_zoomed_views_show_the_whole_object_with_the_drawn_context():
    for _ in range(40):
        _, segmentation = load(dataset(zoom_probability=1, context=(1.5, 1.5), aspect=1.0, shift=0.0))
        y0, x0, y1, x1 = box_of_mask(segmentation == TARGET)
        shares = (y1 - y0) / PATCH[0], (x1 - x0) / PATCH[1]
        assert max(shares) == pytest.approx(1 / 1.5, abs=0.05)
        assert (y0 + y1) / 2 == pytest.approx(PATCH[0] / 2, abs=2)
        assert (x0 + x1) / 2 == pytest.approx(PATCH[1] / 2, abs=2)


def test_whole_labels_can_be_the_target_but_not_of_instance_labels():
    def components_of_label_1(**changes):
        views = [load(dataset(zoom_probability=1, aspect=1.0, **changes)) for _ in range(30)]
        return [(s == OTHER)[i == 1].any() for i, s in views if (i[s == TARGET] == 1).all()]

    assert not any(components_of_label_1(whole_label_probability=1.0, context=(3, 3)))
    single = components_of_label_1(whole_label_probability=1.0, single_component_labels=frozenset({1}), context=(9, 9))
    assert all(single)


def test_ignored_pixels_stay_so_and_empty_cases_give_background():
    _, segmentation = load(dataset(zoom_probability=1, context=(9, 9)))
    assert (segmentation == IGNORED).any()
    image, segmentation = load(dataset(empty=True))
    assert (segmentation <= BACKGROUND).all()
    assert not image.any()


def test_balance_gives_every_group_about_the_same_share():
    names = [f"large__{index}" for index in range(30)] + ["small__1", "small__2"] + ["middle__1"] * 7
    repeated = balanced(names)
    groups = [name.split("__")[0] for name in repeated]
    assert groups.count("large") == groups.count("small") == 30
    assert 25 <= groups.count("middle") <= 35
    assert balanced(["a", "b", "c"]) == ["a", "b", "c"]


def coded(target=True):
    segmentation = torch.zeros(1, 12, 14, dtype=torch.int16)
    segmentation[0, 8:10, 8:10] = OTHER
    segmentation[0, 0] = IGNORED
    if target:
        segmentation[0, 3:6, 2:7] = TARGET
    return {"image": torch.randn(2, 12, 14), "segmentation": segmentation}


def test_the_prompt_is_the_targets_box_and_the_target_is_the_object_alone():
    case = coded()
    result = ComposeTransforms([AppendBoxPrompt("ellipse", BoxJitter(exact=1), dropout=0)])(**case)
    assert torch.equal(result["image"][:2], case["image"])
    assert torch.equal(result["image"][2:], torch.from_numpy(encode_box([3, 2, 6, 7], (12, 14), "ellipse")))
    segmentation = result["segmentation"][0]
    assert segmentation[3:6, 2:7].eq(1).all()
    assert segmentation[8:10, 8:10].eq(0).all()
    assert segmentation[0].eq(IGNORE_LABEL).all()
    assert case["segmentation"][0, 3, 2] == TARGET  # the input is left alone


@pytest.mark.parametrize(("target", "dropout"), [(True, 1.0), (False, 0.0)])
def test_without_a_prompt_the_target_is_all_that_is_labelled(target, dropout):
    result = AppendBoxPrompt("binary", BoxJitter(), dropout)(**coded(target))
    assert not result["image"][2].any()
    expected = (coded(target)["segmentation"] == OTHER) | (coded(target)["segmentation"] == TARGET)
    assert torch.equal(result["segmentation"] == 1, expected)


def test_what_labels_mean_to_prompts():
    labels = {"background": 0, "liver": 1, "instance_1": 2, "tumour": [1, 3], "ignore": 4}
    found = prompt_labels({"labels": labels})
    assert found.for_network == {"background": 0, "object": 1, "ignore": 2}
    assert found.single_component == {2}
    assert found.ignore == 4
    assert prompt_labels(SimpleNamespace(labels={"background": 0, "a": 1}).__dict__).for_network == {
        "background": 0,
        "object": 1,
    }
