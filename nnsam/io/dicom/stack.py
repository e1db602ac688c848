"""The one check over everything that is to become one image: do these frames make a volume, and which one?"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nnsam.errors import InputError
from nnsam.io.dicom.headers import Frame, Header, normal
from nnsam.io.image import Geometry

# Steps may differ by this share of a step, beyond what rounding of the stored decimals explains.
_UNEVEN = 0.01
# Directions are stored with about six decimals; slices of one stack differ by less than this.
_SAME_DIRECTION = 1e-3
# A series may hold that many images of another kind, such as a scout, beside a stack that is at least twice as long.
_FEW = 3


@dataclass(frozen=True)
class Slice:
    """A frame and the file that holds it."""

    header: Header
    frame: Frame

    @property
    def name(self) -> str:
        """For messages."""
        many = len(self.header.frames) > 1
        return f"{self.header.path.name}{f', frame {self.frame.number}' if many else ''}"


@dataclass(frozen=True)
class Stack:
    """Slices in the order of their positions, and their grid.

    Attributes:
        slices: at least one.
        geometry: of the volume; None where the place in the patient is unknown.
        spacing: (z, y, x) in mm, of one slice (y, x); None where unknown.
        notices: what the user has to know.
    """

    slices: tuple[Slice, ...]
    geometry: Geometry | None
    spacing: tuple[float, ...] | None
    notices: tuple[str, ...]


def make_stack(source: Path, headers: Sequence[Header]) -> Stack:
    """Sorts the frames of files into a volume.

    Args:
        source: for messages, a folder or a file.
        headers: of files that should be one image.

    Raises:
        InputError: they are not: several patients or studies, several images at one place, no positions, other sizes.
    """
    slices = [Slice(header, frame) for header in headers for frame in header.frames]
    for what, values in (
        ("patients", {header.patient for header in headers}),
        ("studies", {header.study for header in headers}),
        ("frames of reference", {header.frame_of_reference for header in headers}),
        ("series", {header.series for header in headers}),
    ):
        if len(values) > 1:
            listed = ", ".join(sorted(value or "(not stated)" for value in values)[:4])
            raise InputError(
                f"{source} holds images of {len(values)} {what} ({listed}), which make no volume; give each a "
                "folder of its own."
            )
    if len(slices) == 1:
        return _single(slices[0])
    notices: list[str] = []
    unplaced = [one for one in slices if not one.frame.is_placed]
    if unplaced:
        if len(headers) == 1 and len(unplaced) == len(slices):
            return _frames_without_places(headers[0], slices)
        raise InputError(
            f"{source}: {len(unplaced)} of {len(slices)} images say nothing of their position or orientation "
            f"({_some(unplaced)}), so that their order is unknown; segment them one by one, or export the series again."
        )
    slices, left_out = _one_kind(source, slices)
    notices += left_out
    if len(slices) == 1:
        single = _single(slices[0])
        return Stack(single.slices, single.geometry, single.spacing, (*notices, *single.notices))
    orientation = _orthonormal(np.array([one.frame.orientation for one in slices], float).mean(axis=0))
    positions = np.array([one.frame.position for one in slices])
    along = positions @ orientation[2]
    order = sorted(range(len(slices)), key=lambda index: (along[index], slices[index].frame.number))
    slices, positions, along = [slices[index] for index in order], positions[order], along[order]
    rounding = 2 * max(one.frame.rounding for one in slices) * float(np.abs(orientation[2]).sum())
    slices, positions, along, doubled = _without_copies(source, slices, positions, along)
    notices += doubled
    step, uneven = _step(source, along, rounding)
    notices += uneven
    notices += _shear(source, slices, positions, orientation, along)
    for one in slices:
        notices += [notice for notice in one.frame.notices if notice not in notices]
    spacing = slices[0].frame.spacing
    if spacing is None:
        raise InputError(
            f"{source} states no pixel spacing, so that its place in the patient is unknown; export it again."
        )
    grid = Geometry((spacing[1], spacing[0], step), tuple(positions[0].tolist()), tuple(orientation.T.ravel().tolist()))
    return Stack(tuple(slices), grid, (step, *spacing), tuple(notices))


def _some(slices: Sequence[Slice], limit: int = 4) -> str:
    return ", ".join(one.name for one in slices[:limit]) + (", ..." if len(slices) > limit else "")


def _orthonormal(cosines: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Directions of a row, of a column and of the slices, (3, 3), perpendicular and of length 1."""
    row, column = np.array(cosines[:3], float), np.array(cosines[3:], float)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if min(lengths) < 1e-6 or abs(row @ column) > 0.05 * lengths[0] * lengths[1]:
        raise ValueError(
            f"Image Orientation (Patient) is {tuple(map(float, cosines))}; expected two perpendicular directions"
        )
    row = row / lengths[0]
    column = column - (column @ row) * row
    column /= np.linalg.norm(column)
    return np.stack([row, column, np.cross(row, column)])


def _single(one: Slice) -> Stack:
    frame = one.frame
    notices = list(frame.notices)
    if frame.spacing is None:
        notices.append(
            f"{one.header.path} states no pixel size; sizes in mm are unknown, and a mask file whose format needs "
            "a size says 1 mm."
        )
    geometry = None
    if frame.is_placed and frame.spacing is not None:
        assert frame.position is not None
        assert frame.orientation is not None
        y, x = frame.spacing
        directions = _orthonormal(frame.orientation).T.ravel()
        geometry = Geometry((x, y, 1.0), frame.position, tuple(directions.tolist()))
    return Stack((one,), geometry, frame.spacing, tuple(notices))


def _frames_without_places(header: Header, slices: list[Slice]) -> Stack:
    notice = (
        f"{header.path} has {len(slices)} frames without positions, as films have; they are taken as a stack in the "
        "order of the file, their distance is unknown, and a mask file whose format needs a size says 1 mm."
    )
    return Stack(tuple(slices), None, None, (notice,))


def _one_kind(source: Path, slices: list[Slice]) -> tuple[list[Slice], list[str]]:
    """Parts a stack from a few images of another orientation, size or pixel size, such as a scout."""
    groups: list[list[Slice]] = []
    for one in slices:
        for group in groups:
            if _alike(group[0], one):
                group.append(one)
                break
        else:
            groups.append([one])
    if len(groups) == 1:
        return slices, []
    groups.sort(key=len, reverse=True)
    others = [one for group in groups[1:] for one in group]
    described = "; ".join(f"{len(group)} with {_describe(group[0])} ({_some(group)})" for group in groups[:5])
    if len(others) > _FEW or 2 * len(others) > len(groups[0]):
        raise InputError(
            f"{source} holds images that make no single volume: {described}; give each kind a folder of its own."
        )
    return groups[0], [
        f"{source}: {_some(others)} {'has' if len(others) == 1 else 'have'} another orientation, size or pixel size "
        f"than the other {len(groups[0])} images (a scout?) and {'is' if len(others) == 1 else 'are'} left out."
    ]


def _alike(one: Slice, other: Slice) -> bool:
    first, second = one.frame, other.frame
    assert first.orientation is not None
    assert second.orientation is not None
    same_spacing = (
        first.spacing == second.spacing
        if first.spacing is None or second.spacing is None
        else np.allclose(first.spacing, second.spacing, rtol=1e-3, atol=0)
    )
    return (
        one.header.size == other.header.size
        and one.header.samples == other.header.samples
        and same_spacing
        and max(abs(a - b) for a, b in zip(first.orientation, second.orientation, strict=True)) <= _SAME_DIRECTION
    )


def _describe(one: Slice) -> str:
    assert one.frame.orientation is not None
    along = np.abs(normal(one.frame.orientation))
    plane = ("sagittal", "coronal", "axial")[int(np.argmax(along))] if along.max() > 0.9 else "oblique"
    rows, columns = one.header.size
    size = "" if one.frame.spacing is None else " of {:g} x {:g} mm".format(*one.frame.spacing)
    return f"{rows} x {columns} {plane} pixels{size}"


def _without_copies(
    source: Path, slices: list[Slice], positions: NDArray, along: NDArray
) -> tuple[list[Slice], NDArray, NDArray, list[str]]:
    """Drops copies of one image; other images at one place are refused."""
    steps = np.diff(along)
    apart = steps[steps > 1e-4]
    limit = 0.05 * float(np.median(apart)) if apart.size else math.inf
    places: list[list[int]] = [[0]]
    for index in range(1, len(slices)):
        if along[index] - along[places[-1][0]] <= limit:
            places[-1].append(index)
        else:
            places.append([index])
    kept, copies = [], []
    for place in places:
        first = slices[place[0]]
        for index in place[1:]:
            if not _is_copy(first, slices[index]):
                raise InputError(_doubled(source, slices, places))
            copies.append(slices[index])
        kept.append(place[0])
    notices = [
        f"{source}: {_some(copies)} {'is a copy' if len(copies) == 1 else 'are copies'} of other files and left out."
    ]
    return [slices[index] for index in kept], positions[kept], along[kept], notices if copies else []


def _is_copy(one: Slice, other: Slice) -> bool:
    if not one.header.instance or one.header.instance != other.header.instance or one.header.path == other.header.path:
        return False
    return one.header.path.read_bytes() == other.header.path.read_bytes()


def _doubled(source: Path, slices: list[Slice], places: list[list[int]]) -> str:
    counts = Counter(len(place) for place in places if len(place) > 1)
    many = sum(counts.values())
    each = counts.most_common(1)[0][0]
    where = f"{each} images at each of {many} positions" if len(counts) == 1 else f"several images at {many} positions"
    values: dict[str, set[str]] = defaultdict(set)
    for one in slices:
        for name, value in one.frame.about.items():
            values[name].add(value)
    # A tag that has one value for each of the images at a place tells them apart.
    telling = [name for name, found in values.items() if 1 < len(found) <= max(2 * each, 8)]
    by = "; ".join(f"{name} {', '.join(sorted(values[name])[:8])}" for name in telling[:3])
    named = _some([slices[index] for place in places if len(place) > 1 for index in place])
    return (
        f"{source} holds {where}, such as {named}{f' (they differ in {by})' if by else ''}, so it is no single volume; "
        "give each phase, echo or acquisition a folder of its own."
    )


def _step(source: Path, along: NDArray, rounding: float) -> tuple[float, list[str]]:
    """Distance between slices in mm, and where it is not the same everywhere."""
    steps = np.diff(along)
    usual = float(np.median(steps))
    uneven = np.abs(steps - usual) > rounding + _UNEVEN * usual
    if not uneven.any():
        return float((along[-1] - along[0]) / len(steps)), []
    places = np.flatnonzero(uneven)
    gaps = [index for index in places if steps[index] > 1.5 * usual]
    words = f"the mask file has one spacing for all slices, {usual:g} mm"
    if len(gaps) == len(places):
        listed = ", ".join(
            f"between {along[index] - along[0]:g} and {along[index + 1] - along[0]:g} mm"
            + (f" ({round(steps[index] / usual) - 1} missing)" if _whole(steps[index] / usual) else "")
            for index in gaps[:5]
        )
        more = f" and {len(gaps) - 5} more places" if len(gaps) > 5 else ""
        return usual, [
            f"{source}: slices are missing {listed}{more} from the first slice; {words}, so that what lies behind a "
            "gap is stored too near to the first slice."
        ]
    return usual, [
        f"{source}: slices are not evenly spaced, {steps.min():g} to {steps.max():g} mm, first between "
        f"{along[places[0]] - along[0]:g} and {along[places[0] + 1] - along[0]:g} mm from the first slice; {words}."
    ]


def _whole(number: float) -> bool:
    return abs(number - round(number)) < 0.1


def _shear(source: Path, slices: list[Slice], positions: NDArray, orientation: NDArray, along: NDArray) -> list[str]:
    """Tells how far slices are from lying straight behind the first one, as with a tilted gantry."""
    offsets = (positions - positions[0]) @ orientation[:2].T  # along a row and a column, in mm
    distances = np.linalg.norm(offsets, axis=1)
    spacing = slices[0].frame.spacing or (1.0, 1.0)
    rounding = max(one.frame.rounding for one in slices)
    # Directions rounded to six decimals move the far end of a long stack by micrometres.
    allowed = 4 * rounding + 0.1 * min(spacing) + 1e-4 * abs(float(along[-1] - along[0]))
    worst = int(np.argmax(distances))
    if distances[worst] <= allowed:
        return []
    angle = math.degrees(math.atan2(float(distances[worst]), abs(float(along[worst] - along[0])) or 1e-9))
    return [
        f"{source}: slices do not lie straight behind each other, as with a tilted gantry: {slices[worst].name} is "
        f"off by {distances[worst]:.1f} mm ({angle:.0f} degrees); pixels are read as they are, and a mask file of a "
        "format without shear is off by as much."
    ]


def headers_by_series(headers: Iterable[Header]) -> dict[str, list[Header]]:
    """Series identifier -> its files."""
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        groups[header.series].append(header)
    return dict(groups)
