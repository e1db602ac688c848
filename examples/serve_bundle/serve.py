"""Serves an exported model over HTTP, from a small process without PyTorch and nnU-Net.

    python serve.py heart_bundle                        (a model that segments by itself)
    python serve.py box_bundle --port 8001              (one that segments what lies in boxes)

The body of a POST to /segment is an image file; the answer is the label map, as a file of the same kind:

    curl --data-binary @heart_0000.nii.gz http://127.0.0.1:8000/segment -o heart_mask.nii.gz
    curl --data-binary @lesion.png "http://127.0.0.1:8001/segment?box=120,80,410,330" -o lesion_mask.png

Repeat box=... for several objects; volumes need six numbers. With the header "Accept: application/json" the answer is
JSON instead: the area of each label in pixels and, for boxes, the network's score of each object. GET /health names the
model and its precision. What is wrong with a request is told as {"error": "one sentence"} with status 400.

Listens on this machine only, unless --host says otherwise: there is no password and no encryption, so put a server that
has them in front before anybody else's images arrive.
"""

import argparse
import json
import sys
import tempfile
import threading
import traceback
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np

from nnsam.errors import InputError, NnsamError
from nnsam.inference.folders.segment import plan_tasks, segment_case
from nnsam.io.finding import find_images
from nnsam.prompts.box_files import open_box_source
from nnsam.runtime import BoxPredictor, Bundle, Predictor

# How image files begin -> how they end; others are taken for NIfTI.
MAGIC = {b"\x89PNG": ".png", b"\xff\xd8": ".jpg", b"II*\0": ".tif", b"\x1f\x8b": ".nii.gz"}
UNKNOWN = {"error": "expected GET /health or POST /segment"}


class Model:
    """One predictor, used by one request at a time: it has all processors already."""

    def __init__(self, folder: str, precision: str, threads: int):
        bundle = Bundle.open(folder)
        self.boxes, self.ending = bundle.kind == "box", bundle.manifest["input"]["file_ending"]
        self.predictor = (BoxPredictor if self.boxes else Predictor).open(folder, precision, threads)
        used = self.predictor.backend.precision if self.boxes else self.predictor.precision
        self.health = {"model": bundle.manifest["model"]["trainer"], "kind": bundle.kind, "precision": used}
        self.lock = threading.Lock()

    def segment(self, image: bytes, boxes: list[str]) -> tuple[bytes, dict]:
        """Returns the label map's file, and what is told about it as JSON."""
        with tempfile.TemporaryDirectory() as folder:
            ending = next((end for start, end in MAGIC.items() if image.startswith(start)), ".nii")
            file = Path(folder, f"image{ending if self.boxes else self.ending}")
            file.write_bytes(image)
            try:
                with self.lock:
                    return self._segment_boxes(file, boxes) if self.boxes else self._segment(file, boxes)
            except NnsamError as error:  # the folder is nobody's business
                raise InputError(str(error).replace(f"{file.parent}/", "")) from None

    def _segment(self, file: Path, boxes: list[str]) -> tuple[bytes, dict]:
        if boxes:
            raise InputError("this model segments by itself; leave the boxes out")
        prediction = self.predictor.predict_case([file])
        output = file.with_name(f"labels{self.ending}")
        self.predictor.write(prediction, output)
        values, areas = np.unique(prediction.segmentation, return_counts=True)
        found = {int(value): int(area) for value, area in zip(values, areas, strict=True) if value}
        return output.read_bytes(), {"areas": found}

    def _segment_boxes(self, file: Path, boxes: list[str]) -> tuple[bytes, dict]:
        try:
            prompts = [[float(value) for value in box.split(",")] for box in boxes]
        except ValueError:
            raise InputError(f"expected box=x0,y0,x1,y1; found {boxes}") from None
        if not prompts:
            raise InputError("this model needs at least one box: /segment?box=x0,y0,x1,y1")
        # The same files as `nnsam segment` would read and write.
        (task,) = plan_tasks(find_images(file), file.parent / "labels", into_folder=True)
        result = segment_case(self.predictor, task, open_box_source(prompts))
        found = {"boxes": result.boxes, "labels": result.labels, "scores": result.scores}
        return task.output.read_bytes(), {"areas": dict(zip(result.labels, result.areas, strict=True)), **found}


class Handler(BaseHTTPRequestHandler):
    """Answers requests; `model` and `limit` (bytes of a body) are set by `serve`."""

    model: Model
    limit: int
    timeout = 60  # seconds without a byte

    def do_GET(self) -> None:
        """Tells what is served, and that PyTorch is not there."""
        if self.path != "/health":
            return self.answer(HTTPStatus.NOT_FOUND, UNKNOWN)
        self.answer(HTTPStatus.OK, {"status": "ok", **self.model.health, "torch": "torch" in sys.modules})

    def do_POST(self) -> None:
        """Segments the image in the body."""
        url, length = urlsplit(self.path), self.headers.get("Content-Length", "")
        if url.path != "/segment":
            return self.answer(HTTPStatus.NOT_FOUND, UNKNOWN)
        if not length.isdigit():
            return self.answer(HTTPStatus.LENGTH_REQUIRED, {"error": "expected an image with its Content-Length"})
        if int(length) > self.limit:
            error = f"the image has {length} bytes, and at most {self.limit} are accepted"
            return self.answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, {"error": error})
        try:
            labels, found = self.model.segment(self.rfile.read(int(length)), parse_qs(url.query).get("box", []))
        except NnsamError as error:
            return self.answer(HTTPStatus.BAD_REQUEST, {"error": str(error)})
        except Exception:  # a defect: told in full here, and to nobody else
            traceback.print_exc()
            return self.answer(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": "the server failed on this image"})
        self.answer(HTTPStatus.OK, found if "json" in self.headers.get("Accept", "") else labels)

    def answer(self, status: HTTPStatus, content: dict | bytes) -> None:
        """Sends JSON, or a file."""
        kind = "application/json" if isinstance(content, dict) else "application/octet-stream"
        body = content if isinstance(content, bytes) else json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve() -> int:
    """Serves until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="folder made by `nnsam export`")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="0 for any free one (default: %(default)s)")
    parser.add_argument("--precision", default="auto", help="auto, f32, bf16 or int8 (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU (default: all)")
    parser.add_argument("--max-megabytes", type=int, default=512, help="size of an image file (default: %(default)s)")
    args = parser.parse_args()
    try:
        Handler.model, Handler.limit = Model(args.bundle, args.precision, args.threads), args.max_megabytes * 10**6
        server = ThreadingHTTPServer((args.host, args.port), Handler)
    except (NnsamError, OSError) as error:  # OSError: the port is taken
        print(f"serve.py: {error}", file=sys.stderr)
        return 1
    with server:
        print(f"serving {args.bundle} at http://{args.host}:{server.server_port}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(serve())
