import pytest
import torch
from torch import nn

from nnsam.errors import InputError
from nnsam.exporting.conversion import resize_matrix, to_openvino
from nnsam.networks.sam_branch import resize_tensor


@pytest.mark.parametrize(
    ("source", "target"), [((12, 12), (4, 4)), ((16, 16), (5, 7)), ((4, 4), (4, 4)), ((4, 4), (9, 6))]
)
def test_resizing_by_matrices_is_the_networks_resizing(source, target):
    image = torch.randn(2, 3, *source)
    rows, columns = (resize_matrix(old, new) for old, new in zip(source, target, strict=True))
    torch.testing.assert_close(rows @ image @ columns.T, resize_tensor(image, target), atol=1e-6, rtol=0)


def test_names_and_a_free_batch():
    model = to_openvino(nn.Conv2d(2, 3, 1).eval(), [(2, 8, 9)], ["patch"], "logits")
    assert [port.get_any_name() for port in model.inputs] == ["patch"]
    assert model.outputs[0].get_any_name() == "logits"
    assert str(model.inputs[0].partial_shape) == "[?,2,8,9]"
    assert str(model.outputs[0].partial_shape) == "[?,3,8,9]"


def test_what_openvino_lacks_is_told():
    class Unknown(nn.Module):
        def forward(self, x):
            return torch.linalg.eigh(x @ x.mT).eigenvalues

    with pytest.raises(InputError, match="cannot be converted to OpenVINO"):
        to_openvino(Unknown(), [(4, 4)], ["patch"], "logits")
