import json

import numpy as np
import pytest
from helpers.fakes import FakeBackend

from nnsam.bench.box.accuracy import evaluate_sets, inscribed_ellipse, score_in_box, spread, summarize_rows
from nnsam.bench.box.cases import find_box_sets, read_box_case, synthetic_case
from nnsam.errors import InputError
from nnsam.geometry.boxes import slices
from nnsam.inference import BoxModelSpec, BoxPredictor, Prediction
from nnsam.metrics import dice, surface_dice
from nnsam.prompts.convention import to_challenge


class EllipseBackend(FakeBackend):
    """A network that answers every box with its ellipse, read from the prompt."""

    def __init__(self, patch_size=(64, 80)):
        super().__init__(lambda patches: patches[:, -1] > 0, patch_size, prompt="ellipse")


@pytest.fixture
def predictor():
    return BoxPredictor(EllipseBackend())


def ellipses(shape, *boxes):
    labels = np.zeros(shape, np.uint16)
    for index, box in enumerate(boxes):
        labels[inscribed_ellipse(box, shape)] = index + 1
    return labels


def write(folder, set_name, case, objects, **more):
    path = folder / set_name / "test" / f"{case}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    image = (objects * 40 % 251).astype(np.uint8)
    arrays = {"imgs": image, "gts": (objects > 0).astype(np.uint8), "inst": objects, **more}
    np.savez_compressed(path, **{key: array for key, array in arrays.items() if array is not None})
    return path


@pytest.fixture
def data(tmp_path):
    """Round things, on three images; a square thing, larger than a patch; a volume."""
    for case in "abc":
        write(tmp_path, "round", case, ellipses((90, 100), [5, 5, 40, 50], [50, 20, 80, 90]))
    square = np.zeros((120, 130), np.uint16)
    square[10:110, 20:120] = 1
    write(tmp_path, "square", "a", square)
    volume = np.stack([ellipses((60, 70), [10, 10, 40, 60])] * 4)
    write(tmp_path, "volume", "a", volume, spacing=np.array([1.0, 1.0, 5.0]))
    return tmp_path


def test_a_network_that_draws_ellipses_is_as_good_as_the_ellipse(data, predictor):
    result = evaluate_sets(predictor, data)
    json.dumps(result, allow_nan=False)
    assert result["modes"] == ["zoom", "faithful", "ellipse"]
    assert list(result["sets"]) == ["round", "square", "volume"]
    entry = result["sets"]["round"]
    assert (entry["cases"], entry["objects"], entry["unit"]) == (3, 6, "pixels")
    assert entry["modes"]["ellipse"]["DSC"] == entry["modes"]["ellipse"]["NSD"] == 1
    assert entry["modes"]["zoom"]["DSC"] > 0.97
    assert entry["modes"]["faithful"]["DSC"] > 0.97
    assert entry["modes"]["zoom"]["passes"] == 1
    assert result["sets"]["volume"]["unit"] == "mm"
    # A square is not an ellipse.
    assert result["sets"]["square"]["modes"]["ellipse"]["DSC"] == pytest.approx(
        2 * np.pi / 4 / (1 + np.pi / 4), abs=0.01
    )
    assert result["sets"]["square"]["modes"]["zoom"]["DSC"] == pytest.approx(0.88, abs=0.02)
    assert result["patch_size"] == [64, 80]


def test_objects_larger_than_a_patch_are_told_apart(data, predictor):
    result = evaluate_sets(predictor, data)
    large = result["larger_than_patch"]
    assert large["objects"] == 1
    assert large["modes"]["zoom"]["DSC"] == result["sets"]["square"]["modes"]["zoom"]["DSC"]
    assert [entry["larger_than_patch"] for entry in result["sets"].values()] == [0, 1, 0]
    assert evaluate_sets(BoxPredictor(EllipseBackend((128, 128))), data)["larger_than_patch"]["objects"] == 0


def test_masks_of_volumes_are_scored_along_their_axes(data):
    case = read_box_case(data / "volume" / "test" / "a.npz")
    assert case.spacing == (5.0, 1.0, 1.0)
    result = evaluate_sets(None, data, sets=["volume"])
    mask = inscribed_ellipse(case.boxes[0], case.objects.shape)
    expected = surface_dice(mask, case.objects == 1, case.spacing, tolerance=2)
    assert result["sets"]["volume"]["modes"]["ellipse"]["NSD"] == pytest.approx(expected)
    assert result["modes"] == ["ellipse"]  # no predictor, no modes


def test_scores_in_the_box_are_those_of_the_image():
    rng = np.random.default_rng(0)
    prediction, reference = np.zeros((2, 40, 50), bool)
    box = [5, 8, 33, 45]
    prediction[slices(box)], reference[slices(box)] = rng.random((2, 28, 37)) > 0.6
    found = score_in_box(prediction[slices(box)], reference[slices(box)], (2.0, 0.7))
    assert found["DSC"] == dice(prediction, reference)
    assert found["NSD"] == pytest.approx(surface_dice(prediction, reference, (2.0, 0.7), tolerance=2))
    assert found["NSD"] != pytest.approx(surface_dice(prediction, reference, tolerance=2))


def test_grabcut_is_a_baseline_of_pictures_and_volumes(data):
    pytest.importorskip("cv2")
    result = evaluate_sets(None, data, baselines=("ellipse", "grabcut"), max_cases=1)
    assert result["sets"]["volume"]["modes"]["grabcut"]["DSC"] > 0.95
    assert result["sets"]["round"]["cases"] == 1
    assert result["above_ellipse"] == {"grabcut": {"sets": 0, "of": 0}}


def test_sets_without_human_masks_are_left_out(data):
    write(data, "other_PREDICTED", "a", ellipses((9, 9), [1, 1, 5, 5]))
    write(data, "boxes_only", "a", ellipses((9, 9), [1, 1, 5, 5]), gts=None, inst=None)
    result = evaluate_sets(None, data)
    assert result["skipped"] == {"boxes_only": "no masks", "other_PREDICTED": "masks are a model's output"}
    with pytest.raises(InputError, match="none of the sets has masks"):
        evaluate_sets(None, data, sets=["boxes_only"])


def test_classes_become_objects_in_the_order_of_the_boxes(tmp_path):
    labels = ellipses((40, 50), [2, 2, 20, 20], [22, 22, 39, 49])
    path = write(tmp_path, "s", "a", labels, gts=labels * 3, inst=None, box_labels=np.array([6, 3]))
    case = read_box_case(path)
    assert case.values == [1, 2]
    assert case.boxes.tolist() == [[22, 22, 39, 49], [2, 2, 20, 20]]
    assert to_challenge(case.boxes).tolist()[0] == [22, 22, 48, 38]


def test_cases_are_spread_evenly():
    assert spread(list(range(10)), 4) == [0, 2, 5, 7]
    assert spread(list(range(3)), None) == spread(list(range(3)), 5) == [0, 1, 2]
    with pytest.raises(InputError, match="at least 1"):
        spread([1], 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"modes": ("best",)}, "Unknown mode 'best'"),
        ({"baselines": ("magic",)}, "Unknown mode 'magic'"),
        ({"modes": (), "baselines": ()}, "Nothing to score"),
        ({"sets": ["square", "absent"]}, "has no set absent; it has round, square, volume"),
        ({"data_folder": "nowhere"}, "nowhere holds no test sets"),
    ],
)
def test_wrong_arguments_are_named(data, predictor, arguments, words):
    with pytest.raises(InputError, match=words):
        evaluate_sets(**{"predictor": predictor, "data_folder": data, **arguments})


def test_damaged_files_are_named(data):
    path = data / "square" / "test" / "a.npz"
    path.write_bytes(path.read_bytes()[:200])
    assert "square" in find_box_sets(data)[0]
    with pytest.raises(InputError, match="cut off"):
        evaluate_sets(None, data)


def test_images_without_objects_are_left_out(data):
    write(data, "round", "d", np.zeros((20, 20), np.uint16))
    assert evaluate_sets(None, data)["sets"]["round"]["cases"] == 3


def row(set_name, case, method, value, **more):
    return {
        "set": set_name,
        "case": case,
        "method": method,
        "unit": "mm",
        "large": False,
        "seconds": 1.0,
        "passes": 2.0,
        "DSC": value,
        "NSD": float("nan"),
        **more,
    }


def test_means_go_from_objects_to_cases_to_sets():
    rows = [row("s", "a", "zoom", 1.0), row("s", "a", "zoom", 0.0), row("s", "b", "zoom", 1.0)]
    rows += [row("t", "a", "zoom", 0.25, large=True, passes=5.0)]
    result = summarize_rows(rows, ["zoom"])
    assert result["sets"]["s"]["modes"]["zoom"] == {"DSC": 0.75, "NSD": None, "seconds": 1.0, "passes": 2.0}
    assert result["mean"] == {"zoom": {"DSC": 0.5, "NSD": None}}
    assert result["mean_of_sets_above_2"] == {"zoom": {"DSC": None, "NSD": None}}
    assert result["larger_than_patch"] == {"objects": 1, "modes": {"zoom": {"DSC": 0.25, "NSD": None}}}
    assert result["passes_per_box"] == {"zoom": 2.75}
    assert result["above_ellipse"] == {}
    assert result["zoom_below_faithful"] is None


def test_methods_are_compared_set_by_set():
    scores = {"good": (0.9, 0.8, 0.7), "poor": (0.5, 0.8, 0.6), "even": (0.7, 0.7, 0.7)}
    rows = [
        row(name, case, method, value)
        for name, values in scores.items()
        for case in "abc"
        for method, value in zip(("zoom", "faithful", "ellipse"), values, strict=True)
    ]
    result = summarize_rows(rows, ["zoom", "faithful", "ellipse"])
    assert result["above_ellipse"] == {"zoom": {"sets": 1, "of": 3}, "faithful": {"sets": 2, "of": 3}}
    assert result["zoom_below_faithful"] == {"set": "poor", "DSC": pytest.approx(0.3)}


def test_the_synthetic_box_is_the_middle_of_the_picture():
    case = synthetic_case((100, 200))
    assert case.boxes.tolist() == [[20, 40, 80, 160]]
    assert case.objects.sum() == pytest.approx(np.pi / 4 * 60 * 120, rel=0.01)
    assert case.image.dtype == np.uint8


def test_what_is_left_of_objects_in_label_maps_is_scored_too(tmp_path):
    """A small object within a large one: each alone is perfect, and one of them loses in a label map."""
    objects = np.zeros((40, 40), np.uint8)
    objects[5:35, 5:35], objects[15:25, 15:25] = 1, 2
    (tmp_path / "nested" / "test").mkdir(parents=True)
    boxes = np.array([[5, 5, 34, 34], [15, 15, 24, 24]])
    np.savez(tmp_path / "nested" / "test" / "a.npz", imgs=objects, gts=objects, inst=objects, boxes=boxes)

    class Whole:
        """Fills each box, the larger one more surely."""

        spec = BoxModelSpec((32, 48), 1)

        def set_image(self, image, spacing=None):
            self.shape = image.shape
            return self

        def predict_inside(self, boxes, mode):
            levels = zip(boxes, (0.9, 0.6), strict=True)
            fills = [np.full(tuple(box[2:] - box[:2]), level, np.float32) for box, level in levels]
            return Prediction(self.shape, boxes, fills, 1)

    modes = ("zoom", "zoom:smaller", "zoom:score")
    scores = evaluate_sets(Whole(), tmp_path, modes, baselines=())["sets"]["nested"]["modes"]
    filled = 2 * 800 / (800 + 900)
    assert scores["zoom"]["DSC"] == pytest.approx((filled + 1) / 2)
    assert scores["zoom:smaller"]["DSC"] == pytest.approx(1)
    assert scores["zoom:score"]["DSC"] == pytest.approx((filled + 0) / 2)
