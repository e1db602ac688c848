"""Bundles of others: files that stay inside the folder, and fields of the right type and range."""

import copy
import json
import os
import shutil

import pytest
from helpers import bundles

from nnsam.errors import InputError
from nnsam.inference.bundle import MANIFEST, Bundle
from nnsam.inference.bundle_fields import FieldError, check_fields


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original") / "bundle"
    bundles.write_automatic(folder)
    return folder


@pytest.fixture
def bundle(original, tmp_path):
    return shutil.copytree(original, tmp_path / "bundle")


@pytest.fixture(scope="module")
def manifest(original):
    return json.loads((original / MANIFEST).read_text())


def refused(folder):
    with pytest.raises(InputError) as caught:
        Bundle.open(folder)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 1000
    return text


def rename(folder, name):
    """Makes the bundle name its network differently, hash and all."""

    def change(manifest):
        manifest["files"][name] = manifest["files"].pop("unet_fold0.xml")
        manifest.pop("sizes")
        manifest["networks"]["folds"][0]["unet"] = name

    bundles.edit_manifest(folder, change)


@pytest.mark.parametrize("name", ["../unet.xml", "/unet.xml", "sub/unet.xml", "..\\unet.xml", "C:unet.xml", "..", ""])
def test_files_outside_of_the_folder_are_refused(bundle, name):
    shutil.copy(bundle / "unet_fold0.xml", bundle.parent / "unet.xml")
    rename(bundle, name)
    assert "plain name of a file" in refused(bundle)


def test_links_are_refused(bundle):
    network = bundle / "unet_fold0.xml"
    shutil.move(network, bundle.parent / "elsewhere.xml")
    network.symlink_to(bundle.parent / "elsewhere.xml")
    assert "unet_fold0.xml is a link" in refused(bundle)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_refused_and_never_read(bundle, make):
    (bundle / "unet_fold0.bin").unlink()
    make(bundle / "unet_fold0.bin")
    assert "no regular file" in refused(bundle)


def test_a_linked_description_is_refused(bundle):
    shutil.move(bundle / MANIFEST, bundle.parent / MANIFEST)
    (bundle / MANIFEST).symlink_to(bundle.parent / MANIFEST)
    assert "bundle.json is a link" in refused(bundle)


@pytest.mark.parametrize(("size", "reason"), [(2**40, "bytes; a file of a bundle has at most"), (2**30, "holes")])
def test_giants_are_not_read(bundle, size, reason, monkeypatch):
    monkeypatch.setattr("nnsam.inference.bundle.sha256_of_file", lambda path: pytest.fail(f"{path} was read"))
    os.truncate(bundle / "unet_fold0.bin", size)
    bundles.edit_manifest(bundle, lambda manifest: manifest.pop("sizes"))
    assert reason in refused(bundle)


def test_a_file_of_another_size_is_not_read(bundle, monkeypatch):
    monkeypatch.setattr("nnsam.inference.bundle.sha256_of_file", lambda path: pytest.fail(f"{path} was read"))
    os.truncate(bundle / "unet_fold0.bin", 10)
    assert "it has 10 bytes" in refused(bundle)


def test_weights_that_no_hash_covers_are_refused(bundle):
    bundles.edit_manifest(bundle, lambda manifest: manifest["files"].pop("unet_fold0.bin"))
    assert "not among the files" in refused(bundle)


def test_a_bundle_of_an_earlier_version_says_no_sizes(bundle):
    bundles.edit_manifest(bundle, lambda manifest: manifest.pop("sizes"))
    assert Bundle.open(bundle).kind == "automatic"


def test_fields_of_later_versions_are_left_alone(bundle):
    bundles.edit_manifest(bundle, lambda manifest: manifest["tiling"].update(new="of a later nnsam"))
    assert Bundle.open(bundle).kind == "automatic"


def fields(value, path=()):
    """Yields the path of every field that is listed in objects and lists."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*path, key)
        yield from fields(entry, (*path, key))


def changed(manifest, path, value):
    result = copy.deepcopy(manifest)
    *parents, last = path
    target = result
    for key in parents:
        target = target[key]
    target[last] = value
    return result


# What nnsam does not read may be anything; what tells of other programs may be any text.
FREE = {"created", "versions", "parity", "dataset_json", "format", "format_version", "digest", "sizes"}


@pytest.mark.parametrize("value", [10**400, {"a": {"b": 1}}, [[[1]]], "\x1b[31m\n", "\ud800"], ids=repr)
def test_every_field_that_is_read_has_a_type_and_a_range(manifest, value):
    unchecked, lengths = [], []
    for path in fields(manifest):
        if path[0] in FREE or "candidates" in path or "statistics" in path:
            continue
        try:
            check_fields(changed(manifest, path, value))
            unchecked.append(path)
        except FieldError as error:
            lengths.append(len(str(error)))
    assert not unchecked
    assert len(lengths) > 50
    assert max(lengths) < 1000


def test_every_section_is_needed(manifest):
    for name in manifest.keys() - FREE:
        with pytest.raises(FieldError, match=f"the field {name} is absent"):
            check_fields({key: value for key, value in manifest.items() if key != name})


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("tiling", "patch_size"), [32], "tiling.patch_size"),
        (("tiling", "patch_size"), [2**20, 2**20], "voxels"),
        (("tiling", "patch_size", 0), True, "whole number"),
        (("tiling", "patch_size", 0), 32.0, "whole number"),
        (("tiling", "step"), float("nan"), "tiling.step is nan"),
        (("tiling", "mirror_axes"), [0, 0], "different axes"),
        (("tiling", "mirror_axes"), [2], "different axes"),
        (("preprocessing", "spacing", 0), 0.0, "a size in mm above 0"),
        (("preprocessing", "spacing", 0), float("inf"), "a size in mm above 0"),
        (("preprocessing", "transpose_backward"), [1, 2, 0], "undoes the order"),
        (("preprocessing", "normalization"), [], "list of 1"),
        (("preprocessing", "normalization", 0, "scheme"), "CTNormalization", None),
        (("input", "file_ending"), "/../../x", "ending of a file name"),
        (("input", "channels"), 2, "one a channel"),
        (("labels", "outputs"), 7, "background and each label"),
        (("labels", "has_regions"), True, "label of each region"),
        (("box",), {"prompt": "binary", "spacing": None, "per_slice_normalization": True}, "box"),
        (("kind",), "box", "box"),
        (("networks", "folds", 0, "unet"), "unet_fold0.bin", "a network .xml"),
        (("networks", "folds", 0, "unet"), "other.xml", "a network .xml"),
        (("files", "unet_fold0.xml"), "0" * 63, "SHA-256"),
    ],
)
def test_values_that_do_not_fit_are_named(manifest, path, value, reason):
    edited = changed(manifest, path, value)
    if reason is None:
        check_fields(edited)
        return
    with pytest.raises(FieldError, match=reason):
        check_fields(edited)


def test_ct_needs_finite_statistics(manifest):
    edited = changed(manifest, ("preprocessing", "normalization", 0, "scheme"), "CTNormalization")
    edited = changed(edited, ("preprocessing", "normalization", 0, "statistics", "mean"), float("nan"))
    with pytest.raises(FieldError, match=r"statistics\.mean is nan"):
        check_fields(edited)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' + "1" * 10_000 + "}", '"text"', "", "null"])
def test_other_json_is_one_sentence(bundle, text):
    (bundle / MANIFEST).write_text(text)
    refused(bundle)


@pytest.mark.parametrize("version", [True, 0, -1, 1.5, None, "1", 10**400])
def test_formats_that_are_no_number_are_refused(bundle, version):
    bundles.edit_manifest(bundle, lambda manifest: manifest.update(format_version=version))
    refused(bundle)
