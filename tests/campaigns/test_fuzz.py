"""The fuzz campaign in short, and the inputs that once failed."""

import importlib
import json
import shutil
import zipfile

import pytest
from helpers import fuzz_targets, mutations
from helpers.fuzz_targets import TARGETS, outcome_of
from helpers.model_folders import edit, write_model_folder
from helpers.mutations import NUMBERS

from nnsam.errors import InputError


@pytest.fixture
def fuzz(monkeypatch, request):
    monkeypatch.syspath_prepend(str(request.config.rootpath))
    return importlib.import_module("tests.campaigns.fuzz")


@pytest.mark.slow
def test_damaged_inputs_are_read_or_refused_in_one_sentence(fuzz):
    seed = fuzz.seed_of_today()
    print(f"{fuzz.SEED}={seed}")
    report = fuzz.campaign(20 * len(TARGETS), seed, list(TARGETS))
    assert not report.defects, f"{fuzz.SEED}={seed}\n" + "\n".join(report.defects)
    assert report.counts["refused"] > 100
    assert report.counts["read"] > 20


@pytest.mark.slow
def test_the_campaign_notices_and_goes_on(fuzz, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS_OF_START", 10)
    names = [f"example {name}" for name in ("read", "crash", "trace", "hang")]
    report = fuzz.campaign(5, 1, names, seconds=5)
    assert report.counts == {"read": 2, "crash": 1, "trace": 1, "hang": 1}
    assert [line.split(":")[0] for line in report.defects] == [
        "1 (example crash)",
        "2 (example trace)",
        "3 (example hang)",
    ]


def test_an_input_follows_from_seed_and_number(fuzz):
    (first, one), (second, other) = (fuzz.choose(7, 12, ["a", "b"]) for _ in range(2))
    assert first == second == "a"
    assert one.bytes(8) == other.bytes(8) != fuzz.choose(8, 12, ["a", "b"])[1].bytes(8)


def test_the_seed_can_be_set(fuzz, monkeypatch):
    monkeypatch.setenv(fuzz.SEED, "123")
    assert fuzz.seed_of_today() == 123


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InputError("one sentence"), "refused"),
        (InputError("a\nb"), "no sentence"),
        (InputError("a" * 3000), "no sentence"),
        (InputError("a \x1b[31m"), "unprintable message"),
        (KeyError("a"), "trace"),
        (MemoryError(), "memory"),
        (AssertionError("shape"), "wrong result"),
    ],
)
def test_outcomes_are_told_apart(error, kind):
    outcome = outcome_of(lambda: fail(error))
    assert outcome.kind == kind
    assert outcome.is_defect == (kind != "refused")


def test_images_that_no_caller_can_use_are_noticed():
    import numpy as np

    from nnsam.io.image import Image

    for pixels, spacing in ((np.zeros((0, 3)), None), (np.full((2, 2), np.nan), None), (np.zeros((2, 2)), (0.0, 1.0))):
        image = Image(pixels, 2)
        object.__setattr__(image, "spacing", spacing)
        assert outcome_of(lambda image=image: fuzz_targets.check_image(image)).kind == "wrong result"


# --- What failed ---


def is_refused(call):
    outcome = outcome_of(call)
    assert outcome.kind == "refused", outcome


@pytest.mark.parametrize(
    "boxes",
    [
        [[0, 0, 10**400, 1]],
        [[2, 3, "\ud800", "x" * 5000]],
        [[[0] * 1000]],
        {"boxes": [[1, 1, 2, 2]], "labels": ["1" * 5000]},
    ],
    ids=["huge", "text", "deep", "labels"],
)
def test_boxes_that_failed(tmp_path, boxes):
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(boxes))
    is_refused(lambda: fuzz_targets.use_boxes(path))


@pytest.mark.parametrize(
    "name",
    [
        *("_ls30_seed\0", "nnUNetTrainer\nnnSAMBoxTrainer", "nnSAMTrainer_" + "9" * 5000 + "epochs", "\ud800", ""),
        *("os.system", "../nnUNetTrainer", "x" * 5000, "nnSAMTrainer_seed-1", "nnSAMTrainer_٣epochs"),
    ],
    ids=range(10),
)
def test_trainer_names_that_failed(name):
    is_refused(lambda: fuzz_targets.use_trainer_name(name))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return write_model_folder(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def model(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "model")


GONE = object()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("configurations", "2d", "spacing"), GONE),
        (("configurations", "2d", "spacing"), 3),
        (("configurations", "2d", "spacing", 0), [1.0]),
        (("configurations", "2d", "normalization_schemes"), 1),
        (("configurations", "2d", "patch_size", 0), "64"),
        (("configurations", "2d", "architecture", "arch_kwargs", "n_stages"), 10**400),
        (("configurations", "2d", "architecture", "arch_kwargs", "n_conv_per_stage"), "\x1b[31m"),
        (("configurations", "2d", "architecture", "arch_kwargs", "features_per_stage", 0), 7),
        (("foreground_intensity_properties_per_channel",), [[]]),
        (("foreground_intensity_properties_per_channel", "0"), None),
        (("transpose_forward",), {}),
        (("configurations",), None),
    ],
)
def test_plans_that_failed(model, path, value):
    plans = json.loads((model / "plans.json").read_text())
    *parents, last = path
    holder = plans
    for key in parents:
        holder = holder[key]
    if value is GONE:
        del holder[last]
    else:
        holder[last] = value
    (model / "plans.json").write_text(json.dumps(plans))
    outcome = outcome_of(lambda: fuzz_targets.use_model(model))
    assert not outcome.is_defect, outcome


@pytest.mark.parametrize(
    "changes",
    [
        {"inference_allowed_mirroring_axes": [[0]]},
        {"inference_allowed_mirroring_axes": 10**30},
        {"init_args": None},
        {"trainer_name": ["nnUNetTrainer"]},
        {"network_weights": {"a": 1}},
        {"network_weights": []},
    ],
    ids=str,
)
def test_checkpoints_that_failed(model, changes):
    edit(model / "fold_0" / "checkpoint_final.pth", **changes)
    is_refused(lambda: fuzz_targets.use_model(model))


def npz(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name + ".npy", content)


@pytest.mark.parametrize("imgs", [b"no array", b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f8',\n", b""], ids=range(3))
def test_archives_that_failed(tmp_path, imgs):
    npz(tmp_path / "a.npz", imgs=imgs, gts=imgs, boxes=imgs)
    is_refused(lambda: fuzz_targets.read_file(tmp_path / "a.npz"))


def test_mutations_differ_and_cover_the_numbers():
    import numpy as np

    rng = np.random.default_rng(0)
    assert len({mutations.damage(b"0123456789" * 20, rng) for _ in range(50)}) > 40
    assert {repr(mutations.number(rng)) for _ in range(1000)} == set(map(repr, NUMBERS))
    content = {"a": [1, {"b": 2}]}
    assert any(mutations.damage_json(content, rng) != content for _ in range(5))
    assert content == {"a": [1, {"b": 2}]}


def test_damage_does_not_stay_in_what_later_inputs_are_made_of():
    import numpy as np

    before, rng = repr(mutations.OBJECTS), np.random.default_rng(0)
    for _ in range(300):
        mutations.damage_json({"a": [1, [2], {"b": 2}]}, rng)
    assert repr(mutations.OBJECTS) == before


@pytest.mark.parametrize("name", ["endian", "encoding", "type", "space"])
def test_a_word_of_thousands_of_letters_that_ended_the_process(tmp_path, name):
    words = {
        "type": "short",
        "space": "left-posterior-superior",
        "endian": "little",
        "encoding": "raw",
        name: "9" * 5000,
    }
    lines = ["NRRD0004", "dimension: 3", "sizes: 2 2 2", *(f"{key}: {value}" for key, value in words.items()), "", ""]
    (tmp_path / "a.nrrd").write_bytes("\n".join(lines).encode() + bytes(16))
    is_refused(lambda: fuzz_targets.read_file(tmp_path / "a.nrrd"))
