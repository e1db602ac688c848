"""MobileSAM's encoder: sizes, batches, frozenness, caches, random weights."""

import copy

import pytest
import torch

from nnsam.errors import InputError
from nnsam.networks import MobileSAMEncoder
from nnsam.networks.mobile_sam import expected_shapes


@pytest.fixture(scope="module")
def random_encoder():
    return MobileSAMEncoder.random(seed=3)


def image(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_has_as_many_parameters_as_mobile_sams(encoder):
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 5_743_892


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (224, 32), (160, 160)])
def test_any_multiple_of_32_gives_a_sixteenth(encoder, size):
    embedding = encoder(image(2, 3, *size))
    assert embedding.shape == (2, 256, size[0] // 16, size[1] // 16)
    assert torch.isfinite(embedding).all()


def test_a_batch_gives_what_its_samples_give(encoder):
    batch = image(3, 3, 64, 96)
    alone = torch.cat([encoder(sample[None]) for sample in batch])
    torch.testing.assert_close(encoder(batch), alone, atol=1e-5, rtol=1e-5)
    assert (alone[0] - alone[1]).abs().max() > 1e-2


@pytest.mark.parametrize(
    "shape", [(1, 3, 48, 64), (1, 3, 64, 40), (1, 1, 64, 64), (3, 64, 64), (64,), (1, 3, 0, 64), (1, 3, 64, 0)]
)
def test_other_sizes_are_refused_with_what_was_found(encoder, shape):
    with pytest.raises(InputError, match="multiples of 32") as caught:
        encoder(torch.zeros(shape))
    assert str(tuple(shape)) in str(caught.value)


def test_no_parameter_asks_for_a_gradient_and_training_mode_changes_nothing(encoder):
    encoder = copy.deepcopy(encoder)
    before = encoder(image(2, 3, 64, 64))
    assert torch.nn.Sequential(encoder).train()[0] is encoder
    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    state = copy.deepcopy(encoder.state_dict())
    assert torch.equal(encoder(image(2, 3, 64, 64)), before)
    assert all(torch.equal(state[name], tensor) for name, tensor in encoder.state_dict().items())


def test_weights_loaded_after_a_forward_pass_are_all_used(encoder, random_encoder):
    # timm caches the gathered attention biases in evaluation mode.
    reloaded = copy.deepcopy(random_encoder)
    with torch.no_grad():
        stale = reloaded(image(1, 3, 64, 64))
        reloaded.load_state_dict(encoder.state_dict())
        assert torch.equal(reloaded(image(1, 3, 64, 64)), encoder(image(1, 3, 64, 64)))
        assert (stale - encoder(image(1, 3, 64, 64))).abs().max() > 1e-2


def test_the_test_above_sees_a_stale_cache(encoder, random_encoder):
    reloaded = copy.deepcopy(random_encoder)
    with torch.no_grad():
        reloaded(image(1, 3, 64, 64))
        for name, parameter in reloaded.named_parameters():  # past load_state_dict, hence past the hook
            parameter.copy_(encoder.get_parameter(name))
        for name, buffer in reloaded.named_buffers():
            buffer.copy_(encoder.get_buffer(name))
        assert not torch.equal(reloaded(image(1, 3, 64, 64)), encoder(image(1, 3, 64, 64)))
        reloaded.clear_cache()
        assert torch.equal(reloaded(image(1, 3, 64, 64)), encoder(image(1, 3, 64, 64)))


def test_random_weights_depend_on_the_seed_alone(random_encoder):
    torch.manual_seed(1)
    same = MobileSAMEncoder.random(seed=3).state_dict()
    other = MobileSAMEncoder.random(seed=4).state_dict()
    for name, tensor in random_encoder.state_dict().items():
        assert torch.equal(tensor, same[name]), name
    varied = [name for name, tensor in other.items() if not torch.equal(tensor, same[name])]
    # All matrices, convolutions and attention biases (10 blocks); BatchNorm, LayerNorm and biases are constants.
    assert {name for name in varied if tensor_is_constant(same[name])} == set()
    assert {name for name in same if name.endswith("attention_biases")} <= set(varied)
    assert all(name in varied for name, tensor in same.items() if tensor.ndim >= 2)


def tensor_is_constant(tensor: torch.Tensor) -> bool:
    return bool((tensor == tensor.flatten()[0]).all())


def test_making_random_weights_leaves_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    MobileSAMEncoder.random(seed=3)
    assert torch.equal(torch.rand(4), expected)


def test_a_random_embedding_varies_with_the_image_and_over_it(random_encoder):
    with torch.no_grad():
        first, second = random_encoder(image(1, 3, 128, 128)), random_encoder(image(1, 3, 128, 128, seed=1))
    assert ((first - second).std() / first.std()).item() > 0.1
    assert first.std(dim=(2, 3)).mean() > 0.05


def test_expected_shapes_are_those_of_a_real_encoder(encoder):
    assert {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()} == expected_shapes()


def test_an_encoder_can_be_pickled_whole(encoder, tmp_path):
    torch.save(encoder, tmp_path / "encoder.pt")
    reloaded = torch.load(tmp_path / "encoder.pt", weights_only=False)
    assert torch.equal(reloaded(image(1, 3, 64, 64)), encoder(image(1, 3, 64, 64)))
