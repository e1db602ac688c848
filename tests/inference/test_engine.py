import warnings

import numpy as np
import pytest
import torch
from helpers import bundles
from torch import nn

from nnsam.errors import InputError, NnsamWarning
from nnsam.inference.engine import CompiledNetwork, Engine
from nnsam.support.openvino import cpu_precisions


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 3, 3, padding=1)).eval()


@pytest.fixture(scope="module")
def ir(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("ir") / "net.xml"
    bundles.save_ir(network, path, patch=torch.zeros(2, 2, 16, 24))
    return path


def batches(count=7):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(1 + index % 3, 2, 16, 24)).astype(np.float32) for index in range(count)]


def expected(network, batch):
    with torch.no_grad():
        return network(torch.from_numpy(np.ascontiguousarray(batch, dtype=np.float32))).numpy()


def test_float32_means_float32(network, ir):
    compiled = Engine("f32").compile(ir)
    for batch in batches(3):
        np.testing.assert_allclose(compiled(batch), expected(network, batch), atol=1e-5)


@pytest.mark.skipif("bf16" not in cpu_precisions(), reason="this CPU has no bfloat16")
def test_bfloat16_is_another_precision(network, ir):
    difference = np.abs(Engine("bf16").compile(ir)(batches()[0]) - expected(network, batches()[0])).max()
    assert 1e-4 < difference < 0.1


def test_any_layout_and_type_is_taken(network, ir):
    batch = np.asfortranarray(batches()[0].astype(np.float64))
    np.testing.assert_allclose(Engine(threads=1).compile(ir)(batch), expected(network, batch), atol=1e-5)


def test_results_are_the_callers_own(ir):
    compiled = Engine().compile(ir)
    first = compiled(batches()[0])
    before = first.copy()
    compiled(batches()[3])
    np.testing.assert_array_equal(first, before)
    first += 1  # writable
    np.testing.assert_array_equal(compiled(batches()[0]), before)


@pytest.mark.parametrize(("by_size", "files"), [(False, 2), (True, 2)])
def test_batches_of_any_size(network, ir, tmp_path, by_size, files):
    rng = np.random.default_rng(0)
    for cache in (None, tmp_path, tmp_path):
        compiled = Engine(cache_dir=cache).compile(ir)
        assert not compiled._by_size
        compiled._by_size = by_size
        for count in (3, 1, 8, 8, 5, 8, 8, 22, 3):
            batch = rng.normal(size=(count, 2, 16, 24)).astype(np.float32)
            np.testing.assert_allclose(compiled(batch), expected(network, batch), atol=1e-5)
    assert len(list(tmp_path.iterdir())) == files  # one, and any or the one that came often


def test_quantised_networks_are_compiled_by_size(ir):
    assert Engine("int8").compile(ir)._by_size


def recording(by_size):
    """A network that compiles nothing, the sizes that it is compiled for, and a function: how a batch is split."""
    made = []
    network = CompiledNetwork(made.append, by_size=by_size)
    return network, made, lambda count: [size for _, size in network._choose(count)]


def test_quantised_networks_are_compiled_for_few_batch_sizes():
    """The first size, one for the rest, and what comes often; never more than three."""
    _, made, split = recording(True)
    assert split(8) == [8]
    assert made == [8]
    assert split(2) == [1, 1]
    assert split(17) == [8, 8, 1]
    assert [split(6) for _ in range(3)] == [[1] * 6] * 3
    assert split(6) == [6]
    assert split(15) == [8, 6, 1]
    for count in range(2, 40):
        for _ in range(5):
            assert sum(split(count)) == count
    assert made == [8, 1, 6]
    _, made, split = recording(True)
    for count in (8, 16, 24, 32):  # none leaves a remainder
        for _ in range(5):
            split(count)
    assert split(9)[-1] == 1
    assert len(made) == 3
    _, made, split = recording(True)
    assert [split(3) for _ in range(9)] == [[1, 1, 1]] * 9
    assert made == [1]


def test_float_networks_hold_their_weights_once():
    """Compiled for single patches as long as there are no others, then for any number."""
    network, made, split = recording(False)
    assert split(1) == split(1) == [1]
    assert split(2) == [1, 1]
    assert made == [1]
    assert split(5) == [5]
    assert split(1) == [1]
    assert made == [1, 0]
    assert list(network._variants) == [0]


def test_inputs_are_split_together(tmp_path):
    class Sum(nn.Module):
        def forward(self, a, b):
            return a + 10 * b

    bundles.save_ir(Sum(), tmp_path / "sum.xml", a=torch.zeros(2, 1, 3), b=torch.zeros(2, 1, 3))
    a, b = np.arange(39.0).reshape(13, 1, 3), np.arange(39.0).reshape(13, 1, 3) ** 2
    np.testing.assert_allclose(Engine().compile(tmp_path / "sum.xml")(a, b), a + 10 * b, rtol=1e-6)


@pytest.mark.parametrize("requests", [1, 2, 5])
def test_streams_keep_the_order_and_draw_only_a_little_ahead(network, ir, requests):
    compiled = Engine(requests=requests).compile(ir)
    drawn = []

    def inputs():
        for index, batch in enumerate(batches()):
            drawn.append(index)
            yield (batch,)

    for done, result in enumerate(compiled.stream(inputs())):
        np.testing.assert_allclose(result, expected(network, batches()[done]), atol=1e-5)
        assert len(drawn) <= done + 1 + requests
    assert len(drawn) == done + 1 == 7
    assert list(compiled.stream([])) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_errors_of_the_inputs_come_through(network, ir, error):
    def inputs():
        yield (batches()[0],)
        raise error

    compiled = Engine().compile(ir)
    with pytest.raises(error):
        list(compiled.stream(inputs()))
    np.testing.assert_allclose(compiled(batches()[1]), expected(network, batches()[1]), atol=1e-5)


def test_inputs_of_a_wrong_shape_are_refused_and_do_no_harm(network, ir):
    compiled = Engine().compile(ir)
    with pytest.raises(InputError, match="does not take inputs of"):
        list(compiled.stream([(batches()[0],), (np.zeros((1, 5, 16, 24), np.float32),)]))
    np.testing.assert_allclose(compiled(batches()[1]), expected(network, batches()[1]), atol=1e-5)


def test_streams_may_be_left_and_nested(network, ir):
    compiled = Engine().compile(ir)
    outer = compiled.stream((batch,) for batch in batches())
    np.testing.assert_allclose(next(outer), expected(network, batches()[0]), atol=1e-5)
    np.testing.assert_allclose(compiled(batches()[4]), expected(network, batches()[4]), atol=1e-5)
    np.testing.assert_allclose(next(outer), expected(network, batches()[1]), atol=1e-5)
    outer.close()
    np.testing.assert_allclose(compiled(batches()[5]), expected(network, batches()[5]), atol=1e-5)


def test_compiled_networks_are_kept(network, ir, tmp_path):
    cache = tmp_path / "cache"
    first = Engine(cache_dir=cache).compile(ir)(batches()[0])
    (blob,) = cache.iterdir()
    before = blob.read_bytes()
    assert len(before) < 200_000
    engine = Engine(cache_dir=cache)
    engine._compile = None  # nothing is compiled again
    np.testing.assert_array_equal(engine.compile(ir)(batches()[0]), first)
    assert [path.read_bytes() for path in cache.iterdir()] == [before]


@pytest.mark.parametrize("damage", [lambda c: c[: len(c) // 2], lambda c: c[:500] + bytes(64) + c[564:], lambda c: b""])
def test_damaged_cache_files_are_replaced(ir, tmp_path, damage):
    first = Engine(cache_dir=tmp_path).compile(ir)(batches()[0])
    (blob,) = tmp_path.iterdir()
    content = blob.read_bytes()
    blob.write_bytes(damage(content))
    np.testing.assert_array_equal(Engine(cache_dir=tmp_path).compile(ir)(batches()[0]), first)
    assert blob.read_bytes()[32:100] == content[32:100]


def test_intact_files_that_openvino_refuses_are_replaced(network, ir, tmp_path):
    engine = Engine(cache_dir=tmp_path)
    key = engine._key("me", 1)
    engine._cache.store(key, lambda: b"written by another build")
    np.testing.assert_allclose(engine.compile(ir, "me")(batches()[0]), expected(network, batches()[0]), atol=1e-5)
    assert len((tmp_path / f"{key}.blob").read_bytes()) > 1000


def test_networks_are_told_apart(network, ir, tmp_path):
    """By weights and by precision; OpenVINO's own cache mixes up precisions, and crashes."""
    other = ir.with_name("other.xml")
    second = nn.Sequential(*network)
    with torch.no_grad():
        changed = nn.Conv2d(8, 3, 3, padding=1)
        second[2] = changed
        bundles.save_ir(second, other, patch=torch.zeros(2, 2, 16, 24))
    cache = tmp_path / "cache"
    for precision in ("f32", "bf16") if "bf16" in cpu_precisions() else ("f32",):
        for _ in range(2):
            for path, torch_network in ((ir, network), (other, second)):
                found = Engine(precision, cache_dir=cache).compile(path)(batches()[0])
                np.testing.assert_allclose(found, expected(torch_network, batches()[0]), atol=0.05)
                if precision == "f32":
                    np.testing.assert_allclose(found, expected(torch_network, batches()[0]), atol=1e-5)
    assert len(list(cache.iterdir())) in (2, 4)


def test_an_unusable_cache_folder_costs_a_warning_only(network, ir, tmp_path):
    (tmp_path / "file").write_text("")
    compiled = Engine(cache_dir=tmp_path / "file").compile(ir)
    with pytest.warns(NnsamWarning, match="cannot be kept"):
        compiled(batches()[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(compiled(batches()[0]), expected(network, batches()[0]), atol=1e-5)


def test_a_file_that_is_no_network_is_told(tmp_path):
    (tmp_path / "a.xml").write_text("no network")
    for cache in (None, tmp_path / "cache"):
        with pytest.raises(InputError, match=r"cannot use .*a\.xml"):
            Engine(cache_dir=cache).compile(tmp_path / "a.xml")(batches()[0])


def test_bad_options_are_told():
    with pytest.raises(InputError, match="number of threads is -1"):
        Engine(threads=-1)
    with pytest.raises(InputError, match="number of requests is 0"):
        Engine(requests=0)
