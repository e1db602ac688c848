import json

import pytest

from nnsam.errors import InputError
from nnsam.nnunet.raw_dataset import check_dataset_folder_name, write_dataset_json


@pytest.mark.parametrize("name", ["Dataset001_A", "Dataset999_my-data.v2"])
def test_names_that_nnunet_accepts(name, tmp_path):
    assert check_dataset_folder_name(tmp_path / name) == name


@pytest.mark.parametrize(
    "name", ["Dataset1_A", "Dataset001", "Dataset001_", "dataset001_A", "Dataset001_a b", "hearts"]
)
def test_other_names_are_refused(name, tmp_path):
    with pytest.raises(InputError, match="DatasetXXX_Name"):
        check_dataset_folder_name(tmp_path / name)


def test_nnunets_label_manager_reads_the_regions(tmp_path):
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    write_dataset_json(
        tmp_path,
        name="x",
        channel_names=("image",),
        labels={"background": 0, "whole": (1, 2), "core": 2, "ignore": 3},
        num_training=4,
        file_ending=".png",
        regions_class_order=(1, 2),
        description="a test",
    )
    content = json.loads((tmp_path / "dataset.json").read_text())
    manager = LabelManager(content["labels"], content["regions_class_order"])
    assert manager.foreground_regions == [(1, 2), 2]
    assert manager.ignore_label == 3
    assert content["channel_names"] == {"0": "image"}
    assert content["numTraining"] == 4
