import json

import numpy as np
import pytest

from nnsam.errors import InputError
from nnsam.metrics.classes import classes_from_values, read_classes


def write(tmp_path, content):
    (tmp_path / "dataset.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return tmp_path / "dataset.json"


def test_single_labels_regions_and_ignore(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    classes = read_classes(write(tmp_path, {"labels": labels}))
    assert classes.values == {"whole": (1, 2), "core": (2,)}
    assert classes.ignore == 3


def test_found_values_are_named_after_themselves():
    assert classes_from_values({0, 5, 2}).values == {"label_2": (2,), "label_5": (5,)}


def test_undeclared_values_are_found_and_ignore_belongs_to_references_only(tmp_path):
    classes = read_classes(write(tmp_path, {"labels": {"background": 0, "a": 1, "ignore": 2}}))
    classes.check_values(np.array([0, 1, 2]), "The reference", with_ignore=True)
    with pytest.raises(InputError, match=r"The prediction holds the label values \[2\]"):
        classes.check_values(np.array([0, 1, 2]), "The prediction", with_ignore=False)
    with pytest.raises(InputError, match=r"\[7\]"):
        classes.check_values(np.array([7]), "The reference", with_ignore=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "cannot be read as JSON"),
        ([1], 'no "labels"'),
        ({"labels": ["a"]}, 'no "labels"'),
        ({"labels": {"a": "one"}}, "'a' the label 'one'"),
        ({"labels": {"a": []}}, "whole number or a list"),
        ({"labels": {"a": -1}}, "whole number or a list"),
        ({"labels": {"background": 0, "ignore": 1}}, "no class besides"),
    ],
)
def test_bad_files_are_named(tmp_path, content, words):
    with pytest.raises(InputError, match=words):
        read_classes(write(tmp_path, content))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"dataset\.json cannot be read"):
        read_classes(tmp_path / "dataset.json")
