import pickle
import time

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform

from nnsam.errors import InputError
from nnsam.geometry import level_set_target, signed_distance, squash
from nnsam.training.transforms import AppendSignedDistance


def label_map(size=64, ignored=None):
    """Two nested disks (1 inside 2) and a separate one (3); optionally a strip of an ignored label."""
    y, x = np.mgrid[:size, :size]
    labels = np.zeros((1, size, size), dtype=np.int16)
    labels[0, np.hypot(y - 25, x - 22) < 16] = 2
    labels[0, np.hypot(y - 25, x - 22) < 8] = 1
    labels[0, np.hypot(y - 50, x - 50) < 9] = 3
    if ignored is not None:
        labels[0, 30:36, 10:60] = ignored
    return torch.from_numpy(labels)


def apply(transform, first):
    return transform(image=torch.zeros(1, 64, 64), segmentation=[first, first[:, ::2, ::2]])["segmentation"]


def test_appends_one_map_per_label():
    labels = label_map()
    result = apply(AppendSignedDistance([1, 2, 3], band=6.0), labels)
    assert len(result) == 3
    assert result[0] is labels
    target = result[-1]
    assert target.dtype == torch.float32
    assert target.shape == (3, 64, 64)
    assert target.abs().max() <= 1
    for channel, label in enumerate((1, 2, 3)):
        mask = labels[0].numpy() == label
        np.testing.assert_allclose(target[channel], squash(signed_distance(mask), 6.0), atol=1e-3)
        np.testing.assert_array_equal(target[channel] < 0, mask)


def test_absent_class_is_far_everywhere():
    assert (apply(AppendSignedDistance([1, 7]), label_map())[-1][1] == 1).all()


def test_ignore_label_is_unknown_in_every_class():
    labels = label_map(ignored=4)
    target = apply(AppendSignedDistance([1, 2, 3], ignore_label=4), labels)[-1]
    ignored = labels[0].numpy() == 4
    assert target[:, ignored].isnan().all()
    assert not target.isnan().all()
    for channel in range(3):
        expected = level_set_target(labels[0].numpy() == channel + 1, ignored)
        np.testing.assert_array_equal(target[channel], expected)


def test_absent_ignore_label_marks_nothing():
    with_label = apply(AppendSignedDistance([1, 2, 3], ignore_label=4), label_map())[-1]
    assert torch.equal(with_label, apply(AppendSignedDistance([1, 2, 3]), label_map())[-1])


@pytest.mark.parametrize("ignore_label", [None, 4])
def test_regions_as_nnunet_builds_them(ignore_label):
    labels = label_map(ignored=ignore_label)
    regions = [[1, 2, 3], [1, 2], 3] + ([] if ignore_label is None else [[ignore_label]])
    transforms = ComposeTransforms(
        [
            ConvertSegmentationToRegionsTransform(regions=regions),
            DownsampleSegForDSTransform([1, 0.5, 0.25]),
            AppendSignedDistance(has_regions=True, ignore_label=ignore_label),
        ]
    )
    result = transforms(segmentation=labels)["segmentation"]
    assert len(result) == 4
    assert result[-1].shape == (3, 64, 64)
    ignored = None if ignore_label is None else labels[0].numpy() == ignore_label
    for channel, region in enumerate(([1, 2, 3], [1, 2], [3])):
        np.testing.assert_array_equal(
            result[-1][channel], level_set_target(np.isin(labels[0].numpy(), region), ignored)
        )


def test_spacing_reaches_the_distance():
    stretched = apply(AppendSignedDistance([3], spacing=(2.0, 0.5)), label_map())[-1]
    expected = level_set_target(label_map()[0].numpy() == 3, spacing=(2.0, 0.5))
    np.testing.assert_array_equal(stretched[0], expected)
    assert not torch.equal(stretched, apply(AppendSignedDistance([3]), label_map())[-1])


def test_input_stays():
    labels = label_map(ignored=4)
    segmentations = [labels, labels[:, ::2, ::2]]
    data = {"segmentation": segmentations, "image": torch.ones(1, 64, 64)}
    before = labels.clone()
    result = AppendSignedDistance([1, 2, 3], ignore_label=4)(**data)
    assert torch.equal(labels, before)
    assert len(segmentations) == 2
    assert result["image"] is data["image"]


def test_travels_to_a_worker():
    transform = AppendSignedDistance([1, 2, 3], ignore_label=4, band=5, spacing=(1.0, 1.5))
    copy = pickle.loads(pickle.dumps(transform))
    labels = label_map(ignored=4)
    torch.testing.assert_close(apply(copy, labels)[-1], apply(transform, labels)[-1], equal_nan=True)
    assert "band = 5.0" in repr(copy)


@pytest.mark.parametrize("segmentation", [label_map(), None, []])
def test_without_deep_supervision_is_told(segmentation):
    with pytest.raises(InputError, match="deep supervision"):
        AppendSignedDistance([1])(segmentation=segmentation)


def test_3d_patches_are_told():
    with pytest.raises(InputError, match="configuration 2d"):
        AppendSignedDistance([1])(segmentation=[torch.zeros(1, 4, 8, 8, dtype=torch.int16)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "foreground labels"),
        ({"foreground_labels": []}, "foreground labels"),
        ({"foreground_labels": [1], "band": 0}, "band"),
        ({"foreground_labels": [1], "spacing": (999, 1, 1)}, "Spacing"),
    ],
)
def test_bad_options_are_told_at_once(options, message):
    with pytest.raises(InputError, match=message):
        AppendSignedDistance(**options)


def test_is_quick_enough_for_a_training_step():
    y, x = np.mgrid[:256, :256]
    lungs = np.minimum(np.hypot((y - 128) / 90, (x - 70) / 40), np.hypot((y - 128) / 90, (x - 186) / 40)) < 1
    labels = torch.from_numpy(lungs.astype(np.int16))[None]
    transform = AppendSignedDistance([1])
    times = []
    for _ in range(5):
        start = time.perf_counter()
        transform(segmentation=[labels])
        times.append(time.perf_counter() - start)
    # 5 ms on the development machine, where 15 ms are allowed; the rest is for busy machines.
    assert min(times) < 0.05
