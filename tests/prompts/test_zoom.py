import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nnsam.geometry.boxes import sides
from nnsam.prompts.zoom import CONTEXT, MAX_SCALE, zoom_region, zoom_scale

PATCH = (224, 288)


@given(st.integers(0, 4000), st.integers(0, 4000), st.integers(1, 4000), st.integers(1, 4000))
def test_the_region_is_centred_has_the_patchs_shape_and_holds_the_box_with_its_context(y, x, height, width):
    box = np.array([y, x, y + height, x + width])
    region = zoom_region(box, PATCH)
    scale = zoom_scale(box, PATCH)
    np.testing.assert_allclose(sides(region) * scale, PATCH)
    np.testing.assert_allclose(region[:2] + region[2:], box[:2] + box[2:])
    shown = sides(region) / sides(box)
    assert (shown >= CONTEXT - 1e-9).all()
    assert scale == MAX_SCALE or np.isclose(shown.min(), CONTEXT)


def test_small_objects_are_not_magnified_without_end():
    assert zoom_scale([0, 0, 2, 2], PATCH) == MAX_SCALE
