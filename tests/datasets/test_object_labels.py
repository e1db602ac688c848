import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nnsam.datasets.objects import colour_instances, instance_labels, object_label_names
from nnsam.errors import InputError


def conflicts(instances, colours) -> list[tuple[int, int]]:
    """Pixels from which a neighbour, corners included, belongs to another instance of the same colour."""
    height, width = instances.shape
    return [
        (y, x)
        for y in range(height)
        for x in range(width)
        for v in range(max(0, y - 1), min(height, y + 2))
        for u in range(max(0, x - 1), min(width, x + 2))
        if instances[y, x] and instances[v, u] and instances[y, x] != instances[v, u] and colours[y, x] == colours[v, u]
    ]


def test_the_checker_finds_touching_instances_of_one_colour():
    sides, corner = np.array([[1, 2]]), np.array([[1, 0], [0, 2]])
    for instances in (sides, corner, corner[:, ::-1]):
        assert conflicts(instances, (instances > 0).astype(int))
        assert not conflicts(instances, instances)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint16, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.integers(0, 9)))
def test_no_two_instances_of_one_colour_touch(instances):
    colours = colour_instances(instances)
    assert colours.dtype == np.uint8
    np.testing.assert_array_equal(colours > 0, instances > 0)
    assert conflicts(instances, colours) == []
    for instance in np.unique(instances[instances > 0]):
        assert len(np.unique(colours[instances == instance])) == 1
    used = np.unique(colours[colours > 0]).tolist()
    assert used == list(range(1, len(used) + 1))


def test_instances_apart_share_one_colour():
    instances = np.zeros((9, 9), np.uint16)
    instances[::2, ::2] = np.arange(1, 26).reshape(5, 5)
    np.testing.assert_array_equal(colour_instances(instances), instances > 0)


@pytest.mark.parametrize(
    ("instances", "colours"),
    [
        ([[1, 2, 3, 4]], 2),  # a path
        ([[1, 2], [3, 4]], 4),  # four around a corner all touch
        ([[5, 0], [0, 6]], 2),
        ([[0, 5], [6, 0]], 2),
        ([[5, 0, 6]], 1),
        ([[0]], 0),
    ],
)
def test_number_of_colours_of_small_maps(instances, colours):
    assert colour_instances(np.array(instances)).max() == colours


def test_an_instance_of_several_components_has_one_colour():
    coloured = colour_instances(np.array([[1, 2, 0, 1, 3]]))
    assert coloured[0, 0] == coloured[0, 3]
    assert coloured[0, 1] == coloured[0, 4] != coloured[0, 0]


def test_more_colours_than_a_byte_holds_are_refused():
    rows, columns = np.triu_indices(257, 1)
    instances = np.zeros((2 * len(rows), 2), int)
    instances[::2] = np.stack([rows, columns], axis=1) + 1  # every instance beside every other
    with pytest.raises(InputError, match="257 colours"):
        colour_instances(instances)


def test_names_number_classes_first():
    assert object_label_names(2, 1) == {"background": 0, "object_1": 1, "object_2": 2, "instance_1": 3}
    assert object_label_names(0, 2) == {"background": 0, "instance_1": 1, "instance_2": 2}
    assert object_label_names(250, 5)["instance_5"] == 255


@pytest.mark.parametrize(("classes", "colours"), [(0, 0), (256, 0), (250, 6)])
def test_none_or_too_many_labels_are_refused(classes, colours):
    with pytest.raises(InputError, match=f"{classes} classes and {colours} instance"):
        object_label_names(classes, colours)


def test_instance_labels_follow_the_classes():
    labels = instance_labels(np.array([[40, 40, 90], [0, 0, 0]]), 7)
    assert labels.tolist() == [[8, 8, 9], [0, 0, 0]]
    with pytest.raises(InputError, match="255 classes and 1 instance"):
        instance_labels(np.array([[1]]), 255)
