"""Where the boxes of a case come from: the command line, JSON, label images, or the image's own file.

They come in the users' convention and leave in this package's, see :mod:`nnsam.prompts.convention`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.io.dicom.segmentation import on_grid
from nnsam.io.finding import InputFile, find_labels, some
from nnsam.io.formats import data_files
from nnsam.io.image import Image
from nnsam.io.reading import read_labels
from nnsam.prompts.convention import check_boxes
from nnsam.support.files import read_json, sha256_of_file
from nnsam.support.suggestions import did_you_mean
from nnsam.support.text import shown

MAX_LABEL = 65535


@dataclass(frozen=True)
class BoxPrompts:
    """Checked boxes of one case.

    Attributes:
        boxes: (N, 4) or (N, 6), half-open in array order, inside the image.
        labels: N label values for the output, 1 to 65535.
    """

    boxes: NDArray[np.int64]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class BoxSource:
    """Finds the boxes of each case; called with its file and its image.

    Attributes:
        find: raises InputError where a case has no boxes or they do not fit.
        origin: what the boxes of a case are made of besides its own file, as JSON can hold it: other boxes have
            another one. Label images have the hash of theirs. None where there are no boxes for a case.
    """

    find: Callable[[InputFile, Image], BoxPrompts]
    origin: Callable[[InputFile], Any]

    def __call__(self, file: InputFile, image: Image) -> BoxPrompts:
        """Returns the boxes of a case.

        Raises:
            InputError: it has none, or they do not fit.
        """
        return self.find(file, image)


def open_box_source(
    boxes: Sequence[Sequence[float]] | None = None,
    path: str | Path | None = None,
    inputs: Sequence[InputFile] | None = None,
) -> BoxSource:
    """Returns what finds the boxes of each case.

    Args:
        boxes: boxes for every case.
        path: JSON, a label image, or a folder of label images; only one of the two. Without either, boxes are those
            in the image's own file.
        inputs: all images that boxes are wanted for, if JSON may have boxes for no others.

    Raises:
        InputError: the file is absent, unreadable or of an unknown kind, or has boxes for none of the inputs.
    """
    if boxes is not None:
        given = [list(box) for box in boxes]
        return BoxSource(lambda file, image: _prompts(list(boxes), None, image, "--box"), lambda file: ["given", given])
    if path is None:
        return BoxSource(_own_boxes, lambda file: ["own"])
    path = Path(path)
    if path.name.lower().endswith(".json"):
        return _json_source(path, inputs)
    return _label_source(path)


def _own_boxes(file: InputFile, image: Image) -> BoxPrompts:
    if image.boxes is None:
        raise InputError(f"{file.path} {image.missing_boxes}.")
    return _prompts(image.boxes, None, image, f"{file.path}, key boxes")


def _prompts(boxes: Any, labels: Any, image: Image, source: str) -> BoxPrompts:
    if not isinstance(boxes, list) and np.ndim(boxes) == 0:
        raise InputError(f"{source}: expected a list of boxes; found {shown(boxes)}.")
    checked = _checked(boxes, image, source)
    if labels is None:
        labels = list(range(1, len(checked) + 1))
    if not isinstance(labels, list) or len(labels) != len(checked):
        raise InputError(f"{source}: expected one label per box, {len(checked)} in all; found {shown(labels)}.")
    if not all(type(label) is int and 1 <= label <= MAX_LABEL for label in labels):
        raise InputError(f"{source}: labels must be whole numbers from 1 to {MAX_LABEL}; found {shown(labels)}.")
    return BoxPrompts(checked, tuple(labels))


def _checked(boxes: Any, image: Image, source: str) -> NDArray[np.int64]:
    """Boxes of the picture; those of a volume of one slice may count its third axis."""
    if image.dimensions == len(image.file_shape) or np.shape(boxes)[-1:] != (6,):
        return check_boxes(boxes, image.shape, source)
    inside = check_boxes(boxes, image.file_shape, source)
    axis = image.file_shape.index(1)
    return np.delete(inside, [axis, axis + 3], axis=1)


def _json_source(path: Path, inputs: Sequence[InputFile] | None) -> BoxSource:
    content = read_json(path, "expected a list of boxes, or an object from file names to boxes.")
    if not isinstance(content, (list, dict)):
        raise InputError(
            f"{path}: expected a list of boxes, or an object from file names to boxes; found {shown(content)}."
        )
    by_name = content if isinstance(content, dict) and "boxes" not in content else None
    if by_name is not None and inputs is not None:
        _check_names(path, by_name, inputs)

    def name_of(file: InputFile) -> str | None:
        return None if by_name is None else next((name for name in _names(file) if name in by_name), None)

    def origin(file: InputFile) -> Any:
        if by_name is None:
            return ["json", content]
        name = name_of(file)
        return None if name is None else ["json", by_name[name]]

    def find(file: InputFile, image: Image) -> BoxPrompts:
        entry, source = content, str(path)
        if by_name is not None:
            name = name_of(file)
            if name is None:
                raise InputError(f"{path} has no boxes for {file.path.name}; it has some for {some(by_name)}.")
            entry, source = by_name[name], f"{path}, {name}"
        if not isinstance(entry, dict):
            return _prompts(entry, None, image, source)
        unknown = sorted(entry.keys() - {"boxes", "labels"})
        if "boxes" not in entry or unknown:
            raise InputError(f"{source}: expected the keys boxes and, optionally, labels; found {some(entry)}.")
        return _prompts(entry["boxes"], entry.get("labels"), image, source)

    return BoxSource(find, origin)


def _check_names(path: Path, content: dict[str, Any], inputs: Sequence[InputFile]) -> None:
    known = {name for file in inputs for name in _names(file)}
    unknown = [name for name in content if name not in known]
    if unknown:
        which = f"{some(unknown)}, which {'is' if len(unknown) == 1 else 'are'} not among the images"
        without = [file.path.absolute().name for file in inputs if not content.keys() & set(_names(file))]
        meant = did_you_mean(unknown[0], without)
        raise InputError(f"{path} has boxes for {which}{meant or '; correct or remove the name.'}")


def _names(file: InputFile) -> list[str]:
    """Under which names a file may be listed: file name, name without ending, case name."""
    name = file.path.absolute().name
    return [name, file.stem, file.case]


def _label_source(path: Path) -> BoxSource:
    if not path.exists():
        raise InputError(f"{path} does not exist; expected boxes as JSON, a label image, or a folder of label images.")
    files = find_labels(path)

    def labels_of(file: InputFile) -> Path | None:
        return path if path.is_file() else next((files[name] for name in _names(file) if name in files), None)

    def origin(file: InputFile) -> Any:
        found = labels_of(file)
        return None if found is None else ["labels", *(sha256_of_file(part) for part in (found, *data_files(found)))]

    def find(file: InputFile, image: Image) -> BoxPrompts:
        found = labels_of(file)
        if found is None:
            raise InputError(f"{path} has no label image for {file.path.name}; it has those of {some(files)}.")
        labels = on_grid(read_labels(found), image)
        _check_geometry(found, labels, file, image)
        return boxes_of_labels(labels.pixels, str(found))

    return BoxSource(find, origin)


def boxes_of_labels(labels: NDArray[np.integer], source: str) -> BoxPrompts:
    """Returns one box around all pixels of each label value, in the order of the values.

    Raises:
        InputError: only background, or values beyond 65535.

    Example:
        >>> boxes_of_labels(np.array([[0, 7, 7], [3, 0, 7]]), "example")
        BoxPrompts(boxes=array([[1, 0, 2, 1],
               [0, 1, 2, 3]]), labels=(3, 7))
    """
    from scipy import ndimage

    if labels.max(initial=0) > MAX_LABEL:
        raise InputError(f"{source} holds the label value {labels.max()}; at most {MAX_LABEL} can be written.")
    found = {value: box for value, box in enumerate(ndimage.find_objects(labels.astype(np.int32)), 1) if box}
    if not found:
        raise InputError(f"{source} holds only background; expected at least one object to take a box from.")
    boxes = [[*(side.start for side in box), *(side.stop for side in box)] for box in found.values()]
    return BoxPrompts(np.array(boxes, dtype=np.int64), tuple(found))


def _check_geometry(path: Path, labels: Image, file: InputFile, image: Image) -> None:
    if labels.shape != image.shape:
        raise InputError(
            f"{path} has the shape {labels.shape}, but {file.path} has {image.shape}; a label image must cover "
            "the same pixels."
        )
    ours, theirs = labels.geometry, image.geometry
    # A single slice may be a volume in one file and a picture in the other.
    if ours is None or theirs is None or ours.dimensions != theirs.dimensions:
        return
    for name in ours.differences(theirs):
        raise InputError(
            f"{path} and {file.path} differ in {name}, {getattr(ours, name)} and {getattr(theirs, name)}; is it of "
            "another image?"
        )
