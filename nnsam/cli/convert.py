"""Turns data sets in other layouts into raw nnU-Net data sets.

npz-to-nnunet   <set>/{train,val,test}/*.npz with the keys imgs, gts and, where known, spacing (x, y[, z])

Example:
  nnsam convert npz-to-nnunet data/cxr -o $nnUNet_raw/Dataset101_Lungs --labels "1=lung"
"""

import argparse

_NPZ_DESCRIPTION = """Turns <set>/{train,val,test}/*.npz (keys imgs, gts, spacing) into a raw nnU-Net data set.

8-bit pictures become PNG; other types, volumes and everything with a spacing become NIfTI. val joins the training
folder and is kept apart by splits_final.json, which nnU-Net takes over when it plans: fold 0 is that split.

Example:
  nnsam convert npz-to-nnunet data/cxr -o $nnUNet_raw/Dataset101_Lungs --labels "1=lung"
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
    npz.add_argument("source", metavar="SRC_FOLDER", help="folder that holds train, val, test or some of them")
    npz.add_argument("-o", "--output", required=True, metavar="FOLDER", help="DatasetXXX_Name, absent or empty")
    npz.add_argument("--name", help="name in dataset.json (default: the folder's)")
    npz.add_argument(
        "--splits",
        type=lambda text: text.split(","),
        metavar="train,val,test",
        help="which of them to convert (default: those that exist)",
    )
    npz.add_argument(
        "--labels", type=_label_names, metavar="1=NAME,...", help="class names (default: label_1, label_2, ...)"
    )
    npz.add_argument(
        "--channel",
        default="image",
        metavar="NAME",
        help="name of the grey channel; CT makes nnU-Net normalise by Hounsfield units (default: %(default)s)",
    )
    npz.set_defaults(convert=_convert_npz)


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
    from rich.console import Console
    from rich.progress import track

    from nnsam.data.npz_dataset import convert_npz_dataset
    from nnsam.data.raw_dataset import check_dataset_folder_name

    screen = Console(stderr=True)
    result = convert_npz_dataset(
        args.source,
        args.output,
        name=args.name,
        splits=args.splits,
        label_names=args.labels,
        channel_name=args.channel,
        progress=lambda files: track(
            files, "Converting", console=screen, transient=True, disable=not screen.is_terminal
        ),
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
