"""DICOM SEG: what is written is read by highdicom and pydicom, and what others write is read."""

import numpy as np
import pytest
from helpers.dicom_files import CR, ULTRASOUND, ULTRASOUND_FILM, make_dicom, make_enhanced, write_dicom, write_slices
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnsam.errors import InputError
from nnsam.io import Segment, read_image, read_labels, write_labels
from nnsam.io.dicom.segmentation import on_grid
from nnsam.metrics.evaluation import evaluate

pytestmark = pytest.mark.filterwarnings("ignore::nnsam.errors.NnsamWarning", "ignore:.*PersonName.*:UserWarning")
highdicom = pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")

VOLUME = np.random.default_rng(0).integers(0, 1000, (6, 20, 24)).astype(np.int16)
LABELS = np.zeros(VOLUME.shape, np.uint8)
LABELS[2:4, 3:8, 4:9] = 5
LABELS[3, 10:12, 10:13] = 9


def by_instance(path, sources, **options):
    """What highdicom finds on the planes of source files, in the order of these: (planes, H, W) numbers of segments."""
    seg = highdicom.seg.segread(path)
    uids = [pydicom.dcmread(source, stop_before_pixels=True).SOPInstanceUID for source in sources]
    return seg.get_pixels_by_source_instance(uids, combine_segments=True, **options)


def test_highdicom_and_pydicom_find_each_label_on_the_slice_that_it_was_drawn_on(tmp_path):
    names = [f"{9 - index}.dcm" for index in range(6)]  # against the order of positions
    sources = write_slices(tmp_path / "s", VOLUME, names=names)
    image = read_image(tmp_path / "s")
    segments = [Segment(5, "left ventricle"), Segment(9, "scar")]
    write_labels(tmp_path / "m.dcm", image.with_pixels(LABELS), segments=segments)
    found = by_instance(tmp_path / "m.dcm", sources)
    np.testing.assert_array_equal(found, np.select([LABELS == 5, LABELS == 9], [1, 2]))
    seg, source = highdicom.seg.segread(tmp_path / "m.dcm"), pydicom.dcmread(sources[0])
    for name in ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "Rows", "Columns"):
        assert seg[name].value == source[name].value
    assert seg.Modality == "SEG"
    assert seg.SeriesInstanceUID != source.SeriesInstanceUID
    assert [one.SegmentLabel for one in seg.SegmentSequence] == ["left ventricle", "scar"]
    assert {one.SegmentAlgorithmType for one in seg.SegmentSequence} == {"AUTOMATIC"}
    # pydicom alone: the frame of segment 1 at the position of the fourth slice
    raw = pydicom.dcmread(tmp_path / "m.dcm")
    pixels = raw.pixel_array
    frames = [
        index
        for index, frame in enumerate(raw.PerFrameFunctionalGroupsSequence)
        if frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == 1
        and frame.PlanePositionSequence[0].ImagePositionPatient[2] == 7.5
    ]
    assert len(frames) == 1
    np.testing.assert_array_equal(pixels[frames[0]], LABELS[3] == 5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    depth=st.integers(1, 6),
    step=st.floats(0.3, 7).map(lambda value: round(value, 2)),
    tilt=st.sampled_from([0.0, 0.0, 0.4]),
    reverse=st.booleans(),
    orientation=st.sampled_from([(1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), (1, 0, 0, 0, 0, -1), (0.8, 0.6, 0, 0, 0, 1)]),
    values=st.lists(st.integers(1, 65535), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 99),
)
def test_label_maps_come_back(tmp_path_factory, depth, step, tilt, reverse, orientation, values, seed):
    folder = tmp_path_factory.mktemp("seg")
    rng = np.random.default_rng(seed)
    normal = np.cross(orientation[:3], orientation[3:])
    along = normal + tilt * np.array(orientation[3:])
    positions = [tuple(np.round(index * step * along, 4)) for index in range(depth)]
    if reverse:
        positions.reverse()
    volume = rng.integers(0, 100, (depth, 7, 9)).astype(np.int16)
    write_slices(folder / "s", volume, positions=positions, orientation=orientation)
    image = read_image(folder / "s")
    labels = rng.choice([0, *values], image.shape).astype(np.uint16)
    write_labels(folder / "m.dcm", image.with_pixels(labels))
    found = read_labels(folder / "m.dcm")
    np.testing.assert_array_equal(found.pixels, labels)
    if depth > 1:
        assert not found.geometry.differences(image.geometry)
    write_labels(folder / "m.nii.gz", image.with_pixels(labels))
    assert all(row.scores["DSC"] == 1 for row in evaluate(folder / "m.dcm", folder / "m.nii.gz").rows)


def test_frames_of_one_file_are_referred_to_by_their_numbers(tmp_path):
    positions = [(0, 0, z) for z in (0, 5, 2.5, 10, 7.5, 12.5)]
    make_enhanced(VOLUME.astype(np.uint16), positions).save_as(tmp_path / "e.dcm", enforce_file_format=True)
    image = read_image(tmp_path / "e.dcm")
    write_labels(tmp_path / "m.dcm", image.with_pixels(LABELS))
    np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm").pixels, LABELS)
    seg = highdicom.seg.segread(tmp_path / "m.dcm")
    uid = pydicom.dcmread(tmp_path / "e.dcm").SOPInstanceUID
    found = seg.get_pixels_by_source_frame(uid, list(range(1, 7)), combine_segments=True)
    order = np.argsort([z for _, _, z in positions])
    np.testing.assert_array_equal(found[order], np.select([LABELS == 5, LABELS == 9], [1, 2]))


@pytest.mark.parametrize(("sop_class", "modality", "colour"), [(CR, "CR", False), (ULTRASOUND, "US", True)])
def test_pictures_without_a_place_are_referred_to(tmp_path, sop_class, modality, colour):
    pixels = np.random.default_rng(0).integers(0, 255, (20, 24, 3) if colour else (20, 24)).astype(np.uint8)
    source = write_dicom(
        tmp_path / "a.dcm",
        pixels,
        colour=colour,
        position=None,
        sop_class=sop_class,
        modality=modality,
        frame_of_reference=None,
    )
    image = read_image(source)
    write_labels(tmp_path / "m.dcm", image.with_pixels(LABELS[3]))
    np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm").pixels, LABELS[3])
    np.testing.assert_array_equal(
        by_instance(tmp_path / "m.dcm", [source], ignore_spatial_locations=True)[0],
        np.select([LABELS[3] == 5, LABELS[3] == 9], [1, 2]),
    )


def test_no_label_at_all_is_an_empty_segment(tmp_path):
    write_slices(tmp_path / "s", VOLUME)
    image = read_image(tmp_path / "s")
    for segments in ((), (Segment(7, "lesion"),)):
        write_labels(tmp_path / "m.dcm", image.with_pixels(np.zeros_like(LABELS)), segments=segments)
        found = read_labels(tmp_path / "m.dcm")
        assert found.shape == LABELS.shape
        assert not found.pixels.any()


def test_objects_may_overlap_and_one_label_map_cannot_hold_them(tmp_path):
    sources = write_slices(tmp_path / "s", VOLUME)
    image = read_image(tmp_path / "s")
    large, small = LABELS > 0, LABELS == 5
    segments = [Segment(1, "heart", large), Segment(2, "ventricle", small)]
    write_labels(tmp_path / "m.dcm", image.with_pixels(np.zeros_like(LABELS)), segments=segments)
    seg = highdicom.seg.segread(tmp_path / "m.dcm")
    uids = [pydicom.dcmread(source).SOPInstanceUID for source in sources]
    found = seg.get_pixels_by_source_instance(uids)
    np.testing.assert_array_equal(found[..., 0], large)
    np.testing.assert_array_equal(found[..., 1], small)
    with pytest.raises(InputError, match=r"overlapping segments \(1 and 2 share 50 pixels\)"):
        read_labels(tmp_path / "m.dcm")


def foreign(tmp_path, labels, **options):
    """A SEG as other programs write it: numbered segments, empty planes left out."""
    sources = write_slices(tmp_path / "s", VOLUME)
    data = [pydicom.dcmread(source) for source in sources]
    for one in data:
        one.SliceThickness = 2.5
    code = pydicom.sr.coding.Code("85756007", "SCT", "Tissue")
    numbers = [int(value) for value in np.unique(labels) if value]
    described = [highdicom.seg.SegmentDescription(n, f"S{n}", code, code, "MANUAL") for n in numbers]
    options = {"segmentation_type": "BINARY", **options}
    seg = highdicom.seg.Segmentation(
        data,
        labels,
        segment_descriptions=described,
        series_instance_uid=highdicom.UID(),
        series_number=2,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="Other",
        manufacturer_model_name="Other",
        software_versions="1",
        device_serial_number="1",
        **options,
    )
    seg.save_as(tmp_path / "m.dcm")
    return read_image(tmp_path / "s")


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_planes_that_others_leave_out_are_background_on_the_images_grid(tmp_path, kind):
    labels = np.select([LABELS == 5, LABELS == 9], [1, 2]).astype(np.uint8)
    labels[2], labels[5] = 0, 2
    labels[1] = labels[3]  # planes 1, 3 and 5
    image = foreign(tmp_path, labels, segmentation_type=kind)
    found = read_labels(tmp_path / "m.dcm")
    np.testing.assert_array_equal(found.pixels, labels[1:])
    whole = on_grid(found, image)
    np.testing.assert_array_equal(whole.pixels, labels)
    assert whole.geometry == image.geometry
    write_labels(tmp_path / "r.nii.gz", image.with_pixels(labels))
    for pair in (("m.dcm", "r.nii.gz"), ("r.nii.gz", "m.dcm")):
        rows = evaluate(*(tmp_path / name for name in pair)).rows
        assert [row.scores["DSC"] for row in rows] == [1, 1]


def test_one_plane_alone_finds_its_place(tmp_path):
    labels = np.zeros_like(LABELS)
    labels[4, 3:6, 7:9] = 1
    image = foreign(tmp_path, labels)
    found = read_labels(tmp_path / "m.dcm")
    assert found.shape == (20, 24)
    np.testing.assert_array_equal(on_grid(found, image).pixels, labels)


def test_another_grid_stays_another(tmp_path):
    labels = (LABELS > 0).astype(np.uint8)
    foreign(tmp_path, labels)
    found = read_labels(tmp_path / "m.dcm")
    write_slices(tmp_path / "o", VOLUME, positions=[(3, 0, 2.5 * index) for index in range(6)])
    other = read_image(tmp_path / "o")
    assert on_grid(found, other) is found
    write_labels(tmp_path / "r.nii.gz", other.with_pixels(labels))
    with pytest.raises(InputError, match="differ in shape"):
        evaluate(tmp_path / "m.dcm", tmp_path / "r.nii.gz")


def test_what_is_no_label_map_is_named(tmp_path):
    write_slices(tmp_path / "s", VOLUME)
    with pytest.raises(InputError, match=r"is DICOM, but no segmentation \(SEG\)"):
        read_labels(tmp_path / "s" / "IM0000.dcm")
    image = foreign(tmp_path, (LABELS > 0).astype(np.float32), segmentation_type="FRACTIONAL")
    with pytest.raises(InputError, match="fractional segmentation; expected a binary one"):
        read_labels(tmp_path / "m.dcm")
    with pytest.raises(InputError, match="no image that can be segmented"):
        read_image(tmp_path / "m.dcm")
    write_labels(tmp_path / "n.nii.gz", image.with_pixels(LABELS))
    volume = read_image(tmp_path / "n.nii.gz")
    with pytest.raises(InputError, match=r"would be a DICOM SEG, which refers to DICOM images, but .* is none"):
        write_labels(tmp_path / "x.dcm", volume.with_pixels(LABELS))
    assert not (tmp_path / "x.dcm").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: delattr(data, "StudyInstanceUID"), "lacks StudyInstanceUID, to which"),
        (lambda data: delattr(data, "FrameOfReferenceUID"), "cannot be referred to by a DICOM SEG"),
    ],
)
def test_sources_that_cannot_be_referred_to_are_named(tmp_path, change, words):
    data = make_dicom(VOLUME[0])
    change(data)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    image = read_image(tmp_path / "a.dcm")
    with pytest.raises(InputError, match=rf"{words}.*write \.nii\.gz"):
        write_labels(tmp_path / "m.dcm", image.with_pixels(LABELS[3]))
    assert not (tmp_path / "m.dcm").exists()


def test_films_without_frame_of_reference_are_named(tmp_path):
    options = {"position": None, "spacing": None, "sop_class": ULTRASOUND_FILM, "modality": "US"}
    image = read_image(write_dicom(tmp_path / "a.dcm", VOLUME.astype(np.uint16), frame_of_reference=None, **options))
    with pytest.raises(InputError, match=r"cannot be referred to .* write \.nii\.gz"):
        write_labels(tmp_path / "m.dcm", image.with_pixels(LABELS))


def test_absent_patient_tags_are_empty(tmp_path):
    data = make_dicom(VOLUME[0])
    for name in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
    ):
        delattr(data, name)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    write_labels(tmp_path / "m.dcm", read_image(tmp_path / "a.dcm").with_pixels(LABELS[3]))
    assert pydicom.dcmread(tmp_path / "m.dcm").PatientID in ("", None)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_wrong_patient_tags_are_taken_over_as_they_are(tmp_path):
    tags = {"PatientBirthDate": "19aa0101", "PatientSex": "X", "StudyDate": "2020.01.01", "PatientName": "Müller^Jörg"}
    data = make_dicom(VOLUME[0], SpecificCharacterSet="ISO_IR 100", **tags)
    data.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    write_labels(tmp_path / "m.dcm", read_image(tmp_path / "a.dcm").with_pixels(LABELS[3]))
    found = pydicom.dcmread(tmp_path / "m.dcm")
    assert {name: str(found[name].value) for name in tags} == tags
    np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm").pixels, LABELS[3])


def test_a_damaged_segmentation_is_one_sentence(tmp_path):
    foreign(tmp_path, (LABELS > 0).astype(np.uint8))
    whole = (tmp_path / "m.dcm").read_bytes()
    (tmp_path / "m.dcm").write_bytes(whole[:-200])
    with pytest.raises(InputError, match=r"m\.dcm is .*export it again|cannot be read"):
        read_labels(tmp_path / "m.dcm")
