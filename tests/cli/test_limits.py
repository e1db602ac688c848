"""--max-voxels: which commands have it, and that it holds while they run and no longer."""

import os

import nibabel
import numpy as np
import pytest

from nnsam.cli.main import build_parser, main

READERS = [
    ["segment", "MODEL", "-i", "IN", "-o", "OUT"],
    ["predict", "BUNDLE", "-i", "IN", "-o", "OUT"],
    ["evaluate", "-p", "PRED", "-r", "REF"],
    ["convert", "images", "IMAGES", "MASKS", "-o", "OUT"],
    ["convert", "npz-to-nnunet", "SRC", "-o", "OUT"],
    ["convert", "mmwhs", "SRC", "-o", "OUT"],
    ["box-train", "DATA", "-o", "BUNDLE"],
    ["export", "MODEL", "-o", "BUNDLE"],
    ["fewshot", "prepare", "-d", "DATA", "-o", "EXP", "--sizes", "1"],
]


@pytest.mark.parametrize("words", READERS, ids=lambda words: " ".join(words[:2]))
def test_every_command_that_reads_images_has_the_limit(words, capsys):
    parser = build_parser(words[0])
    assert parser.parse_args([*words, "--max-voxels", "1000"]).max_voxels == 1000
    assert parser.parse_args(words).max_voxels is None
    for text in ("0", "-5", "1e9", "9" * 5000):
        with pytest.raises(SystemExit):
            parser.parse_args([*words, f"--max-voxels={text}"])
        assert len(capsys.readouterr().err) < 5000


def test_the_limit_holds_while_the_command_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("NNSAM_MAX_VOXELS", raising=False)
    for name in ("a.nii.gz", "b.nii.gz"):
        nibabel.Nifti1Image(np.eye(6, dtype=np.uint8)[..., None], np.eye(4)).to_filename(tmp_path / name)
    words = ["evaluate", "-p", str(tmp_path / "a.nii.gz"), "-r", str(tmp_path / "b.nii.gz")]
    assert main([*words, "--max-voxels", "35"]) == 1
    error = capsys.readouterr().err
    assert "announces 6 x 6 x 1 values" in error
    assert "limit of 35" in error
    assert "Traceback" not in error
    assert "NNSAM_MAX_VOXELS" not in os.environ
    assert main([*words, "--max-voxels", "36"]) == 0
    monkeypatch.setenv("NNSAM_MAX_VOXELS", "35")
    assert main(words) == 1
