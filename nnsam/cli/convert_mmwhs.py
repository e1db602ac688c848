"""`nnsam convert mmwhs`."""

import argparse
import re

from nnsam.cli.progress_bar import bar
from nnsam.errors import InputError

_DESCRIPTION = """Turns MM-WHS into a raw nnU-Net data set: the official volumes, or CFDnet's slices of them.

SRC is a folder or a zip archive; what it holds is told by the names of its files:
  ct_train_1001_image.nii.gz, ct_train_1001_label.nii.gz   the official volumes (also mr_..., ..._test_...)
  img33_slice1.nii.gz, lab33_slice1.nii.gz                 CFDnet's slices (CT_withGT.zip, MR_withGT.zip)

Volumes are cut into slices along the patient's axes (oblique ones along the nearest axes, without interpolation). A
slice qualifies if it holds --min-classes of the classes; of those that do, --slices-per-volume are taken, evenly
spaced: the middle ones of as many equal parts. --size gives all slices one size: with --fit resample, square pixels
of the size, one for a whole volume, with which its slices just fit in, padded; with --fit crop, the volume's own
pixels in a window around the middle of its labels. The spacing is written accordingly. --volumes keeps volumes whole.

Labels become LV=1, RV=2, LA=3, RA=4, Myo=5, with --classes all also AA=6, PA=7. The value 421, which one official file
holds by mistake, is taken as 420 (LA). The patient of each case is written to patients.json; folders woGT, whose labels
are automatic, are left out.

Examples:
  nnsam convert mmwhs MM-WHS -o $nnUNet_raw/Dataset301_HeartCT --size 240x220
  nnsam convert mmwhs CT_withGT.zip -o $nnUNet_raw/Dataset302_CFDnet
"""


def add_arguments(layouts: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the subcommand."""
    parser = layouts.add_parser(
        "mmwhs",
        help="MM-WHS: the official volumes, or CFDnet's slices",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SRC", help="folder or zip archive")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="DatasetXXX_Name, absent or empty")
    parser.add_argument("--name", help="name in dataset.json (default: the folder's)")
    parser.add_argument("--modality", choices=("ct", "mr", "both"), default="ct", help="default: ct, the paper's")
    parser.add_argument(
        "--classes", choices=("paper", "all"), default="paper", help="the paper's 5 (default), or MM-WHS's 7"
    )
    parser.add_argument("--plane", choices=("axial", "coronal", "sagittal"), help="of the slices (default: axial)")
    parser.add_argument(
        "--slices-per-volume", type=int, metavar="N", help="0: all that qualify (default: 16, as in CFDnet's data)"
    )
    parser.add_argument("--min-classes", type=int, metavar="K", help="classes that a slice must hold (default: 5)")
    parser.add_argument("--size", type=_size, metavar="WxH", help="e.g. 240x220, the paper's, or native (the default)")
    parser.add_argument("--fit", choices=("resample", "crop"), help="how slices get the size (default: resample)")
    parser.add_argument("--volumes", action="store_true", help="keep whole volumes, in their own orientation")
    parser.add_argument("--test", action="store_true", help="convert the test images too, to imagesTs")
    parser.add_argument(
        "--trust-image-geometry", action="store_true", help="take label arrays as they are, whatever their headers say"
    )
    parser.set_defaults(convert=_convert)


def _size(text: str) -> tuple[int, int] | str:
    match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", text.lower())
    if text != "native" and not match:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT in pixels, e.g. 240x220, or native; found {text!r}")
    return (int(match[1]), int(match[2])) if match else text


def _convert(args: argparse.Namespace) -> None:
    from nnsam.data.mmwhs import Choices, convert_mmwhs
    from nnsam.data.mmwhs_slices import SliceRule
    from nnsam.data.raw_dataset import check_dataset_folder_name

    size = None if args.size == "native" else args.size
    given = {
        "plane": args.plane,
        "per_volume": args.slices_per_volume,
        "min_classes": args.min_classes,
        "size": size,
        "fit": args.fit,
    }
    own = {key: value for key, value in given.items() if value is not None}
    if args.volumes and own:
        raise InputError("--volumes keeps whole volumes; leave the options for slices out.")
    if args.fit and not size:
        raise InputError("--fit says how slices get the size of --size; add --size or leave it out.")
    choices = Choices(
        modality=args.modality,
        classes=args.classes,
        rule=None if args.volumes else SliceRule(**own),
        test=args.test,
        trust_image=args.trust_image_geometry,
    )
    result = convert_mmwhs(args.source, args.output, choices, name=args.name, progress=bar)
    for note in result.notes:
        print(f"Note: {note}")
    counts = ", ".join(f"{count} {part}" for part, count in result.cases.items())
    classes = ", ".join(f"{name}={value}" for name, value in list(result.labels.items())[1:])
    print(f"{args.output}: {counts} cases of {result.patients} patients; {classes}.")
    print(f"Rule: {result.rule}.")
    if "train" in result.cases:
        print(f"Next: nnsam fewshot prepare -d {int(check_dataset_folder_name(args.output)[7:10])} -o study")
