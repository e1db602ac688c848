"""Label maps as DICOM SEG (PS3.3 A.51), written and read by highdicom: one segment per label, planes of the source."""

import copy
import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError, SetupError
from nnsam.io.dicom.headers import frame_groups, frame_item, import_pydicom, normal, read_data_set
from nnsam.io.dicom.lengths import check_announced, check_pixel_data
from nnsam.io.image import DicomSource, Geometry, Image, Segment, decoding, make_labels
from nnsam.io.limits import check_voxels
from nnsam.support.installation import how_to_install
from nnsam.support.machine import package_version

# Larger files leave out planes without any label.
_COMPLETE_UP_TO = 64 * 2**20
_MAX_LABEL = 65535
_GENERATOR = "nnsam"
# What the tracking identifier of a segment begins with; its number follows, since DICOM numbers segments from 1 on.
_TRACKING = "label "
_SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
# Empty where a source lacks them, as the standard allows (type 2).
_MAY_BE_EMPTY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"),
    *("StudyTime", "ReferringPhysicianName"),
)
# highdicom parses these and refuses what a scanner or an anonymiser wrote wrongly; they are taken over as they are.
_AS_WRITTEN = ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime")
_MUST_BE_THERE = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
# Positions along the stack may be off their grid by this share of a step.
_UNEVEN = 0.05


def import_highdicom() -> Any:
    """The package highdicom.

    Raises:
        SetupError: it is not installed.
    """
    try:
        import highdicom
    except ModuleNotFoundError as error:
        raise SetupError(f"DICOM SEG needs the package highdicom; {how_to_install('dicom')}") from error
    return highdicom


def check_source(path: Path, image: Image) -> DicomSource:
    """The DICOM files that a segmentation refers to.

    Raises:
        InputError: the image has none.
    """
    if image.dicom is None:
        raise InputError(
            f"{path} would be a DICOM SEG, which refers to DICOM images, but {image.path or 'the image'} is none; "
            "write .nii.gz, or give the DICOM files."
        )
    return image.dicom


def write_segmentation(
    draft: Path, labels: Image, segments: Sequence[Segment] = (), *, algorithm: str = "AUTOMATIC"
) -> None:
    """Writes labels as segments that refer to the images that they were drawn on.

    Every plane is a source image's or frame's, with its position; planes without any label are left out only where the
    file would be larger than 64 MB.

    Args:
        draft: file to write.
        labels: pixels as labels, and `dicom` of the image.
        segments: in their order; those without a mask are taken from the pixels. By default one per label found.
        algorithm: AUTOMATIC or SEMIAUTOMATIC, the latter where a person gave boxes.

    Raises:
        InputError: no DICOM image, a source without identifiers, or one that cannot be referred to.
        SetupError: highdicom is not installed.
        OSError: the file cannot be written.
    """
    source = check_source(draft, labels)
    import_pydicom()
    highdicom = import_highdicom()
    found = [int(value) for value in np.unique(labels.pixels) if value]
    chosen = list(segments) or [Segment(value, f"label {value}") for value in found] or [Segment(1, "label 1")]
    missing = sorted(set(found) - {segment.label for segment in chosen})
    chosen += [Segment(value, f"label {value}") for value in missing]
    thickness = labels.geometry.spacing[-1] if labels.geometry is not None else 1.0
    data = [_source_data(path, thickness) for path in dict.fromkeys(source.files)]
    written = {name: copy.copy(data[0][name]) for name in _AS_WRITTEN}
    for name in _AS_WRITTEN:
        setattr(data[0], name, "")
    planes = _planes(labels, chosen, source, data[0])
    described = [_describe(highdicom, number, one, algorithm) for number, one in enumerate(chosen, 1)]
    is_large = planes.shape[0] * planes.shape[1] * planes.shape[2] * len(chosen) > 8 * _COMPLETE_UP_TO
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about names of patients that the standard would write otherwise
            result = highdicom.seg.Segmentation(
                data,
                planes,
                highdicom.seg.SegmentationTypeValues.BINARY,
                described,
                series_instance_uid=highdicom.UID(),
                series_number=_series_number(data[0]),
                sop_instance_uid=highdicom.UID(),
                instance_number=1,
                manufacturer=_GENERATOR,
                manufacturer_model_name=_GENERATOR,
                software_versions=_version(),
                device_serial_number="1",
                content_label="SEGMENTATION",
                content_description="Segmentation by nnsam",
                series_description="Segmentation by nnsam",
                pixel_measures=_pixel_measures(highdicom, labels, data[0]),
                omit_empty_frames=is_large,
            )
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise InputError(
            f"{source.files[0]} cannot be referred to by a DICOM SEG ({str(error).rstrip('.')}); write .nii.gz."
        ) from error
    for name, element in written.items():
        result[name] = element
    if "ImageOrientationPatient" not in data[0] and "PatientOrientation" not in result:
        result.PatientOrientation = data[0].get("PatientOrientation")  # may be empty where no plane is stated
    with draft.open("wb") as file:
        result.save_as(file, enforce_file_format=True)


def _version() -> str:
    return package_version("nnsam") or "unknown"


def _source_data(path: Path, thickness: float) -> Any:
    """The header of a source, completed by what highdicom expects in every one."""
    data = read_data_set(path, pixels=False)
    absent = [name for name in _MUST_BE_THERE if not data.get(name)]
    if absent:
        raise InputError(f"{path} lacks {' and '.join(absent)}, to which a DICOM SEG refers; write .nii.gz.")
    for name in _MAY_BE_EMPTY:
        if name not in data:
            setattr(data, name, "")
    if "PixelSpacing" in data and not data.get("SliceThickness"):
        data.SliceThickness = thickness
    return data


def _planes(labels: Image, segments: Sequence[Segment], source: DicomSource, first: Any) -> NDArray:
    """(planes, H, W) numbers of segments, or (planes, H, W, segments) where segments have masks, in file order."""
    shape = (len(source.files), *labels.file_shape[-2:])
    masks = [labels.pixels == one.label if one.mask is None else one.mask for one in segments]
    if any(one.mask is not None for one in segments):
        planes: NDArray = np.stack([mask.reshape(shape) for mask in masks], axis=-1).astype(np.uint8)
    else:
        planes = np.zeros(shape, np.uint8 if len(segments) < 256 else np.uint16)
        for number, mask in enumerate(masks, 1):
            planes[mask.reshape(shape)] = number
    if len(set(source.files)) > 1:
        return planes
    # The frames of one file are given in its own order, all of them.
    frames = np.zeros((int(first.get("NumberOfFrames") or 1), *planes.shape[1:]), planes.dtype)
    frames[np.array(source.frames) - 1] = planes
    return frames


def _describe(highdicom: Any, number: int, segment: Segment, algorithm: str) -> Any:
    from pydicom.sr.coding import Code

    tissue = Code("85756007", "SCT", "Tissue")  # what is generic, as other tools have it
    identification = highdicom.AlgorithmIdentificationSequence(
        name=_GENERATOR, version=_version(), family=Code("123110", "DCM", "Artificial Intelligence")
    )
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:64],
        segmented_property_category=tissue,
        segmented_property_type=tissue,
        algorithm_type=algorithm,
        algorithm_identification=identification,
        tracking_uid=highdicom.UID(),
        tracking_id=f"{_TRACKING}{segment.label}",
    )


def _series_number(first: Any) -> int:
    """Beside those of the scanner; the standard wants no order, viewers sort by it."""
    return min(9000 + int(first.get("SeriesNumber") or 0) % 1000, 9999)


def _pixel_measures(highdicom: Any, labels: Image, first: Any) -> Any:
    """Sizes of a stack of single images; an enhanced file states them itself, pictures without place need none."""
    if labels.geometry is None or labels.geometry.dimensions != 3 or first.get("SharedFunctionalGroupsSequence"):
        return None
    x, y, z = labels.geometry.spacing
    is_stack = labels.file_shape[0] > 1
    thickness = float(first.get("SliceThickness") or 0) or (z if is_stack else 1.0)
    return highdicom.PixelMeasuresSequence(
        pixel_spacing=(y, x), slice_thickness=thickness, spacing_between_slices=z if is_stack else None
    )


# ---- reading


def is_segmentation(path: Path) -> bool:
    """Whether a DICOM file is a segmentation."""
    data = read_data_set(path, pixels=False, tags=("SOPClassUID",))
    return str(data.get("SOPClassUID", "")) in _SEGMENTATIONS


@dataclass(frozen=True)
class _Plane:
    """A frame's place: along the stack in mm, or the number of its source frame; and its first pixel in mm."""

    along: float
    position: tuple[float, ...] | None
    segment: int


def read_segmentation(path: Path) -> Image:
    """Reads a label map; of segments that nnsam wrote the labels are those of the image's, else the segments' numbers.

    Planes that a file leaves out, between those that it has, are background.

    Raises:
        InputError: no segmentation, fractional, overlapping segments, planes of several orientations, or damaged.
        SetupError: pydicom or highdicom is not installed.
    """
    data = read_data_set(path, pixels=False)
    kind = str(data.get("SOPClassUID", ""))
    if kind not in _SEGMENTATIONS:
        raise InputError(f"{path} is DICOM, but no segmentation (SEG); give label maps.")
    if data.get("SegmentationType") == "FRACTIONAL":
        raise InputError(f"{path} is a fractional segmentation; expected a binary one, so threshold it first.")
    sentence = "{path} is a damaged or incomplete DICOM SEG ({reason}); export it again."
    with decoding(path, sentence):
        check_announced(path, data)
        planes = _read_planes(path, data)
        labels = _labels_of_segments(data)
        order, notices = _order(path, planes, _stated_step(data), _source_images(data))
        check_voxels(path, (max(order) + 1, int(data.Rows), int(data.Columns)))
        values = np.zeros((max(order) + 1, int(data.Rows), int(data.Columns)), _dtype(labels))
        _fill(path, values, planes, order, labels)
        geometry = _geometry(data, planes, order)
    if geometry is None and len(values) == 1:
        values = values[0]
    result = make_labels(path, values, kind="dicom", geometry=geometry)
    return replace(result, notices=notices)


def _dtype(labels: Mapping[int, int]) -> type[np.unsignedinteger[Any]]:
    return np.uint8 if max(labels.values(), default=0) < 256 else np.uint16


def _read_planes(path: Path, data: Any) -> list[_Plane]:
    is_map = str(data.SOPClassUID) == _SEGMENTATIONS[1]
    orientations, planes = set(), []
    for index in range(int(data.get("NumberOfFrames") or 1)):
        groups = frame_groups(data, index)
        place, plane = frame_item(groups, "PlanePositionSequence"), frame_item(groups, "PlaneOrientationSequence")
        segment = 0 if is_map else int(frame_item(groups, "SegmentIdentificationSequence").ReferencedSegmentNumber)
        if place is None or plane is None:
            planes.append(_Plane(float(_source_frame(groups)), None, segment))
            continue
        orientation = tuple(round(float(value), 4) for value in plane.ImageOrientationPatient)
        orientations.add(orientation)
        position = tuple(float(value) for value in place.ImagePositionPatient)
        if not np.isfinite([*position, *orientation]).all():
            raise InputError(f"{path} places its planes at nan or infinity; export it again.")
        direction = np.array(normal(tuple(map(float, plane.ImageOrientationPatient))))
        planes.append(_Plane(float(np.array(position) @ direction), position, segment))
    if len(orientations) > 1 or len({one.position is None for one in planes}) > 1:
        raise InputError(f"{path} holds planes of several orientations, which make no label map.")
    return planes


def _source_frame(groups: list[Any]) -> int:
    derivation = frame_item(groups, "DerivationImageSequence")
    source = derivation.SourceImageSequence[0] if derivation is not None and "SourceImageSequence" in derivation else {}
    number = source.get("ReferencedFrameNumber") or 1
    return int(number if isinstance(number, int | float | str) else number[0])


def _labels_of_segments(data: Any) -> dict[int, int]:
    """Number of a segment -> label."""
    ours = data.get("ManufacturerModelName") == _GENERATOR
    labels = {}
    for segment in data.SegmentSequence:
        number, tracked = int(segment.SegmentNumber), str(segment.get("TrackingID") or "")
        text = tracked.removeprefix(_TRACKING)
        is_label = ours and tracked.startswith(_TRACKING) and text.isdigit() and 0 < int(text) <= _MAX_LABEL
        labels[number] = int(text) if is_label else number
    return labels


def _stated_step(data: Any) -> float:
    measures = frame_item(frame_groups(data, 0), "PixelMeasuresSequence")
    return 0.0 if measures is None else float(measures.get("SpacingBetweenSlices") or 0)


def _source_images(data: Any) -> int:
    """How many files the segmentation was drawn on."""
    return sum(
        len(series.get("ReferencedInstanceSequence") or []) for series in data.get("ReferencedSeriesSequence") or []
    )


def _order(path: Path, planes: Sequence[_Plane], stated: float, sources: int) -> tuple[list[int], tuple[str, ...]]:
    """The slice that each frame belongs to, counted from the first one that any frame is in.

    Steps of several slices are planes that were left out, unless there is one plane per source image: then the source
    has a gap.
    """
    if planes[0].position is None:
        first = min(one.along for one in planes)
        return [round(one.along - min(first, 1)) for one in planes], ()
    along = np.array([one.along for one in planes])
    places = np.unique(np.round(along, 3))
    places = places[np.concatenate([[True], np.diff(places) > 2e-3])]
    nearest = np.abs(along[:, None] - places).argmin(axis=1)
    steps = np.diff(places)
    if len(places) == sources:
        return nearest.tolist(), ()
    for step in filter(None, (stated, float(steps.min()) if steps.size else 0.0)):
        index = (places - places[0]) / step
        if np.abs(index - np.round(index)).max() <= _UNEVEN and len(np.unique(np.round(index))) == len(places):
            return [round(index[place]) for place in nearest], ()
    if not steps.size:
        return [0] * len(planes), ()
    notice = (
        f"{path} has planes at uneven distances, {steps.min():.4g} to {steps.max():.4g} mm; they are taken as they "
        "follow each other."
    )
    return nearest.tolist(), (notice,)


def _fill(
    path: Path, values: NDArray, planes: Sequence[_Plane], order: Sequence[int], labels: Mapping[int, int]
) -> None:
    overlaps: dict[tuple[int, int], int] = {}
    owner = np.zeros(values.shape, np.uint16)
    for plane, index, frame in zip(planes, order, _frames(path), strict=True):
        if plane.segment == 0:  # a frame of a label map holds the numbers of segments
            for number in np.unique(frame[frame > 0]).tolist():
                values[index][frame == number] = labels.get(number, number)
            continue
        mask = frame > 0
        for other in np.unique(owner[index][mask]).tolist():
            if other not in (0, plane.segment) and labels[other] != labels[plane.segment]:
                key = (other, plane.segment)
                overlaps[key] = overlaps.get(key, 0) + int(np.count_nonzero(owner[index][mask] == other))
        owner[index][mask] = plane.segment
        values[index][mask] = labels[plane.segment]
    if overlaps:
        (one, other), count = next(iter(overlaps.items()))
        raise InputError(
            f"{path} has overlapping segments ({one} and {other} share {count} pixels), which one label map cannot "
            "hold; split it."
        )


def _frames(path: Path) -> NDArray:
    """(frames, H, W) as stored; in one go, since packed frames need not begin with a byte."""
    data = read_data_set(path, pixels=True)
    check_pixel_data(data)
    pixels: NDArray = data.pixel_array
    return pixels.reshape(-1, *pixels.shape[-2:])


def _geometry(data: Any, planes: Sequence[_Plane], order: Sequence[int]) -> Geometry | None:
    first = planes[int(np.argmin(order))]
    groups = frame_groups(data, 0)
    measures, plane = frame_item(groups, "PixelMeasuresSequence"), frame_item(groups, "PlaneOrientationSequence")
    if first.position is None or measures is None or plane is None:
        return None
    cosines = np.array([float(value) for value in plane.ImageOrientationPatient]).reshape(2, 3)
    direction = np.stack([*cosines, np.cross(*cosines)], axis=1)
    y, x = (float(size) for size in measures.PixelSpacing)
    along = {index: plane.along for index, plane in zip(order, planes, strict=True)}
    steps = [(along[b] - along[a]) / (b - a) for a, b in itertools.pairwise(sorted(along))]
    step = float(np.median(steps)) if steps else 1.0
    return Geometry((x, y, step), first.position, tuple(direction.ravel().tolist()))


def on_grid(labels: Image, image: Image) -> Image:
    """A segmentation on all planes of an image, which it may have left out where they have no label.

    Args:
        labels: see `read_segmentation`.
        image: image or label map that has the wanted grid.

    Returns:
        On the image's grid if the planes are some of its planes; else unchanged.
    """
    ours, theirs = labels.geometry, image.geometry
    if labels.kind != "dicom" or ours is None or theirs is None or (ours.dimensions, theirs.dimensions) != (3, 3):
        return labels
    shape = image.file_shape
    pixels = labels.pixels.reshape(labels.file_shape)
    if pixels.shape == shape or len(shape) != 3 or pixels.shape[1:] != shape[1:] or len(pixels) > shape[0]:
        return labels
    spacing = (*ours.spacing[:2], theirs.spacing[2]) if len(pixels) == 1 else ours.spacing
    placed = replace(ours, spacing=spacing, origin=theirs.origin)
    axes = np.reshape(theirs.direction, (3, 3))
    index = (axes.T @ (np.array(ours.origin) - theirs.origin)) / theirs.spacing
    start = round(float(index[2]))
    is_off = np.abs(index - [0, 0, start]).max() > _UNEVEN
    if is_off or placed.differences(theirs) or not 0 <= start <= shape[0] - len(pixels) or math.isnan(start):
        return labels
    whole = np.zeros(shape, pixels.dtype)
    whole[start : start + len(pixels)] = pixels
    result = make_labels(labels.path or "", whole, kind="dicom", geometry=theirs)
    return replace(result, notices=labels.notices)
