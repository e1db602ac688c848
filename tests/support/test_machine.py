"""The description of the machine that figures are measured on."""

import json

from nnsam.support.machine import describe_machine, package_version


def test_the_description_is_complete_and_fits_into_json():
    machine = json.loads(json.dumps(describe_machine()))
    assert machine["cores"] >= 1
    assert set(machine) >= {"processor", "cpu_features", "openvino_devices", "gpu", "versions", "python"}
    assert machine["versions"]["torch"]


def test_an_absent_package_has_no_version():
    assert package_version("no-such-package-anywhere") is None
