"""A small raw nnU-Net data set: patients of several slices, two classes, original spacing."""

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk


def write_nifti(path: Path, values: np.ndarray, spacing=(1.5, 1.25), origin=(0.0, 0.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))


def case_names(patients: int, slices: int, first: int = 1) -> list[str]:
    return [f"patient{first + p:03d}_z{z}" for p in range(patients) for z in range(slices)]


def write_case(folder: Path, part: str, case: str, *, brightness: float = 100, shape=(40, 48), classes=(1, 2)) -> None:
    generator = np.random.default_rng(list(case.encode()))
    image = generator.normal(brightness, 20, shape).astype(np.int16)
    labels = np.zeros(shape, np.uint8)
    for value in classes:
        labels[8 * value : 8 * value + 6, 10:30] = value
    write_nifti(folder / f"images{part}" / f"{case}_0000.nii.gz", image + 30 * labels.astype(np.int16))
    write_nifti(folder / f"labels{part}" / f"{case}.nii.gz", labels)


def write_dataset_json(folder: Path, **changes) -> None:
    content = {
        "name": "Hearts",
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "LV": 1, "Myo": 2},
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps({**content, **changes}))


def make_raw(folder: Path, *, train: int = 4, val: int = 2, test: int = 2, slices: int = 2, fold: bool = True) -> Path:
    """Patients 1 to `train` train, the next `val` validate (splits_final.json), the next `test` test."""
    write_dataset_json(folder)
    training, validation = case_names(train, slices), case_names(val, slices, train + 1)
    for case in training + validation:
        write_case(folder, "Tr", case)
    for case in case_names(test, slices, train + val + 1):
        write_case(folder, "Ts", case)
    if fold:
        (folder / "splits_final.json").write_text(json.dumps([{"train": training, "val": validation}]))
    return folder
