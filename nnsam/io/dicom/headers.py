"""What the headers of DICOM files say, frame by frame; pixels are left alone.

Sections are those of DICOM's standard, PS3.3: https://dicom.nema.org/medical/dicom/current/output/html/part03.html
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from nnsam.errors import InputError, SetupError
from nnsam.io.dicom.lengths import check_announced, check_deflated
from nnsam.io.image import LARGEST, SMALLEST, decoding
from nnsam.support.installation import how_to_install
from nnsam.support.text import shown

# Objects that are no images, though some have pixels.
_NO_IMAGES = (
    "1.2.840.10008.5.1.4.1.1.66",  # segmentation, registration, fiducials, surfaces, raw data, parametric maps
    "1.2.840.10008.5.1.4.1.1.88",  # structured reports, key objects
    "1.2.840.10008.5.1.4.1.1.11",  # presentation states
    "1.2.840.10008.5.1.4.1.1.9",  # waveforms
    "1.2.840.10008.5.1.4.1.1.104",  # encapsulated documents
    "1.2.840.10008.5.1.4.1.1.4.2",  # spectroscopy
    "1.2.840.10008.5.1.4.1.1.481.3",  # structure sets
    "1.2.840.10008.5.1.4.1.1.481.4",
    "1.2.840.10008.5.1.4.1.1.481.5",  # plans
    "1.2.840.10008.5.1.4.1.1.481.6",
    "1.2.840.10008.5.1.4.1.1.481.7",
    "1.2.840.10008.5.1.4.1.1.481.8",
    "1.2.840.10008.5.1.4.1.1.481.9",
    "1.2.840.10008.1.3.10",  # DICOMDIR
)
# By which the images of one series differ where several lie at one place.
_TOLD_APART = (
    *("TemporalPositionIdentifier", "TemporalPositionIndex", "AcquisitionNumber", "EchoTime", "EffectiveEchoTime"),
    *("EchoNumbers", "DiffusionBValue", "TriggerTime", "NominalPercentageOfCardiacPhase", "InversionTime"),
    *("StackID", "ImageType", "FrameType", "ConvolutionKernel", "KVP", "ContrastBolusAgent", "AcquisitionTime"),
    *("FrameReferenceTime", "ContentTime", "InstanceNumber"),
)
_TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"),
    *("PatientName", "Modality", "SeriesDescription", "ConcatenationUID", "Rows", "Columns", "SamplesPerPixel"),
    *("NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing"),
    *("NominalScannedPixelSpacing", "PixelAspectRatio", "EstimatedRadiographicMagnificationFactor"),
    *("SequenceOfUltrasoundRegions", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("GridFrameOffsetVector", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "BitsStored"),
    *("BitsAllocated", "PixelRepresentation", "PhotometricInterpretation", "SliceThickness"),
    *_TOLD_APART,
)

Vector = tuple[float, ...]


@dataclass(frozen=True)
class Frame:
    """One frame of a file.

    Attributes:
        number: counted from 1.
        position: of the first pixel's centre in mm, (x, y, z) of the patient; None where no tag says it.
        orientation: cosines of a row's direction and of a column's; None where no tag says it.
        spacing: (y, x) in mm; None where no tag says it.
        rounding: by how much rounding may have moved the position along an axis, in mm.
        about: tags that may tell apart images at one place.
        notices: what has to be known of the spacing.
    """

    number: int
    position: Vector | None
    orientation: Vector | None
    spacing: tuple[float, float] | None
    rounding: float = 0.0
    about: dict[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    @property
    def is_placed(self) -> bool:
        """Whether it is known where in the patient the frame lies."""
        return self.position is not None and self.orientation is not None


@dataclass(frozen=True)
class Header:
    """One DICOM file that is an image.

    Attributes:
        path: of the file.
        instance, series, study, patient, frame_of_reference: identifiers; empty where the tag is absent.
        sop_class: kind of object.
        modality, description: of the series.
        concatenation: identifier of the files that one image was cut into; empty mostly.
        size: (rows, columns) in pixels.
        samples: values per pixel.
        frames: in the order of the file.
    """

    path: Path
    instance: str
    series: str
    study: str
    patient: str
    frame_of_reference: str
    sop_class: str
    modality: str
    description: str
    concatenation: str
    size: tuple[int, int]
    samples: int
    frames: tuple[Frame, ...]

    @property
    def is_placed(self) -> bool:
        """Whether all frames are."""
        return all(frame.is_placed for frame in self.frames)


def import_pydicom() -> Any:
    """The package pydicom.

    Raises:
        SetupError: it is not installed.
    """
    try:
        import pydicom
    except ModuleNotFoundError as error:
        raise SetupError(f"DICOM files need the package pydicom; {how_to_install('dicom')}") from error
    return pydicom


def looks_like_dicom(path: Path) -> bool:
    """Whether a file is DICOM by its content: with the preamble of PS3.10, or a data set that begins without it."""
    with path.open("rb") as file:
        start = file.read(132)
    if start[128:] == b"DICM":
        return True
    # Group 0008 or 0002, an element of at most 0x20, and a value representation or a short length.
    for order in ("little", "big"):
        group, element = int.from_bytes(start[:2], order), int.from_bytes(start[2:4], order)
        if group in (0x0002, 0x0008) and element <= 0x0020 and len(start) == 132:
            return start[4:6].isalpha() or int.from_bytes(start[4:8], order) < 128
    return False


def read_data_set(path: Path, *, pixels: bool, tags: Iterable[str] | None = None) -> Any:
    """Reads a file by pydicom.

    Args:
        path: of the file.
        pixels: with the pixel data.
        tags: names of the only ones to be read.

    Raises:
        InputError: unreadable.
    """
    pydicom = import_pydicom()
    sentence = "{path} is damaged, cut off or no DICOM file ({reason}); copy or export it again."
    with decoding(path, sentence):
        check_deflated(path)
        names = None if tags is None else list(dict.fromkeys(tags))
        force = looks_like_dicom(path)
        data = pydicom.dcmread(path, force=force, stop_before_pixels=not pixels, specific_tags=names)
        if "TransferSyntaxUID" not in data.file_meta:  # a data set without the header of a file, as networks send it
            implicit, little = data.original_encoding
            encoding = ("ExplicitVRLittleEndian" if little else "ExplicitVRBigEndian", "ImplicitVRLittleEndian")[
                implicit
            ]
            data.file_meta.TransferSyntaxUID = getattr(pydicom.uid, encoding)
        return data


def read_header(path: Path) -> Header | None:
    """Reads the header of a file; None for DICOM objects that are no images, such as structure sets and reports.

    Raises:
        InputError: unreadable, an image without the tags that every image has, one that announces more pixels than its
            file can hold or than are allowed, or with numbers for its place that are none.
        SetupError: pydicom is not installed.
    """
    data = read_data_set(path, pixels=False, tags=_TAGS)
    sentence = "{path} has a damaged or incomplete DICOM header ({reason}); export it again."
    with decoding(path, sentence):
        kind = str(data.get("SOPClassUID", "") or "")
        if any(kind == uid or kind.startswith(f"{uid}.") for uid in _NO_IMAGES):
            return None
        if data.get("Rows") is None or data.get("Columns") is None:
            if kind:
                return None
            raise InputError(f"{path} is damaged or no DICOM image: it states neither what it is nor rows and columns.")
        check_announced(path, data)
        return Header(
            path=path,
            instance=_text(data, "SOPInstanceUID"),
            series=_text(data, "SeriesInstanceUID"),
            study=_text(data, "StudyInstanceUID"),
            patient=" ".join(dict.fromkeys(filter(None, (_text(data, "PatientID"), _text(data, "PatientName"))))),
            frame_of_reference=_text(data, "FrameOfReferenceUID"),
            sop_class=kind,
            modality=_text(data, "Modality"),
            description=_text(data, "SeriesDescription"),
            concatenation=_text(data, "ConcatenationUID"),
            size=(int(data.Rows), int(data.Columns)),
            samples=int(data.get("SamplesPerPixel") or 1),
            frames=tuple(_frames(path, data)),
        )


def _text(data: Any, name: str) -> str:
    value = data.get(name)
    return "" if value is None else str(value).strip()


def frame_groups(data: Any, index: int) -> list[Any]:
    """The functional groups of a frame, its own before the shared ones (C.7.6.16); and the data set itself."""
    own = data.get("PerFrameFunctionalGroupsSequence") or []
    shared = data.get("SharedFunctionalGroupsSequence") or []
    return [*([own[index]] if index < len(own) else []), *([shared[0]] if shared else []), data]


def frame_item(groups: list[Any], sequence: str) -> Any:
    """The item of a functional group, of the frame's own before the shared one; None where there is none."""
    return next((group.get(sequence)[0] for group in groups if group.get(sequence)), None)


def _frames(path: Path, data: Any) -> Iterator[Frame]:
    count = int(data.get("NumberOfFrames") or 1)
    own = data.get("PerFrameFunctionalGroupsSequence")
    if own and len(own) != count:
        raise InputError(f"{path} has {count} frames and the description of {len(own)}; export it again.")
    offsets = data.get("GridFrameOffsetVector")
    flat = _spacing(path, data)
    for index in range(count):
        groups = frame_groups(data, index)
        place, plane = frame_item(groups, "PlanePositionSequence"), frame_item(groups, "PlaneOrientationSequence")
        measures = frame_item(groups, "PixelMeasuresSequence")
        position = _vector(data if place is None else place, "ImagePositionPatient", 3)
        orientation = _vector(data if plane is None else plane, "ImageOrientationPatient", 6)
        if count > 1 and place is None:
            # One position for all frames places none of them, but doses say how far the others are off (C.8.8.3.2).
            position = _shifted(position, orientation, offsets, index, count)
        spacing, notices = flat if measures is None else (_pair(measures, "PixelSpacing"), ())
        yield Frame(
            number=index + 1,
            position=position,
            orientation=orientation,
            spacing=spacing,
            rounding=_rounding((data if place is None else place).get("ImagePositionPatient")),
            about=_about(data, groups),
            notices=notices,
        )


def _about(data: Any, groups: list[Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _TOLD_APART:
        value = data.get(name)
        for group in groups[:-1]:
            for element in group:
                if (
                    value in (None, "")
                    and element.VR == "SQ"
                    and element.value
                    and element.value[0].get(name) is not None
                ):
                    value = element.value[0].get(name)
        if value not in (None, ""):
            found[name] = "\\".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return found


def _vector(data: Any, name: str, length: int) -> Vector | None:
    value = data.get(name)
    if value is None or value == "" or len(value) == 0:
        return None
    numbers = tuple(float(number) for number in value)
    if len(numbers) != length or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} is {shown(list(numbers))}; expected {length} finite numbers")
    return numbers


def _shifted(
    position: Vector | None, orientation: Vector | None, offsets: Any, index: int, count: int
) -> Vector | None:
    if position is None or orientation is None or offsets is None or len(offsets) != count:
        return None
    along = normal(orientation)
    shift = float(offsets[index]) - (0.0 if float(offsets[0]) == 0 else float(offsets[0]))
    if not math.isfinite(shift):
        raise ValueError("Grid Frame Offset Vector holds nan or infinity")
    return tuple(start + shift * step for start, step in zip(position, along, strict=True))


def normal(orientation: Vector) -> Vector:
    """The direction in which slices follow each other: row x column."""
    (a, b, c), (d, e, f) = orientation[:3], orientation[3:]
    return (b * f - c * e, c * d - a * f, a * e - b * d)


def _rounding(value: Any) -> float:
    """Half a unit of the last decimal that any coordinate is written with, in mm."""
    decimals = 0
    for number in value or ():
        try:
            exponent = Decimal(str(getattr(number, "original_string", number)).strip()).as_tuple().exponent
        except InvalidOperation:
            continue
        decimals = max(decimals, -exponent if isinstance(exponent, int) else 0)
    return 0.5 * 10.0**-decimals


def _pair(data: Any, name: str) -> tuple[float, float] | None:
    """Row spacing and column spacing, so (y, x); None where the tag is absent or empty."""
    value = data.get(name)
    if value is None or value == "":
        return None
    sizes = [float(size) for size in (value if isinstance(value, Sequence) else [value])]
    if len(sizes) == 2 and all(SMALLEST <= size <= LARGEST for size in sizes):
        return sizes[0], sizes[1]
    if not sizes:
        return None
    raise ValueError(f"{name} is {shown(sizes)}; expected two numbers above 0")


_Spacing = tuple[tuple[float, float] | None, tuple[str, ...]]


def _spacing(path: Path, data: Any) -> _Spacing:
    """Pixel size of an image without functional groups, and what has to be known of it.

    Pixel Spacing is the size in the patient, of radiographs after calibration (10.7); what is known of the detector
    only is larger than the object.
    """
    pixel, imager = _pair(data, "PixelSpacing"), _pair(data, "ImagerPixelSpacing")
    regions = _ultrasound_spacing(path, data)
    if regions is not None and (pixel is None or regions[0] is not None):
        return regions
    if pixel is not None:
        return pixel, ()
    if imager is not None:
        factor = float(data.get("EstimatedRadiographicMagnificationFactor") or 0)
        if 0 < factor < math.inf:
            return (imager[0] / factor, imager[1] / factor), ()
        return imager, (
            f"{path} states the pixel size at the detector only ({imager[0]:g} x {imager[1]:g} mm); objects "
            "are smaller by the magnification, which no tag tells.",
        )
    return _pair(data, "NominalScannedPixelSpacing"), ()


_CENTIMETRES = 3
_TISSUE = 1


def _ultrasound_spacing(path: Path, data: Any) -> _Spacing | None:
    """From the calibrated regions of an ultrasound image (C.8.5.5), of those that show tissue in two dimensions."""
    regions = data.get("SequenceOfUltrasoundRegions")
    if not regions:
        return None
    found: set[tuple[float, float] | None] = set()
    for region in regions:
        if int(region.get("RegionSpatialFormat") or 0) != 1 or int(region.get("RegionDataType") or 0) not in (
            _TISSUE,
            2,
        ):
            continue
        units = {int(region.get(f"PhysicalUnits{axis}Direction") or 0) for axis in "XY"}
        y, x = (round(10 * abs(float(region.get(f"PhysicalDelta{axis}") or 0)), 9) for axis in "YX")
        is_known = 0 < y < math.inf and 0 < x < math.inf and units == {_CENTIMETRES}
        found.add((y, x) if is_known else None)
    if not found:
        return None
    if len(found) > 1:
        return None, (f"{path} has ultrasound regions of different scales; its pixel size is taken as unknown.",)
    return found.pop(), ()
