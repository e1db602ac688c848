"""The example that serves a bundle, as a process of its own."""

import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pytest
from helpers.bundles import write_automatic, write_box
from skimage.io import imread, imsave

from nnsam.runtime import BoxPredictor, Predictor

SERVER = Path(__file__).resolve().parents[2] / "examples" / "serve_bundle" / "serve.py"


@contextmanager
def serving(*arguments):
    """Yields the address of a server that listens on a free port."""
    command = [sys.executable, SERVER, *map(str, arguments), "--port", "0", "--precision", "f32"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        address = re.search(r"http://\S+", line)
        assert address, line + process.stderr.read()
        yield address[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def automatic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "automatic"
    write_automatic(folder)
    return folder


@pytest.fixture(scope="module")
def automatic_server(automatic):
    with serving(automatic, "--max-megabytes", 1) as address:
        yield address


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "box"
    write_box(folder)
    return folder


@pytest.fixture(scope="module")
def box_server(boxes):
    with serving(boxes) as address:
        yield address


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    image = np.random.default_rng(0).integers(0, 256, (60, 70), dtype=np.uint8)
    imsave(path, image, check_contrast=False)
    return path


def call(address, path, body=None, **headers):
    """Returns status, content type and content of the answer."""
    request = urllib.request.Request(address + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def sentence(answer, status):
    """The error of an answer that has this status."""
    assert answer[:2] == (status, "application/json")
    content = json.loads(answer[2])
    assert set(content) == {"error"}
    assert "Traceback" not in content["error"]
    assert os.sep + "tmp" not in content["error"]
    return content["error"]


def test_the_label_map_is_the_predictors(automatic, automatic_server, picture):
    expected = Predictor.open(automatic, "f32").predict_case([picture]).segmentation
    status, _, labels = call(automatic_server, "/segment", picture.read_bytes())
    assert status == 200
    np.testing.assert_array_equal(imread(io.BytesIO(labels)), expected.reshape(60, 70))
    assert len(np.unique(expected)) > 1

    status, kind, text = call(automatic_server, "/segment", picture.read_bytes(), Accept="application/json")
    assert (status, kind) == (200, "application/json")
    values, areas = np.unique(expected[expected > 0], return_counts=True)
    assert json.loads(text) == {"areas": dict(zip(map(str, values.tolist()), areas.tolist(), strict=True))}


def test_requests_at_the_same_time_are_all_answered(automatic_server, picture):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(call(automatic_server, "/segment", picture.read_bytes())))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 6
    assert {status for status, _, _ in answers} == {200}
    assert len({labels for _, _, labels in answers}) == 1


def test_a_box_model_takes_boxes_and_tells_scores(boxes, box_server, picture):
    prompts = [[10, 12, 40, 45], [30, 20, 60, 50]]
    prediction = BoxPredictor.open(boxes, "f32").set_image(imread(picture)).predict(prompts)
    query = "&".join(f"box={','.join(map(str, box))}" for box in prompts)
    status, _, labels = call(box_server, f"/segment?{query}", picture.read_bytes())
    assert status == 200
    np.testing.assert_array_equal(imread(io.BytesIO(labels)), prediction.label_map())

    found = json.loads(call(box_server, f"/segment?{query}", picture.read_bytes(), Accept="application/json")[2])
    assert found["boxes"] == prompts
    assert found["labels"] == [1, 2]
    assert found["scores"] == pytest.approx(list(prediction.scores), abs=1e-6)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_volume_comes_back_as_nifti(box_server, tmp_path, ending):
    volume = np.random.default_rng(1).normal(100, 30, (40, 36, 5)).astype(np.float32)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(volume, affine), tmp_path / f"v{ending}")
    status, _, labels = call(box_server, "/segment?box=5,6,1,30,28,3", (tmp_path / f"v{ending}").read_bytes())
    assert status == 200, labels
    (tmp_path / f"labels{ending}").write_bytes(labels)
    result = nibabel.load(tmp_path / f"labels{ending}")
    assert result.shape == volume.shape
    np.testing.assert_allclose(result.affine, affine, atol=1e-5)


def test_health_names_the_model_and_there_is_no_pytorch(automatic_server, box_server, picture):
    call(automatic_server, "/segment", picture.read_bytes())
    call(box_server, "/segment?box=10,12,40,45", picture.read_bytes())
    for address, model, kind in (
        (automatic_server, "nnSAMTrainer", "automatic"),
        (box_server, "nnSAMBoxTrainer", "box"),
    ):
        status, _, text = call(address, "/health")
        assert status == 200
        assert json.loads(text) == {"status": "ok", "model": model, "kind": kind, "precision": "f32", "torch": False}


def test_what_is_wrong_with_a_request_is_a_sentence(automatic_server, box_server, picture):
    image = picture.read_bytes()
    assert "boxes out" in sentence(call(automatic_server, "/segment?box=1,2,3,4", image), 400)
    assert "at least one box" in sentence(call(box_server, "/segment", image), 400)
    assert "box=x0,y0,x1,y1" in sentence(call(box_server, "/segment?box=a,b,c,d", image), 400)
    assert sentence(call(box_server, "/segment?box=10,10,5000,20", image), 400)
    for address, query in ((automatic_server, ""), (box_server, "?box=1,2,30,40")):
        for body in (b"no image at all", image[:100], b"", b"\x89PNG", b"\x1f\x8b12345"):
            assert "image" in sentence(call(address, f"/segment{query}", body), 400)
    assert "GET /health" in sentence(call(automatic_server, "/other"), 404)
    assert "GET /health" in sentence(call(automatic_server, "/other", b"x"), 404)


def test_large_bodies_are_refused_before_they_are_read(automatic_server):
    for headers, status in (({"Content-Length": str(10**6 + 1)}, 413), ({}, 411), ({"Content-Length": "-1"}, 411)):
        connection = http.client.HTTPConnection(automatic_server.removeprefix("http://"), timeout=20)
        connection.putrequest("POST", "/segment")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        sentence((answer.status, answer.headers["Content-Type"], answer.read()), status)
        connection.close()


def test_it_listens_on_this_machine_only(automatic_server):
    assert automatic_server.startswith("http://127.0.0.1:")


def test_a_folder_without_a_bundle_is_a_sentence(tmp_path):
    process = subprocess.run([sys.executable, SERVER, tmp_path / "absent"], capture_output=True, text=True, check=False)
    assert process.returncode == 1
    assert process.stderr.startswith("serve.py: ")
    assert process.stderr.count("\n") == 1
