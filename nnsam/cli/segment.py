"""Segments the object in each given box: pictures, volumes, DICOM, challenge npz, one file or a folder of them.

A box is x0,y0,x1,y1 in pixels counted from 0, x to the right and y down, and the last pixel belongs to it: 4,2,4,2 is
the single pixel at x = 4, y = 2. Volumes need x0,y0,z0,x1,y1,z1, z being the slice. This is the convention of the
"Segment Anything in Medical Images on Laptop" challenge.

The label map has the input's format and geometry: PNG for PNG, JPEG and BMP, TIFF for TIFF (several pages are a
volume), NIfTI, NRRD and MHA for themselves, NIfTI for DICOM (or DICOM SEG, see -o), and npz with the key segs for npz.
Object i of a case has the value i, from 1; with label images as prompts, the value that the object has there. Existing
files are replaced with --overwrite only, but for those that earlier runs have written to the same folder. In a folder
lies nnsam_segment.json too, the record that --continue needs.

Example:
  nnsam segment MODEL -i lesion.jpg --box 120,80,410,330 -o lesion_mask.png --overlay
  nnsam segment MODEL -i ct.nii.gz --box 60,75,10,180,190,42 -o ct_mask.nii.gz
  nnsam segment MODEL -i images --boxes boxes.json -o masks --json results.json
  nnsam segment MODEL -i imagesTs --boxes labelsTs -o masks          (one box around each label value)
  nnsam segment MODEL -i challenge_npz -o segs                       (boxes from the npz files)
  nnsam segment MODEL -i dicom_folder --box 60,75,10,180,190,42 -o mask.nii.gz
  nnsam segment MODEL -i dicom_folder --box 60,75,10,180,190,42 -o mask.dcm
  nnsam segment MODEL -i dicom_folder --series 1.2.840.1 --box 60,75,10,180,190,42 -o mask.nii.gz

boxes.json is a list of boxes, [[120, 80, 410, 330], ...], for every input; or an object of such lists by file name,
{"a.png": [[...]], "b.png": [[...], [...]]}; instead of a list, {"boxes": [...], "labels": [...]} chooses the values.
"""

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from nnsam.cli.common import add_folds, add_json, add_voxel_limit, bar
from nnsam.support.device import DEVICES
from nnsam.support.openvino import SPELLINGS

if TYPE_CHECKING:
    from nnsam.inference import BoxPredictor
    from nnsam.inference.folders.segment import CaseResult, SegmentReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds this command's options."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a bundle of `nnsam export`, which is quicker on CPUs and needs no PyTorch; or a model folder of "
        "nnSAMBoxTrainer, with plans.json and fold_*",
    )
    parser.add_argument("-i", "--input", required=True, metavar="IN", help="a file, a folder, folders of DICOM")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="a file for one input (or a folder), else a folder; *.dcm is a DICOM SEG, for DICOM images",
    )
    parser.add_argument(
        "--dicom-seg", action="store_true", help="in a folder, write DICOM SEG instead of NIfTI for DICOM images"
    )
    parser.add_argument("--series", metavar="UID", help="which of several DICOM series, by its Series Instance UID")
    prompts = parser.add_mutually_exclusive_group()
    prompts.add_argument(
        "--box",
        dest="box",
        action="append",
        type=_box,
        metavar="x0,y0,x1,y1",
        help="a box, last pixel included; repeat it for several objects; 6 numbers for volumes",
    )
    prompts.add_argument(
        "--boxes",
        metavar="FILE",
        help="JSON (see above); or a label image of the same geometry, or a folder of them matched by name: one box "
        "around each label value (default: the boxes in npz files)",
    )
    parser.add_argument(
        "--mode",
        choices=("zoom", "faithful"),
        default="zoom",
        help="zoom: the box with its surroundings fills one network input; faithful: tiles at full resolution, as "
        "published (default: %(default)s)",
    )
    parser.add_argument(
        "--overlap",
        choices=("smaller", "score"),
        default="smaller",
        help="who gets pixels of several objects: the one with the smaller box, or at each pixel the more probable one "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--separate",
        action="store_true",
        help="the whole mask of each object instead of a label map: segments of a DICOM SEG, the key `masks` of an "
        "npz, else files OUT_1, OUT_2, ... in the order of the boxes",
    )
    add_folds(
        parser,
        "which fold_F of the model; several are averaged (default: of a bundle every one; of a model folder the fold "
        "`all` where there is one, else the lowest)",
        one_word=True,
    )
    parser.add_argument(
        "--checkpoint", metavar="NAME", help="file in the fold of a model folder (default: checkpoint_final.pth)"
    )
    parser.add_argument(
        "--device",
        choices=DEVICES,
        default="auto",
        help="of a model folder; auto is cuda, else mps, else cpu; bundles run on the CPU (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=SPELLINGS,
        help="on CPUs; float32 is f32, bfloat16 is bf16. Bundles: auto (default) is what was found quickest and "
        "accurate at export. Model folders: f32 (default), bf16, or auto: bf16 where the CPU computes it",
    )
    parser.add_argument(
        "--threads", type=_positive, default=0, metavar="N", help="CPU threads (default: as many as are good)"
    )
    parser.add_argument(
        "--batch-size", type=_positive, default=8, metavar="N", help="network inputs at once (default: %(default)s)"
    )
    add_json(
        parser,
        "boxes, labels, scores, areas in pixels, sizes in mm2 or ml where pixel sizes are known, and seconds per case",
    )
    parser.add_argument(
        "--continue",
        dest="resume",
        action="store_true",
        help="into a folder: skip the inputs that an earlier run has finished with the same boxes, model and options",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace existing files that this command has not written, or that were changed since",
    )
    parser.add_argument(
        "--overlay",
        action="store_true",
        help="write a PNG with numbered masks and boxes and a legend: OUT_overlay.png beside a file, overlays/ in a "
        "folder",
    )
    parser.add_argument(
        "--palette",
        action="store_true",
        help="give PNG label maps a palette, so that labels can be seen; the values stay",
    )
    parser.add_argument(
        "--probabilities",
        action="store_true",
        help="write the probabilities in each box as npz: OUT_probabilities.npz, or probabilities/ in a folder",
    )
    add_voxel_limit(parser)


def run(args: argparse.Namespace) -> int:
    """Segments, writes the files and prints one line per case."""
    from nnsam.errors import InputError
    from nnsam.inference.folders.segment import (
        SegmentOptions,
        SegmentReport,
        SegmentRun,
        plan_tasks,
        segment_case,
        segment_files,
    )
    from nnsam.io.finding import find_images
    from nnsam.prompts.box_files import open_box_source
    from nnsam.support.files import atomic_file
    from nnsam.support.outputs import check_outputs, is_report

    inputs = find_images(args.input, args.series)
    is_folder = Path(args.input).is_dir() and (len(inputs) > 1 or inputs[0].kind != "series")
    tasks = plan_tasks(
        inputs,
        args.output,
        into_folder=is_folder,
        overlay=args.overlay,
        probabilities=args.probabilities,
        dicom_seg=args.dicom_seg,
        palette=args.palette,
        protected=_files_of(args.boxes),
        reports=[("--json", args.json)],
        models=[args.model],
        overwrite=args.overwrite,
        separate=args.separate,
    )
    in_folder = tasks[0].folder is not None
    if args.resume and not in_folder:
        raise InputError(f"--continue needs a folder for the output; found the file {args.output}.")
    check_outputs(
        [("--json", args.json)], (), overwrite=args.overwrite, is_own=lambda path: is_report(path, _REPORT_KEYS)
    )
    boxes = open_box_source(args.box, args.boxes, inputs if is_folder else None)
    options = SegmentOptions(args.mode, args.overlap, args.separate, args.palette)
    with ExitStack() as files:
        # Opened first, so that long work does not end at a path that cannot be written to.
        json_file = files.enter_context(atomic_file(args.json)) if args.json not in (None, "-") else None
        predictor = _load(args)
        run = None
        if in_folder:
            run = files.enter_context(SegmentRun(predictor, tasks, boxes, options, args.threads, args.resume))
        try:
            if is_folder:
                report = segment_files(
                    predictor, tasks, boxes, **vars(options), run=run, progress=lambda tasks: bar(tasks, "Segmenting")
                )
            else:
                earlier = run.earlier(tasks[0]) if run is not None else None
                report = SegmentReport([earlier or segment_case(predictor, tasks[0], boxes, options, run)])
        except KeyboardInterrupt:
            if run is not None:
                print(
                    f"nnsam segment: {run.done} of {len(tasks)} inputs are done; --continue goes on with the rest",
                    file=sys.stderr,
                )
            raise
        content = to_json(report, args.model, args.mode)
        if json_file is not None:
            json_file.write_text(content, encoding="utf-8")
    if args.json == "-":
        sys.stdout.write(content)
    else:
        _print_results(report)
    return _print_failures(report)


def _load(args: argparse.Namespace) -> "BoxPredictor":
    from nnsam.inference.folders import segment as segment_files

    predictor, note = segment_files.load_predictor(
        args.model,
        folds=args.folds,
        checkpoint=args.checkpoint,
        device=args.device,
        precision=args.precision,
        batch_size=args.batch_size,
        threads=args.threads,
    )
    if note:
        print(f"nnsam segment: {note}", file=sys.stderr)
    return predictor


def _files_of(boxes: str | None) -> list[Path]:
    if boxes is None:
        return []
    path = Path(boxes)
    return list(path.iterdir()) if path.is_dir() else [path]


_REPORT_KEYS = ("model", "mode", "cases", "failures")


def to_json(report: "SegmentReport", model: str, mode: str) -> str:
    """The JSON text of a run."""
    content = {
        "model": model,
        "mode": mode,
        "cases": [result.as_dict() for result in report.results],
        "failures": [{"file": str(path), "error": message} for path, message in report.failures.items()],
    }
    return json.dumps(content, indent=2) + "\n"


def _print_results(report: "SegmentReport") -> None:
    for result in report.results:
        if result.skipped:
            print(f"{result.file} -> {_written(result)}: was done before")
            continue
        count = len(result.boxes)
        scores = f"score {result.scores[0]:.2f}" if count == 1 else f"scores {min(result.scores):.2f} to "
        if count > 1:
            scores += f"{max(result.scores):.2f}"
        objects = "1 object" if count == 1 else f"{count} objects"
        sizes = _sizes(result)
        output = _written(result)
        print(f"{result.file} -> {output}: {objects}, {scores}{sizes}, {result.seconds:.1f} s")


def _written(result: "CaseResult") -> str:
    """The label map, or the first and last file of separate objects."""
    if not result.outputs:
        return str(result.output)
    first, last = result.outputs[0], result.outputs[-1]
    return str(first) if first == last else f"{first} ... {last.name}"


def _sizes(result: "CaseResult") -> str:
    """Sizes of the objects where the pixel size is known, after a comma."""
    found = [(result.areas_mm2, "area", "mm2"), (result.volumes_ml, "volume", "ml")]
    for values, name, unit in found:
        if values is None:
            continue
        if len(values) == 1:
            return f", {name} {values[0]:.4g} {unit}"
        return f", {name}s {min(values):.4g} to {max(values):.4g} {unit}"
    return ""


def _print_failures(report: "SegmentReport") -> int:
    """Prints what failed and returns the exit code."""
    if not report.failures:
        return 0
    total = len(report.results) + len(report.failures)
    print(f"nnsam segment: {len(report.failures)} of {total} inputs failed:", file=sys.stderr)
    for path, message in report.failures.items():
        about = "" if str(path) in message or path.name in message else f"{path}: "
        print(f"  {about}{message}", file=sys.stderr)
    return 1


def _box(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (4, 6):
        raise argparse.ArgumentTypeError(f"expected x0,y0,x1,y1 or x0,y0,z0,x1,y1,z1; found {text!r}")
    return values


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1; found {text!r}")
    return int(text)
