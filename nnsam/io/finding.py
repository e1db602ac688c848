"""Which files of a folder are images, label maps or the channels of a case."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.io.dicom.finding import ENDINGS as DICOM_ENDINGS
from nnsam.io.dicom.finding import DicomInput, find_dicom, is_dicom, walk
from nnsam.io.formats import (
    COLOURED,
    FORMATS,
    endings,
    format_of,
    image_formats,
    kind_of,
    label_formats,
    with_data_files,
    without_ending,
)
from nnsam.io.image import Image, Kind
from nnsam.io.reading import image_format, read_dicom_input, read_image
from nnsam.support.text import clipped

_COLOURS = (3, 4)
_CHANNEL = re.compile(r"(?P<case>.+)_(?P<number>\d{4})")


def visible(folder: Path) -> list[Path]:
    """What a folder holds, sorted by name, without hidden files such as .DS_Store; nothing where there is no folder."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def image_name(case: str, file_ending: str, channel: int = 0) -> str:
    """File name of a case's image, as nnU-Net has it; one file holds all three channels of an RGB image."""
    return f"{case}_{channel:04d}{file_ending}"


def split_channel(stem: str) -> tuple[str, int] | None:
    """The case and the channel in a name without ending; None where it has no number of a channel.

    Example:
        >>> split_channel("heart_01_0002"), split_channel("heart_01")
        (('heart_01', 2), None)
    """
    match = _CHANNEL.fullmatch(stem)
    return None if match is None else (match["case"], int(match["number"]))


def group_channels(paths: Iterable[Path], file_ending: str) -> tuple[dict[str, dict[int, Path]], list[Path]]:
    """Sorts files by the names that `image_name` gives.

    Returns:
        Case -> channel -> file; and the files with other names.
    """
    cases: dict[str, dict[int, Path]] = {}
    others: list[Path] = []
    for path in paths:
        parts = split_channel(path.name.removesuffix(file_ending)) if path.name.endswith(file_ending) else None
        if parts is None:
            others.append(path)
        else:
            cases.setdefault(parts[0], {})[parts[1]] = path
    return cases, others


@dataclass(frozen=True)
class InputFile:
    """One image to segment.

    Attributes:
        path: a file, or the folder of a DICOM series.
        kind: as in `Image`.
        ending: of its format, lower case, which the name need not have; empty for a folder.
        name: of the case, where it is not the stem; see `find_images`.
        dicom: the files of a DICOM image.
        refusal: why it cannot be read, a sentence, so that it is not left out unsaid; empty mostly.
    """

    path: Path
    kind: Kind
    ending: str
    name: str = ""
    dicom: DicomInput | None = None
    refusal: str = ""

    @property
    def stem(self) -> str:
        """Name without ending."""
        return without_ending(self.path.absolute().name, self.ending)

    @property
    def case(self) -> str:
        """What files about the image are called."""
        return self.name or self.stem

    @property
    def files(self) -> tuple[Path, ...]:
        """What the image is read from: the path, files that its header names, and the files of a DICOM series."""
        if self.dicom is None:
            return tuple(with_data_files([self.path]))
        return (self.path, *(header.path for header in self.dicom.headers))

    def read(self) -> Image:
        """Reads the image; see `read_image`.

        Raises:
            InputError: see `read_image`; or it was found to make no image.
        """
        if self.refusal:
            raise InputError(self.refusal)
        return read_image(self.path) if self.dicom is None else read_dicom_input(self.path, self.dicom)


def find_images(path: str | Path, series: str | None = None) -> list[InputFile]:
    """Lists the images at a path, sorted by name; files of other kinds in a folder are left alone.

    Where all images of an ending in a folder are called `..._0000`, as nnU-Net's are, the cases are called without it,
    as nnU-Net's label maps are; in `frame_0000.png`, `frame_0001.png` it is a part of the name.

    Args:
        path: one file; a folder of files, each one case; or a folder with DICOM files, at any depth, see
            `nnsam.io.dicom.finding.find_dicom`.
        series: Series Instance UID, chooses among several DICOM series.

    Returns:
        The images; what seems to be one and cannot be read is among them, with its refusal, if there are others.

    Raises:
        InputError: nothing there, no image among it, DICOM files beside others, several series in one folder, or a
            series of other files than DICOM.
        SetupError: DICOM files without the package that reads them.
    """
    path = Path(path)
    if path.is_file():
        found = image_format(path)
        if found.kind != "dicom":
            _refuse_series(series, path)
        return [_named(InputFile(path, found.kind, found.ending), [other.name for other in visible(path.parent)])]
    if not path.is_dir():
        raise InputError(f"{path} does not exist; expected an image or a folder of images.")
    files = _files_of_other_kinds(path)
    dicom = [entry for entry in visible(path) if entry.is_file() and is_dicom(entry)]
    if files and dicom:
        raise InputError(f"{path} holds DICOM files ({dicom[0].name}) beside {files[0].path.name}; separate them.")
    if files:
        _refuse_series(series, files[0].path)
        return files
    inputs = [_dicom_input(path, one) for one in find_dicom(path, series)]
    if not inputs:
        raise InputError(f"{path} holds no images (files ending with {endings(image_formats())}, or DICOM files).")
    inputs += _left_out(path)
    if len(inputs) == 1 and inputs[0].refusal:
        raise InputError(inputs[0].refusal)
    return inputs


def _refuse_series(series: str | None, path: Path) -> None:
    if series is not None:
        raise InputError(f"a series ({series}) is one of DICOM files; found {path}: leave --series out.")


def _files_of_other_kinds(folder: Path) -> list[InputFile]:
    found = [(entry, row) for entry in visible(folder) if (row := format_of(entry)) and row.holds_images]
    files = [InputFile(entry, row.kind, row.ending) for entry, row in found if row.kind != "dicom" and entry.is_file()]
    names = [file.path.name for file in files]
    return [_named(file, names) for file in files]


def _named(file: InputFile, names: Iterable[str]) -> InputFile:
    """Takes nnU-Net's number of the only channel off the case's name, given the names of all files in the folder."""
    stems = [without_ending(name, file.ending) for name in names if name.lower().endswith(file.ending)]
    case = file.stem.removesuffix("_0000")
    if file.kind == "npz" or not case or not all(stem.endswith("_0000") for stem in [file.stem, *stems]):
        return file
    return replace(file, name=case)


def _dicom_input(root: Path, found: DicomInput) -> InputFile:
    """Names an image by the folders that it lies in, below the one that was given."""
    if found.is_single_file:
        file = found.headers[0].path
        ending = next((ending for ending in DICOM_ENDINGS if file.name.lower().endswith(ending)), "")
        parts = file.relative_to(root).parts
        name = "_".join([*parts[:-1], without_ending(parts[-1], ending)])
        return InputFile(file, "dicom", FORMATS[".dcm"].ending, name, found, found.refusal)
    name = "_".join(found.folder.relative_to(root).parts)
    return InputFile(found.folder, "series", "", name, found, found.refusal)


def _left_out(root: Path) -> list[InputFile]:
    """Images of other formats in folders below one that holds DICOM files."""
    folders = {file.parent for file in walk(root) if file.parent != root}
    files = [(folder, _files_of_other_kinds(folder)) for folder in sorted(folders)]
    return [
        InputFile(
            folder,
            "series",
            "",
            refusal=f"{folder} holds {found[0].path.name} and is left out; it lies among folders "
            "with DICOM files, so segment it by itself.",
        )
        for folder, found in files
        if found
    ]


def find_labels(path: str | Path) -> dict[str, Path]:
    """Maps case names (file names without ending) to label maps, sorted by name.

    Args:
        path: a folder, in which files of other kinds (dataset.json, plans.json, ...) are left alone; or one label map.
            Files *.npz count only in a folder without label maps of another format: beside them nnU-Net saves
            probabilities under the same names.

    Raises:
        InputError: nothing there, no label map among it, or two label maps of one case.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist.")
    found = [(entry, format_of(entry)) for entry in (visible(path) if path.is_dir() else [path]) if entry.is_file()]
    maps = [(entry, row) for entry, row in found if row is not None and row.holds_labels]
    chosen = [(entry, row) for entry, row in maps if row.kind != "npz"] or maps
    if not chosen:
        raise InputError(f"{path} holds no label maps (files ending with {endings(label_formats())}).")
    files: dict[str, Path] = {}
    for entry, row in chosen:
        case = entry.name[: -len(row.ending)]
        if case in files:
            raise InputError(f"{path} holds two label maps of one case: {files[case].name} and {entry.name}.")
        files[case] = entry
    return files


Pairs = dict[str, tuple[Path, Path]]


def match_cases(predictions: Path, references: Path) -> Pairs:
    """Maps case names to (prediction, reference); two single files are a pair whatever their names.

    Raises:
        InputError: no label maps, or cases without partner.
    """
    predicted, expected = find_labels(predictions), find_labels(references)
    if predictions.is_file() and references.is_file():
        return {next(iter(expected)): (predictions, references)}
    missing, extra = sorted(expected.keys() - predicted.keys()), sorted(predicted.keys() - expected.keys())
    if missing:
        raise InputError(f"{predictions} lacks {len(missing)} of {len(expected)} predictions: {some(missing)}.")
    if extra:
        raise InputError(f"{references} lacks the references of {len(extra)} predictions: {some(extra)}.")
    return {case: (predicted[case], expected[case]) for case in expected}


def some(names: Iterable[str], limit: int = 3) -> str:
    """The first few of many names, for messages; "nothing" where there are none."""
    found = list(names)
    return (
        ", ".join(clipped(name, 80) for name in found[:limit]) + (", ..." if len(found) > limit else "")
        if found
        else "nothing"
    )


@dataclass(frozen=True)
class Case:
    """One image.

    Attributes:
        name: what its label map is called, without ending.
        files: in the order of the channels; one of them may hold several channels.
    """

    name: str
    files: tuple[Path, ...]


@dataclass(frozen=True)
class _Layout:
    """What a model reads: the ending of its files and how its channels may be spread over them."""

    ending: str
    channels: int

    @property
    def is_picture(self) -> bool:
        return kind_of(self.ending) in COLOURED

    @property
    def in_one_file(self) -> bool:
        """Whether a file commonly holds the whole image, so that its name needs no number of a channel."""
        return self.channels == 1 or (self.is_picture and self.channels in _COLOURS)

    def files_for(self, found: int) -> int | None:
        """The smallest possible number of files of a case of which `found` files exist; None if there is none."""
        possible = range(1, self.channels + 1) if self.is_picture else (1, self.channels)
        return next((count for count in possible if self.channels % count == 0 and count >= found), None)

    def stem(self, path: Path) -> str:
        """Name without the ending."""
        return path.name[: len(path.name) - len(self.ending)]

    def fits(self, path: Path) -> bool:
        """Whether a file has the ending, in small or capital letters."""
        return path.name.lower().endswith(self.ending.lower()) and self.stem(path) != ""


def find_cases(paths: str | Path | Sequence[str | Path], file_ending: str, channels: int) -> list[Case]:
    """Finds the cases at a path by nnU-Net's naming.

    `heart_0000.nii.gz` and `heart_0001.nii.gz` are the channels of the case `heart`. Where one file may hold the whole
    image (one channel, or the 3 or 4 colours of a picture), `heart.png` is the case `heart`, and a number is taken for
    a part of the name where no file `_0000` goes with it. How many channels the files hold is known only when they are
    read, see `check_channels`.

    Args:
        paths: a folder, in which hidden files and those of other endings are left alone; one file; or the files of one
            case, which are taken in the given order if their names have no numbers.
        file_ending: of the model, such as ".nii.gz"; capital letters in the files' names are accepted.
        channels: number of channels that the model reads.

    Returns:
        The cases, sorted by name, at least one.

    Raises:
        InputError: nothing there, other endings, files of a case missing or too many, two files for one channel.
    """
    sources = [Path(path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    layout = _Layout(file_ending, channels)
    for path in sources:
        if not path.exists():
            raise InputError(f"{path} does not exist; expected a folder or files ending with {file_ending}.")
    if not sources:
        raise InputError(f"no image is given; expected a folder or files ending with {file_ending}.")
    if len(sources) == 1 and sources[0].is_dir():
        return _sort_into_cases(_files_in(sources[0], layout), layout)
    for path in sources:
        if path.is_dir():
            raise InputError(f"{path} is a folder among other paths; give one folder, or the files of one case.")
        if not layout.fits(path):
            raise InputError(f"{path} {_instead(path)}; the model reads files ending with {file_ending}.")
    return [_case_of_files(sources, layout)]


def check_channels(image: NDArray, expected: int, case: Case) -> None:
    """Compares the number of channels of an image with what the model reads.

    Args:
        image: (C, z, y, x).
        expected: the model's channels.
        case: where the image comes from.

    Raises:
        InputError: they differ.
    """
    found = image.shape[0]
    if found == expected:
        return
    names = ", ".join(path.name for path in case.files)
    advice = f"give one file per channel, {case.name}_0000 to {case.name}_{expected - 1:04d}"
    if len(case.files) == 1 and (found, expected) == (4, 3):
        advice = "save the picture without its alpha channel (RGB)"
    elif len(case.files) == 1 and expected == 1:
        advice = "save it as grey, or the wanted channel as its own file"
    elif found > expected:
        advice = "give only the channels that the model was trained on"
    elif found == 1 and expected in _COLOURS and kind_of(case.files[0]) in COLOURED:
        advice = f"save the picture in colour ({'RGB' if expected == 3 else 'RGBA'}), or {advice}"
    raise InputError(
        f"case {case.name} ({names}) has {found} {_plural('channel', found)}, the model reads {expected}; {advice}."
    )


def _files_in(folder: Path, layout: _Layout) -> list[Path]:
    entries = visible(folder)
    for entry in entries:
        if entry.is_symlink() and not entry.exists():
            raise InputError(f"{entry} is a link to a file that does not exist; mend or remove it.")
    files = [entry for entry in entries if entry.is_file() and layout.fits(entry)]
    if not files:
        raise InputError(f"{folder} {_instead(folder)}; the model reads files ending with {layout.ending}.")
    return files


def _instead(path: Path) -> str:
    """What is at a path where no file of the model's ending is."""
    if path.is_file():
        return f"ends with {_ending(path) or 'no ending'}"
    entries = visible(path)
    found = Counter(_ending(entry) for entry in entries if entry.is_file())
    if found:
        listed = ", ".join(f"{ending or 'no ending'} ({count})" for ending, count in sorted(found.items()))
        return f"holds only files with other endings: {listed}"
    folders = ", ".join(entry.name for entry in entries)
    return f"holds only folders ({folders})" if folders else "is an empty folder"


def _ending(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _sort_into_cases(files: Sequence[Path], layout: _Layout) -> list[Case]:
    numbered: dict[str, dict[int, Path]] = defaultdict(dict)
    single: dict[str, Path] = {}
    for path in files:
        parts = split_channel(layout.stem(path))
        if parts is None:
            _add(single, layout.stem(path), path)
        else:
            _add(numbered[parts[0]], parts[1], path)
    several = any(len(channels) > 1 for channels in numbered.values() if 0 in channels)
    if layout.in_one_file and not several:
        for case in [case for case, channels in numbered.items() if 0 not in channels]:
            for path in numbered.pop(case).values():
                _add(single, layout.stem(path), path)
    if single and not layout.in_one_file:
        path = next(iter(single.values()))
        raise InputError(
            f"{path} has no number of a channel in its name; the model reads {layout.channels} channels, so name the "
            f"files of a case {layout.stem(path)}_0000{layout.ending}, {layout.stem(path)}_0001{layout.ending}, ..."
        )
    count = _files_per_case(numbered, layout)
    cases = {case: _case(case, channels, count, layout) for case, channels in numbered.items()}
    for case, path in single.items():
        if case in cases:
            raise InputError(f"{path} and {cases[case].files[0].name} are both the case {case}; remove one of them.")
        cases[case] = Case(case, (path,))
    return [cases[name] for name in sorted(cases)]


def _add(group: dict, key: str | int, path: Path) -> None:
    if key in group:
        raise InputError(f"{path} and {group[key].name} are the same channel of one case; remove one of them.")
    group[key] = path


def _files_per_case(numbered: dict[str, dict[int, Path]], layout: _Layout) -> int:
    if not numbered:
        return 1
    case, channels = max(numbered.items(), key=lambda item: len(item[1]))
    count = layout.files_for(len(channels))
    if count is None:
        names = ", ".join(path.name for _, path in sorted(channels.items()))
        hint = "; append _0000 to the names if their numbers are no channels" if layout.in_one_file else ""
        raise InputError(
            f"case {case} has {len(channels)} files ({names}), the model reads {layout.channels} "
            f"{_plural('channel', layout.channels)}; leave only these{hint}."
        )
    return count


def _case(name: str, channels: dict[int, Path], count: int, layout: _Layout) -> Case:
    path = next(iter(channels.values()))
    missing = [number for number in range(count) if number not in channels]
    if missing:
        files = ", ".join(f"{name}_{number:04d}{layout.ending}" for number in missing)
        raise InputError(
            f"case {name} in {path.parent} lacks {files}; the model reads {layout.channels} "
            f"{_plural('channel', layout.channels)}, so add what is missing or remove the case."
        )
    return Case(name, tuple(channels[number] for number in range(count)))


def _case_of_files(files: Sequence[Path], layout: _Layout) -> Case:
    if len(files) == 1 or all(split_channel(layout.stem(path)) for path in files):
        cases = _sort_into_cases(files, layout)
        if len(cases) == 1:
            return cases[0]
        names = " and ".join(case.name for case in cases[:2])
        raise InputError(f"the files belong to several cases ({names}); give the files of one case, or a folder.")
    count = layout.files_for(len(files))
    if count != len(files) or len(set(files)) < len(files):
        names = ", ".join(path.name for path in files)
        raise InputError(
            f"{len(files)} files are given for one case ({names}), the model reads {layout.channels} "
            f"{_plural('channel', layout.channels)}; give each of these once, or a folder with all cases."
        )
    return Case(layout.stem(files[0]), tuple(files))


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else f"{noun}s"
