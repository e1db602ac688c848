"""Turns data sets in other layouts into raw nnU-Net data sets.

images          a folder of pictures or volumes, and a folder of masks, matched by name
npz-to-nnunet   <set>/{train,val,test}/*.npz with the keys imgs, gts and, where known, spacing (x, y[, z])
mmwhs           MM-WHS: the official volumes, in slices or whole, or CFDnet's slices

Example:
  nnsam convert images photos masks -o $nnUNet_raw/Dataset100_Lesions
  nnsam convert npz-to-nnunet data/cxr -o $nnUNet_raw/Dataset101_Lungs --labels "1=lung"
  nnsam convert npz-to-nnunet data/cxr data/heart_mr -o $nnUNet_raw/Dataset201_Boxes --objects
  nnsam convert mmwhs MM-WHS -o $nnUNet_raw/Dataset301_HeartCT --size 240x220
"""

import argparse
import re

from nnsam.cli.common import add_voxel_limit, bar
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


def add_mmwhs_arguments(layouts: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the subcommand."""
    parser = layouts.add_parser(
        "mmwhs",
        help="MM-WHS: the official volumes, or CFDnet's slices",
        description=_DESCRIPTION,
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
    add_voxel_limit(parser)


def _size(text: str) -> tuple[int, int] | str:
    match = re.fullmatch(r"(\d{2,5})x(\d{2,5})", text.lower())
    if text != "native" and not match:
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT in pixels, e.g. 240x220, or native; found {text!r}")
    return (int(match[1]), int(match[2])) if match else text


def _convert(args: argparse.Namespace) -> None:
    from nnsam.datasets.mmwhs.convert import Choices, convert_mmwhs
    from nnsam.datasets.mmwhs.slices import SliceRule
    from nnsam.nnunet.raw_dataset import check_dataset_folder_name

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


_IMAGES_DESCRIPTION = """Turns a folder of images and a folder of masks into a raw nnU-Net data set.

Images and masks are matched by their names without endings, apart from words such as _mask, _seg, _label, _gt or
_Segmentation. Images: PNG, JPEG, BMP, TIFF, NIfTI, NRRD, MHA, DICOM; masks: label values in any of these but JPEG, or
DICOM SEG. 8-bit pictures become PNG, all else NIfTI. Masks of 0 and 255 become 0 and 1, other values 1, 2, ... in their
order. splits_final.json holds folds that never part the images of a patient, as --patient finds it in the names.

Examples:
  nnsam convert images photos masks -o $nnUNet_raw/Dataset100_Lesions
  nnsam convert images scans labels -o $nnUNet_raw/Dataset102_Heart --labels "1=LV,2=RV" --patient "(P\\d+)"
"""


def _add_images_arguments(layouts: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = layouts.add_parser(
        "images",
        help="a folder of images and a folder of masks",
        description=_IMAGES_DESCRIPTION,
    )
    parser.add_argument("images", metavar="IMAGES", help="folder")
    parser.add_argument("masks", metavar="MASKS", help="folder, which may be the same")
    parser.add_argument("-o", "--output", required=True, metavar="FOLDER", help="DatasetXXX_Name, absent or empty")
    parser.add_argument("--name", help="name in dataset.json (default: the folder's)")
    add_matching_arguments(parser)
    parser.add_argument(
        "--channel",
        metavar="NAME",
        default="image",
        help="name of the grey channel; CT makes nnU-Net normalise by Hounsfield units (default: %(default)s)",
    )
    parser.set_defaults(convert=_convert_images)
    add_voxel_limit(parser)


def add_matching_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which mask is of which image, and what its values mean."""
    parser.add_argument(
        "--labels",
        type=_label_names,
        metavar="1=NAME,...",
        help="names of the values in the masks (default: label_<value>, or object)",
    )
    parser.add_argument("--mask-suffix", metavar="TEXT", help="what follows an image's name in its mask's name")
    parser.add_argument(
        "--patient",
        "--patient-regex",
        metavar="REGEX",
        help="finds the patient in a name: group 1, or all that matches",
    )
    parser.add_argument("--skip-unmatched", action="store_true", help="leave out images without mask, and the reverse")


def _convert_images(args: argparse.Namespace) -> None:
    from nnsam.datasets.images import convert_images
    from nnsam.nnunet.raw_dataset import check_dataset_folder_name

    result = convert_images(
        args.images,
        args.masks,
        args.output,
        name=args.name,
        label_names=args.labels,
        mask_suffix=args.mask_suffix,
        patient_pattern=args.patient,
        skip_unmatched=args.skip_unmatched,
        channel_name=args.channel,
        progress=bar,
    )
    for note in result.notes:
        print(f"Note: {note}")
    classes = ", ".join(f"{name}={value}" for name, value in list(result.labels.items())[1:])
    print(f"{args.output}: {len(result.cases)} cases of {result.patients} patients; {classes}.")
    number = int(check_dataset_folder_name(args.output)[7:10])
    print(f"Next: nnUNetv2_plan_and_preprocess -d {number} -c 2d, or nnsam box-train {args.output} -o bundle")


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
        "--patient-regex",
        "--patient",
        metavar="REGEX",
        help="patient in a case's name, for --objects: group 1, or all",
    )
    npz.set_defaults(convert=_convert_npz)
    add_voxel_limit(npz)
    _add_images_arguments(layouts)
    add_mmwhs_arguments(layouts)


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
    from nnsam.datasets.objects import convert_prompt_dataset
    from nnsam.nnunet.raw_dataset import check_dataset_folder_name

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
    from nnsam.datasets.challenge import convert_npz_dataset
    from nnsam.nnunet.raw_dataset import check_dataset_folder_name

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
