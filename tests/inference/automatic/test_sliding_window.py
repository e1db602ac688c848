import numpy as np
import pytest
from helpers.nnunet_reference import TinyNetworks, dataset_with, manifest_of, nnunet_logits, plans_with
from hypothesis import given, settings
from hypothesis import strategies as st

from nnsam.errors import InputError
from nnsam.inference.automatic.sliding_window import patches_at_once, predict_logits

LABELS = {"background": 0, "a": 1, "b": 2}
DATASET = dataset_with(LABELS)


def manifest_with(patch, mirror_axes=None, spacing=None):
    plans = plans_with(spacing or (1.0,) * len(patch), patch)
    return plans, manifest_of(plans, DATASET, mirror_axes)


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@settings(max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(4, 40), st.integers(4, 40)),
    patch=st.sampled_from([(16, 16), (8, 24), (4, 8, 16), (8, 8, 8), (1, 16, 16)]),
    axes=st.sampled_from([None, (0,), (1,), (0, 1), (2,), (0, 2), (0, 1, 2)]),
    folds=st.integers(1, 5),
    channels=st.integers(1, 3),
    step=st.sampled_from([0.5, 0.3, 1.0]),
    scale=st.sampled_from([3.0, 1000.0]),
    seed=st.integers(0, 2**32),
)
def test_logits_are_nnunets_to_the_last_bit(shape, patch, axes, folds, channels, step, scale, seed):
    if axes is not None:
        axes = tuple(axis for axis in axes if axis < len(patch)) or None
    plans, manifest = manifest_with(patch, axes)
    networks = TinyNetworks(channels, 3, len(patch), folds, scale)
    data = noise((channels, *shape), seed)
    expected = nnunet_logits(data, networks, plans, DATASET, axes, step).numpy()
    found = predict_logits(data, networks.of(manifest), step=step)
    assert found.dtype == expected.dtype == np.float16
    assert np.array_equal(found, expected)


def test_mirroring_is_left_out_on_request_and_changes_something():
    plans, manifest = manifest_with((16, 16), (0, 1))
    networks, data = TinyNetworks(1, 3, 2), noise((1, 1, 30, 20))
    plain = predict_logits(data, networks.of(manifest), mirror=False)
    assert np.array_equal(plain, nnunet_logits(data, networks, plans, DATASET).numpy())
    assert not np.array_equal(plain, predict_logits(data, networks.of(manifest)))


def test_the_data_is_not_changed_and_may_be_a_view():
    _, manifest = manifest_with((16, 16))
    data = noise((1, 40, 3, 30)).transpose(0, 2, 1, 3)
    data.flags.writeable = False
    networks = TinyNetworks(1, 3, 2)
    assert np.array_equal(
        predict_logits(data, networks.of(manifest)), predict_logits(data.copy(), networks.of(manifest))
    )


def test_mirrored_versions_of_a_tile_come_in_one_batch_and_tiles_in_several():
    _, manifest = manifest_with((16, 16), (0, 1))
    networks, data = TinyNetworks(1, 3, 2), noise((1, 1, 40, 40))
    predict_logits(data, networks.of(manifest))
    assert networks.batches == [8] * 8
    networks.batches.clear()
    predict_logits(data, networks.of(manifest), mirror=False)
    assert networks.batches == [8, 8]


@pytest.mark.parametrize(
    ("patch", "variants", "expected"),
    [
        ((64, 64), 1, 8),
        ((64, 64), 4, 8),
        ((512, 512), 1, 4),
        ((512, 512), 4, 4),
        ((512, 512), 8, 4),
        ((2048, 2048), 4, 1),
        ((32, 64, 64), 8, 8),
        ((128, 128, 128), 8, 1),
    ],
)
def test_batches_are_bounded(patch, variants, expected):
    assert patches_at_once(patch, variants) == expected


def test_tiles_are_cut_when_the_network_asks_for_them():
    _, manifest = manifest_with((16, 16))
    events = []

    class Lazy(TinyNetworks):
        def stream(self, fold, patches):
            def noted():
                for batch in patches:
                    events.append("cut")
                    yield batch

            for answer in super().stream(fold, noted()):
                events.append("answer")
                yield answer

    predict_logits(noise((1, 1, 80, 80)), Lazy(1, 3, 2).of(manifest))
    assert events == ["cut", "answer"] * (len(events) // 2)
    assert len(events) > 4


def test_progress_counts_all_tiles_of_all_folds():
    _, manifest = manifest_with((16, 16), (0,))
    calls = []
    predict_logits(
        noise((1, 2, 24, 16)), TinyNetworks(1, 3, 2, folds=2).of(manifest), progress=lambda *now: calls.append(now)
    )
    assert calls == [(done, 8) for done in range(1, 9)]


def test_what_progress_raises_stops_before_the_next_tile_and_closes_the_stream():
    _, manifest = manifest_with((16, 16))
    closed, done = [], []

    class Closing(TinyNetworks):
        def stream(self, fold, patches):
            try:
                yield from super().stream(fold, patches)
            finally:
                closed.append(True)

    class Stopped(Exception):
        pass

    def count(number, total):
        done.append(number)
        if number == 5:
            raise Stopped

    with pytest.raises(Stopped):
        predict_logits(noise((1, 9, 30, 30)), Closing(1, 3, 2).of(manifest), progress=count)
    assert done == [1, 2, 3, 4, 5]
    assert closed == [True]


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e6])
def test_answers_that_are_not_finite_in_half_precision_are_an_error(value):
    """nnU-Net stops at infinite values, too; it lets nan pass, which is no segmentation either."""
    _, manifest = manifest_with((16, 16))

    class Broken(TinyNetworks):
        def stream(self, fold, patches):
            for answer in super().stream(fold, patches):
                answer[..., 3, 4] = value
                yield answer

    with pytest.raises(InputError, match="answers for this image are not finite"):
        predict_logits(noise((1, 1, 16, 16)), Broken(1, 3, 2).of(manifest))


@pytest.mark.parametrize("step", [0, -0.5, 1.5])
def test_the_step_is_checked(step):
    _, manifest = manifest_with((16, 16))
    with pytest.raises(InputError, match=f"step is {step}; expected 0.01 to 1"):
        predict_logits(noise((1, 1, 16, 16)), TinyNetworks(1, 3, 2).of(manifest), step=step)


def test_a_network_that_answers_too_few_patches_is_noticed():
    _, manifest = manifest_with((16, 16))

    class Short(TinyNetworks):
        def stream(self, fold, patches):
            yield next(super().stream(fold, patches))

    with pytest.raises(RuntimeError):
        predict_logits(noise((1, 1, 80, 80)), Short(1, 3, 2).of(manifest))
