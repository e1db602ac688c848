"""The limit of decoded size, asked before memory is taken."""

import pytest

from nnsam.errors import InputError
from nnsam.io.limits import DEFAULT, allowing_voxels, check_stored, check_voxels, max_voxels


def test_the_limit_is_the_environment_s_and_then_the_default(monkeypatch):
    monkeypatch.delenv("NNSAM_MAX_VOXELS", raising=False)
    assert max_voxels() == DEFAULT == 2**31
    monkeypatch.setenv("NNSAM_MAX_VOXELS", "1000")
    assert max_voxels() == 1000
    with allowing_voxels(7):
        assert max_voxels() == 7
    with allowing_voxels(None):
        assert max_voxels() == 1000
    assert max_voxels() == 1000


@pytest.mark.parametrize("text", ["0", "-1", "many", "1e9", "9" * 5000, "²"])
def test_a_variable_that_is_no_number_is_told(monkeypatch, text):
    monkeypatch.setenv("NNSAM_MAX_VOXELS", text)
    with pytest.raises(InputError, match="NNSAM_MAX_VOXELS is") as raised:
        max_voxels()
    assert len(str(raised.value)) < 400


def test_as_many_as_allowed_pass_and_one_more_does_not():
    with allowing_voxels(24):
        check_voxels("a.png", (4, 6))
        with pytest.raises(InputError, match=r"a\.png announces 5 x 5 values, .* limit of 24; .*--max-voxels"):
            check_voxels("a.png", (5, 5))


def test_a_file_can_hold_as_many_bytes_as_it_has(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    check_stored(path, 5)
    check_stored(path, 5000, 1000)
    with pytest.raises(InputError, match="holds 5 bytes, its header announces 6"):
        check_stored(path, 6)
    with pytest.raises(InputError, match="announces 5001 bytes, more than it can hold"):
        check_stored(path, 5001, 1000)
