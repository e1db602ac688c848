import pytest

from nnsam.nnunet.folders import NNUNET_FOLDERS, unset_variable, unset_variable_of_output


@pytest.fixture
def unset(monkeypatch):
    for name in NNUNET_FOLDERS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("path", ["/Dataset100_Lesions", "/Dataset001_Heart/nnSAMTrainer__p__2d/fold_0/a.pth"])
def test_a_path_that_lost_its_variable_is_noticed(unset, path):
    assert f"found the path {path} in the root folder" in unset_variable(path)
    assert "export nnUNet_raw=" in unset_variable(path)


@pytest.mark.parametrize("path", ["$nnUNet_raw/Dataset1", "${nnUNet_results}/D", "%nnUNet_preprocessed%\\D"])
def test_a_variable_that_the_shell_did_not_expand_is_noticed(unset, monkeypatch, path):
    assert "is not set, and" in unset_variable(path)
    for name in NNUNET_FOLDERS:
        monkeypatch.setenv(name, "somewhere")
    assert "is set, but" in unset_variable(path)


@pytest.mark.parametrize("path", ["Dataset100_Lesions", "/data/Dataset100_L", "/Dataset", "1", "", "$HOME", "1=LV"])
def test_other_paths_are_the_users_business(unset, path):
    assert unset_variable(path) is None


def test_nothing_is_wrong_where_all_are_set_or_the_folder_is_there(monkeypatch, tmp_path):
    for name in NNUNET_FOLDERS:
        monkeypatch.setenv(name, str(tmp_path))
    assert unset_variable("/Dataset100_Lesions") is None
    monkeypatch.delenv("nnUNet_raw")
    monkeypatch.setattr("nnsam.nnunet.folders.Path.exists", lambda path: True)
    assert unset_variable("/Dataset100_Lesions") is None


@pytest.mark.parametrize("path", ["/nowhere_bundle", "/nowhere_bundle/fold_0/a.json"])
def test_an_output_that_would_lie_in_the_root_folder_is_noticed(unset, path):
    assert f"found the output {path} in the root folder, which has no nowhere_bundle" in unset_variable_of_output(path)
    assert "export nnUNet_results=" in unset_variable_of_output(path)


@pytest.mark.parametrize("path", ["/", "/usr", "/usr/nowhere_bundle", "nowhere_bundle", "-", "", "../x"])
def test_other_outputs_are_the_users_business(unset, path):
    assert unset_variable_of_output(path) is None


def test_outputs_in_the_root_folder_are_meant_where_all_variables_are_set(monkeypatch, tmp_path):
    for name in NNUNET_FOLDERS:
        monkeypatch.setenv(name, str(tmp_path))
    assert unset_variable_of_output("/nowhere_bundle") is None


def test_outputs_in_the_root_folder_are_meant_where_nnunet_is_not_installed(unset, monkeypatch):
    """As in a container that only predicts, with -o /out."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert unset_variable_of_output("/nowhere_bundle") is None
