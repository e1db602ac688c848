"""Turns data sets in other layouts into raw nnU-Net data sets.

npz-to-nnunet   <set>/{train,val,test}/*.npz with the keys imgs, gts and, where known, spacing (x, y[, z])
mmwhs           MM-WHS: the official volumes, in slices or whole, or CFDnet's slices

Example:
  nnsam convert npz-to-nnunet data/cxr -o $nnUNet_raw/Dataset101_Lungs --labels "1=lung"
  nnsam convert npz-to-nnunet data/cxr data/heart_mr -o $nnUNet_raw/Dataset201_Boxes --objects
  nnsam convert mmwhs MM-WHS -o $nnUNet_raw/Dataset301_HeartCT --size 240x220
"""

import argparse

from nnsam.cli import convert_mmwhs
from nnsam.cli.progress_bar import bar

_NPZ_DESCRIPTION = """Turns <set>/{train,val,test}/*.npz (keys imgs, gts, spacing) into a raw nnU-Net data set.

8-bit pictures become PNG; other types, volumes and everything with a spacing become NIfTI. val joins the training
folder and is kept apart by splits_final.json, which nnU-Net takes over when it plans: fold 0 is that split.

With --objects, one or several sets become one data set for training box prompts: 8-bit RGB pictures, volumes in slices,
label values that only tell objects apart, and folds that never part the cases of a patient. The patient is what
--patient-regex finds in the case's name, else a leading "patient" with digits, STS_ with digits after 3D.._, the first
three fields of a TCGA barcode, a field P with digits, the part before the first underscore if it holds a digit and
several cases share it, else the case itself.

Examples:
  nnsam convert npz-to-nnunet data/cxr -o $nnUNet_raw/Dataset101_Lungs --labels "1=lung"
  nnsam convert npz-to-nnunet data/cxr data/heart_mr -o $nnUNet_raw/Dataset201_Boxes --objects
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds one subcommand per source layout."""
    layouts = parser.add_subparsers(dest="layout", metavar="LAYOUT", required=True)
    npz = layouts.add_parser(
        "npz-to-nnunet",
        help="the challenge's npz files",
        description=_NPZ_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    npz.add_argument(
        "source",
        nargs="+",
        metavar="SRC_FOLDER",
        help="folder that holds train, val, test or some of them; several only with --objects",
    )
    npz.add_argument("-o", "--output", required=True, metavar="FOLDER", help="DatasetXXX_Name, absent or empty")
    npz.add_argument("--name", help="name in dataset.json (default: the folder's)")
    npz.add_argument(
        "--splits",
        type=lambda text: text.split(","),
        metavar="train,val,test",
        help="which of them to convert (default: those that exist; with --objects: train)",
    )
    npz.add_argument(
        "--labels", type=_label_names, metavar="1=NAME,...", help="class names (default: label_1, label_2, ...)"
    )
    npz.add_argument(
        "--channel",
        metavar="NAME",
        help="name of the grey channel; CT makes nnU-Net normalise by Hounsfield units (default: image)",
    )
    npz.add_argument("--objects", action="store_true", help="write training data for box prompts")
    npz.add_argument(
        "--patient-regex", metavar="REGEX", help="patient in a case's name, for --objects: group 1, or all"
    )
    npz.set_defaults(convert=_convert_npz)
    convert_mmwhs.add_arguments(layouts)


def run(args: argparse.Namespace) -> int:
    """Runs the chosen conversion."""
    args.convert(args)
    return 0


def _label_names(text: str) -> dict[int, str]:
    names: dict[int, str] = {}
    for part in text.split(","):
        value, separator, name = part.partition("=")
        if not separator or not value.strip().isdigit() or not name.strip() or int(value) in names:
            raise argparse.ArgumentTypeError(f'expected "1=first,2=second", each value once; found {text!r}')
        names[int(value)] = name.strip()
    return names


def _convert_npz(args: argparse.Namespace) -> None:
    from nnsam.errors import InputError

    if args.objects:
        if args.labels or args.channel:
            raise InputError("--objects names labels and channels itself; leave --labels and --channel out.")
        _convert_objects(args)
    elif len(args.source) > 1:
        raise InputError(f"{len(args.source)} sets become one data set only as training data for boxes; add --objects.")
    elif args.patient_regex:
        raise InputError("--patient-regex serves only the folds of --objects; add --objects or leave it out.")
    else:
        _convert_single_set(args)


def _convert_objects(args: argparse.Namespace) -> None:
    from nnsam.data.prompt_dataset import convert_prompt_dataset
    from nnsam.data.raw_dataset import check_dataset_folder_name

    result = convert_prompt_dataset(
        args.source,
        args.output,
        name=args.name,
        splits=args.splits or ("train",),
        patient_pattern=args.patient_regex,
        progress=bar,
    )
    for name, count in result.pictures.items():
        print(f"{count:6d}  {name}")
    test = f", {result.test_pictures} test pictures" if result.test_pictures else ""
    print(f"{args.output}: {sum(result.pictures.values())} training pictures of {result.patients} patients{test}.")
    print(f"Labels: {', '.join(list(result.labels)[1:])}.")
    if result.folds:
        print(f"Its splits_final.json holds {result.folds} fold(s) that part no patient's pictures.")
    elif result.pictures:
        print("One patient cannot be divided into folds; train with fold all.")
    if result.pictures:
        print(f"Next: nnsam plan-box -d {int(check_dataset_folder_name(args.output)[7:10])}")
    else:
        print("No training pictures: it serves prediction and evaluation only.")


def _convert_single_set(args: argparse.Namespace) -> None:
    from nnsam.data.npz_dataset import convert_npz_dataset
    from nnsam.data.raw_dataset import check_dataset_folder_name

    result = convert_npz_dataset(
        args.source[0],
        args.output,
        name=args.name,
        splits=args.splits,
        label_names=args.labels,
        channel_name=args.channel or "image",
        progress=bar,
    )
    counts = ", ".join(f"{count} {split}" for split, count in result.cases.items())
    print(f"{args.output}: {counts} cases as {result.file_ending}; classes {', '.join(list(result.labels)[1:])}.")
    number = int(check_dataset_folder_name(args.output)[7:10])
    if "train" in result.cases:
        print(f"Next: nnUNetv2_plan_and_preprocess -d {number} --verify_dataset_integrity")
    else:
        print("No training cases: it serves prediction and evaluation only.")
    if "val" in result.cases:
        print("Its splits_final.json, which nnU-Net takes over when it plans, makes val the validation set of fold 0.")
