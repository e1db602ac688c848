"""DICOM files written by pydicom, for tests of what reads them and of what refers to them."""

from pathlib import Path

import numpy as np

CT, MR, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
CR, ULTRASOUND, ULTRASOUND_FILM = (
    "1.2.840.10008.5.1.4.1.1.1",
    "1.2.840.10008.5.1.4.1.1.6.1",
    "1.2.840.10008.5.1.4.1.1.3.1",
)
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def make_dicom(
    pixels,
    *,
    position=(0, 0, 0),
    orientation=AXIAL,
    spacing=(0.75, 0.5),
    rescale=None,
    bits=None,
    number=1,
    sop_class=CT,
    modality="CT",
    series="1.2.3",
    study="1.2.1",
    patient="P1",
    frame_of_reference="1.2.9",
    photometric=None,
    colour=False,
    **tags,
):
    """A data set of one file; `pixels` are (H, W), (N, H, W), or with `colour` a last axis of 3."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    pixels = np.asarray(pixels)
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = sop_class, generate_uid()
    data.file_meta.MediaStorageSOPClassUID = sop_class
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    data.SeriesInstanceUID, data.StudyInstanceUID = series, study
    data.PatientID, data.PatientName, data.Modality = patient, "Test", modality
    data.PatientBirthDate, data.PatientSex, data.ReferringPhysicianName = "", "O", ""
    data.StudyDate, data.StudyTime, data.AccessionNumber, data.StudyID = "20200101", "000000", "", "1"
    data.InstanceNumber, data.SeriesNumber, data.Manufacturer = number, 1, "Test"
    if frame_of_reference:
        data.FrameOfReferenceUID, data.PositionReferenceIndicator = frame_of_reference, ""
    if position is not None:
        data.ImagePositionPatient, data.ImageOrientationPatient = list(position), list(orientation)
    if spacing is not None:
        data.PixelSpacing = list(spacing)
    frames = pixels.ndim - (3 if colour else 2)
    if frames:
        data.NumberOfFrames = len(pixels)
    data.Rows, data.Columns = pixels.shape[frames : frames + 2]
    data.SamplesPerPixel = 3 if colour else 1
    data.PhotometricInterpretation = photometric or ("RGB" if colour else "MONOCHROME2")
    if colour:
        data.PlanarConfiguration = 0
    if pixels.dtype.kind == "f":
        data.BitsAllocated = 32
        data.FloatPixelData = pixels.astype("<f4").tobytes()
    else:
        data.BitsAllocated = 8 * pixels.dtype.itemsize
        data.BitsStored = bits or data.BitsAllocated
        data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
        content = pixels.tobytes()
        data.PixelData = content + b"\0" * (len(content) % 2)
        data["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    if rescale is not None:
        data.RescaleSlope, data.RescaleIntercept = rescale
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def write_dicom(path, pixels, **options):
    """Writes a file, see `make_dicom`, and returns its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    make_dicom(pixels, **options).save_as(path, enforce_file_format=True)
    return path


def write_slices(folder, volume, *, positions=None, step=2.5, names=None, rescales=None, **options):
    """Writes (D, H, W) as a series; positions are 3 numbers per slice, along z by default."""
    paths = []
    for index, plane in enumerate(volume):
        position = (0, 0, round(step * index, 6)) if positions is None else positions[index]
        name = f"IM{index:04d}.dcm" if names is None else names[index]
        rescale = options.get("rescale") if rescales is None else rescales[index]
        chosen = {**options, "rescale": rescale, "position": position}
        paths.append(write_dicom(Path(folder, name), plane, number=index + 1, **chosen))
    return paths


def make_enhanced(frames, positions, *, orientation=AXIAL, spacing=(0.7, 0.9), rescales=None, **options):
    """An enhanced multi-frame data set: (N, H, W) frames with a position, and maybe a slope and intercept, each."""
    from pydicom.dataset import Dataset

    def item(**values):
        data = Dataset()
        for name, value in values.items():
            setattr(data, name, value)
        return data

    data = make_dicom(frames, position=None, spacing=None, sop_class=ENHANCED_MR, modality="MR", **options)
    shared = item(
        PixelMeasuresSequence=[item(PixelSpacing=list(spacing), SliceThickness=3.0)],
        PlaneOrientationSequence=[item(ImageOrientationPatient=list(orientation))],
    )
    own = []
    for index, position in enumerate(positions):
        frame = item(
            PlanePositionSequence=[item(ImagePositionPatient=list(position))],
            FrameContentSequence=[item(DimensionIndexValues=[1, index + 1])],
        )
        if rescales is not None:
            slope, intercept = rescales[index]
            values = item(RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="US")
            frame.PixelValueTransformationSequence = [values]
        own.append(frame)
    data.SharedFunctionalGroupsSequence, data.PerFrameFunctionalGroupsSequence = [shared], own
    return data
