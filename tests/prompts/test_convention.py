import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nnsam.geometry.boxes import box_of_mask, rasterize
from nnsam.prompts.convention import from_challenge, to_challenge


def test_the_last_pixel_belongs_to_the_box_and_x_comes_first():
    mask = np.zeros((5, 7), bool)
    mask[1:3, 2:6] = True
    rows, columns = np.nonzero(mask)
    challenge = [columns.min(), rows.min(), columns.max(), rows.max()]  # as the challenge's own code makes them
    assert from_challenge(challenge).tolist() == box_of_mask(mask).tolist()


def test_volumes_have_z_last():
    assert from_challenge([4, 3, 2, 9, 8, 7]).tolist() == [2, 3, 4, 8, 9, 10]


@given(st.integers(2, 3), st.data())
def test_there_and_back(dimensions, data):
    box = np.array(data.draw(st.lists(st.integers(0, 99), min_size=2 * dimensions, max_size=2 * dimensions)))
    assert to_challenge(from_challenge(box)).tolist() == box.tolist()
    assert from_challenge(to_challenge(box)).tolist() == box.tolist()


def test_the_data_sets_boxes_are_those_of_their_masks(shared):
    path = sorted((shared / "data" / "cxr_shenzhen" / "test").glob("*.npz"))[0]
    with np.load(path, allow_pickle=False) as case:
        for index, box in enumerate(from_challenge(case["boxes"])):
            mask = case["inst"] == index + 1
            assert box_of_mask(mask).tolist() == box.tolist()
            assert (rasterize(box, mask.shape) | ~mask).all()
