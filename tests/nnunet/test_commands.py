"""Running nnU-Net's commands from Python."""

import pytest

from nnsam.errors import NnsamError, SetupError
from nnsam.nnunet.commands import run_nnunet


def test_output_goes_to_the_log(tmp_path):
    run_nnunet("nnUNetv2_train", "--help", environment={}, log=tmp_path / "logs" / "log.txt")
    text = (tmp_path / "logs" / "log.txt").read_text()
    assert text.startswith("$ nnUNetv2_train --help\n")
    assert "usage: nnUNetv2_train" in text


def test_a_failure_names_the_last_line_and_the_log(tmp_path):
    with pytest.raises(NnsamError, match=r"nnUNetv2_train failed \(exit code 2\): .*required.*log\.txt"):
        run_nnunet("nnUNetv2_train", environment={}, log=tmp_path / "log.txt")


def test_an_unknown_command_is_refused(tmp_path):
    with pytest.raises(SetupError, match="nnUNetv2_nonsense is not installed"):
        run_nnunet("nnUNetv2_nonsense", environment={}, log=tmp_path / "log.txt")
