"""The description of the machine that figures are measured on."""

import json

from nnsam.support.machine import describe_briefly, describe_machine, package_version, versions


def test_the_description_is_complete_and_fits_into_json():
    machine = json.loads(json.dumps(describe_machine()))
    assert machine["cores"] >= 1
    assert set(machine) >= {"processor", "cpu_features", "openvino_devices", "gpu", "versions", "python"}
    assert machine["versions"]["torch"]


def test_an_absent_package_has_no_version():
    assert package_version("no-such-package-anywhere") is None


def test_the_brief_description_of_a_run_says_what_the_long_one_says():
    brief, whole = describe_briefly("cpu"), describe_machine(gpu=False)
    assert list(brief) == ["system", "processor", "cores", "gpu"]
    assert all(brief[name] == whole[name] for name in brief)


def test_versions_of_python_and_packages():
    found = versions(["numpy", "no-such-package-anywhere"])
    assert list(found) == ["python", "numpy", "no-such-package-anywhere"]
    assert found["numpy"]
    assert found["no-such-package-anywhere"] is None
