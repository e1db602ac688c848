"""Which files make a volume, in which order and place; positions against closed forms and ITK."""

import warnings

import numpy as np
import pytest
from helpers.dicom_files import AXIAL, make_enhanced, write_dicom, write_slices
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnsam.errors import InputError, NnsamWarning
from nnsam.io import find_images, read_image

pytest.importorskip("pydicom")
VOLUME = (np.arange(6)[:, None, None] * 1000 + np.arange(5)[:, None] * 20 + np.arange(7)).astype(np.int16)


def read_silently(folder, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("error", NnsamWarning)
        return read_image(folder, **options)


def notices(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NnsamWarning)
        return read_image(folder).notices


def rotation(angles):
    """A rotation matrix, from three angles."""
    (a, b, c), (d, e, f) = np.cos(angles), np.sin(angles)
    return (
        np.array([[a, -d, 0], [d, a, 0], [0, 0, 1]])
        @ np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
        @ np.array([[1, 0, 0], [0, c, -f], [0, f, c]])
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    step=st.floats(0.4, 9),
    spacing=st.tuples(st.floats(0.1, 3), st.floats(0.1, 3)),
    order=st.permutations(range(6)),
    decimals=st.integers(2, 6),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
)
def test_any_even_stack_is_read_in_its_order_and_place(
    tmp_path_factory, angles, step, spacing, order, decimals, origin
):
    folder = tmp_path_factory.mktemp("stack")
    axes = rotation(angles)
    origin = np.array(origin)
    positions = [np.round(origin + index * step * axes[:, 2], decimals).tolist() for index in range(6)]
    orientation = np.round([*axes[:, 0], *axes[:, 1]], 8).tolist()
    spacing = tuple(round(value, 4) for value in spacing)
    write_slices(
        folder,
        VOLUME[order],
        positions=[positions[index] for index in order],
        orientation=orientation,
        spacing=spacing,
    )
    image = read_silently(folder)
    np.testing.assert_array_equal(image.pixels, VOLUME)
    assert image.spacing == pytest.approx((step, *spacing), abs=2.1 * 10**-decimals)
    ends = image.geometry.affine @ [[0, 0], [0, 0], [0, 5], [1, 1]]
    np.testing.assert_allclose(ends[:3, 1], positions[5], atol=4 * 10.0**-decimals + 1e-5)
    np.testing.assert_allclose(np.reshape(image.geometry.direction, (3, 3)), axes, atol=1e-6)
    names = [path.name for path in image.dicom.files]
    assert names == [f"IM{order.index(index):04d}.dcm" for index in range(6)]


def test_geometry_is_what_itk_finds(tmp_path):
    import SimpleITK as sitk

    axes = rotation((0.3, -0.2, 0.5))
    positions = [(np.array([-20.5, 13.25, 7]) + 3.0 * index * axes[:, 2]).round(5).tolist() for index in range(6)]
    orientation = [*axes[:, 0].round(8), *axes[:, 1].round(8)]
    write_slices(tmp_path, VOLUME, positions=positions, orientation=orientation)
    image = read_silently(tmp_path)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    expected = reader.Execute()
    np.testing.assert_array_equal(image.pixels, sitk.GetArrayFromImage(expected))
    for found, wanted in (
        (image.geometry.spacing, expected.GetSpacing()),
        (image.geometry.origin, expected.GetOrigin()),
        (image.geometry.direction, expected.GetDirection()),
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize(("step", "decimals"), [(0.7, 4), (0.703125, 2), (0.703125, 1), (1.25, 1), (2.0, 0)])
def test_rounded_positions_are_even(tmp_path, step, decimals):
    positions = [(0, 0, round(-120.3 + step * index, decimals)) for index in range(40)]
    write_slices(tmp_path, np.zeros((40, 4, 4), np.int16), positions=positions)
    assert read_silently(tmp_path).spacing[0] == pytest.approx(step, abs=10.0**-decimals / 39 + 1e-9)


@pytest.mark.parametrize(
    ("lost", "where"), [({3}, "between 5 and 10 mm (1 missing)"), ({1, 2, 5}, "between 0 and 7.5 mm")]
)
def test_gaps_are_told_with_their_place(tmp_path, lost, where):
    paths = write_slices(tmp_path, np.zeros((9, 4, 4), np.int16))
    for index in lost:
        paths[index].unlink()
    (notice,) = notices(tmp_path)
    assert where in notice
    assert "one spacing for all slices, 2.5 mm" in notice


def test_uneven_slices_are_told(tmp_path):
    positions = [(0, 0, z) for z in (0, 2, 4, 6.5, 8.5, 10.5)]
    write_slices(tmp_path, VOLUME, positions=positions)
    assert "not evenly spaced, 2 to 2.5 mm, first between 4 and 6.5 mm" in notices(tmp_path)[0]


@pytest.mark.parametrize("degrees", [-30, -2, 5, 20])
def test_shear_is_told_in_mm(tmp_path, degrees):
    angle = np.radians(degrees)
    orientation = (1, 0, 0, 0, np.cos(angle), -np.sin(angle))
    write_slices(tmp_path, VOLUME, step=5, orientation=orientation)
    (notice,) = notices(tmp_path)
    assert f"off by {25 * abs(np.sin(angle)):.1f} mm ({abs(degrees)} degrees)" in notice


def test_several_images_at_one_place_are_refused_with_what_tells_them_apart(tmp_path):
    for phase in (1, 2):
        names = [f"{phase}_{index}" for index in range(6)]
        write_slices(tmp_path, VOLUME, names=names, TemporalPositionIdentifier=phase, AcquisitionNumber=phase)
    with pytest.raises(InputError, match=r"2 images at each of 6 positions.*TemporalPositionIdentifier 1, 2"):
        read_image(tmp_path)


def test_one_doubled_place_is_refused(tmp_path):
    paths = write_slices(tmp_path, VOLUME)
    write_dicom(tmp_path / "more.dcm", VOLUME[2] + 1, position=(0, 0, 5.0), number=99)
    with pytest.raises(InputError, match=r"2 images at each of 1 positions.*IM0002.dcm, more.dcm"):
        read_image(tmp_path)
    (tmp_path / "more.dcm").write_bytes(paths[2].read_bytes())  # a copy is no other image
    assert "more.dcm is a copy" in notices(tmp_path)[0]


def test_a_scout_is_left_out_and_named_and_halves_are_refused(tmp_path):
    write_slices(tmp_path, VOLUME)
    coronal = (1, 0, 0, 0, 0, -1)
    write_dicom(tmp_path / "SCOUT.dcm", VOLUME[0], orientation=coronal, number=99)
    assert "SCOUT.dcm has another orientation" in notices(tmp_path)[0]
    with pytest.warns(NnsamWarning, match="SCOUT"):
        np.testing.assert_array_equal(read_image(tmp_path).pixels, VOLUME)
    write_slices(tmp_path, VOLUME[:4], names=list("abcd"), orientation=coronal)
    with pytest.raises(InputError, match=r"make no single volume: 6 with 5 x 7 axial.*5 with 5 x 7 coronal"):
        read_image(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("patient", "P2", "2 patients"),
        ("study", "1.9.9", "2 studies"),
        ("frame_of_reference", "1.8", "2 frames of ref"),
    ],
)
def test_slices_of_different_people_or_places_are_no_volume(tmp_path, name, value, what):
    write_slices(tmp_path, VOLUME)
    write_dicom(tmp_path / "other.dcm", VOLUME[0], position=(0, 0, 15.0), **{name: value})
    with pytest.raises(InputError, match=what):
        read_image(tmp_path)


def test_slices_without_a_place_are_no_volume(tmp_path):
    paths = write_slices(tmp_path, VOLUME)
    write_dicom(paths[3], VOLUME[3], position=None)
    with pytest.raises(InputError, match=r"DICOM series|position"):
        read_image(tmp_path)
    write_slices(tmp_path / "all", VOLUME)
    for index, path in enumerate(sorted((tmp_path / "all").iterdir())):
        write_dicom(path, VOLUME[index], position=None)
    with pytest.raises(InputError, match="6 CT images say nothing of their position"):
        find_images(tmp_path / "all")


def test_frames_of_an_enhanced_file_lie_by_position(tmp_path):
    frames = np.arange(5)[:, None, None] * 1000 + np.zeros((5, 4, 6), np.uint16)
    frames = frames.astype(np.uint16)
    places = [10, 20, 15, 30, 25]
    data = make_enhanced(frames, [(0, 0, place) for place in places])
    data.save_as(tmp_path / "enhanced.dcm", enforce_file_format=True)
    image = read_silently(tmp_path / "enhanced.dcm")
    assert image.pixels[:, 0, 0].tolist() == [0, 2000, 1000, 4000, 3000]
    assert image.spacing == (5, 0.7, 0.9)
    assert image.geometry.origin == (0, 0, 10)
    assert image.dicom.frames == (1, 3, 2, 5, 4)
    data = make_enhanced(frames[:4], [(0, 0, place) for place in (10, 20, 10, 20)])
    data.save_as(tmp_path / "twice.dcm", enforce_file_format=True)
    with pytest.raises(InputError, match=r"2 images at each of 2 positions, such as twice.dcm, frame 1"):
        read_image(tmp_path / "twice.dcm")


def test_doses_lie_by_their_offsets(tmp_path):
    grid = VOLUME.astype(np.uint16)
    write_dicom(tmp_path / "dose.dcm", grid, position=(5, 6, 7), GridFrameOffsetVector=[0, 3, 6, 9, 12, 15])
    image = read_silently(tmp_path / "dose.dcm")
    assert image.spacing == (3, 0.75, 0.5)
    assert image.geometry.origin == (5, 6, 7)
    np.testing.assert_array_equal(image.pixels, grid)


def test_a_single_slice_is_a_picture_in_its_place(tmp_path):
    write_dicom(tmp_path / "a", VOLUME[0], position=(1, 2, 3), orientation=AXIAL)
    image = read_silently(tmp_path / "a")
    assert (image.dimensions, image.spacing, image.geometry.origin) == (2, (0.75, 0.5), (1, 2, 3))
    assert image.file_shape == (1, 5, 7)
