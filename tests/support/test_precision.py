import sys

import pytest

from nnsam.errors import InputError, SetupError
from nnsam.inference.bundle import Bundle, choose_precision
from nnsam.support import openvino as precision
from nnsam.support.openvino import check_precision, compile_hint, cpu_precisions


def bundle(tmp_path, int8=True, auto="bf16"):
    folds = [{"fold": "0", "unet": "u.xml", "int8": "i.xml" if int8 else None, "fused": None}]
    return Bundle(tmp_path, {"networks": {"image_encoder": None, "folds": folds}, "precision": {"auto": auto}})


@pytest.fixture
def cpu(monkeypatch):
    def set_precisions(*names):
        monkeypatch.setattr(precision, "cpu_precisions", lambda: frozenset(names))

    return set_precisions


def test_this_cpu_computes_float32():
    assert "f32" in cpu_precisions() <= {"f32", "bf16", "int8"}


@pytest.mark.parametrize("auto", ["f32", "bf16", "int8"])
def test_auto_is_what_the_export_found(tmp_path, cpu, auto):
    cpu("f32", "bf16", "int8")
    assert choose_precision(bundle(tmp_path, auto=auto)) == (auto, "")


def test_auto_falls_back_and_tells(tmp_path, cpu):
    cpu("f32", "int8")
    found, note = choose_precision(bundle(tmp_path, auto="bf16"), "auto")
    assert found == "f32"
    assert note == "computed in f32, since this CPU has no bf16 instructions, which the model was exported for"


@pytest.mark.parametrize(
    ("wanted", "found"), [("bf16", "bf16"), ("bfloat16", "bf16"), ("Float32", "f32"), ("fp32", "f32"), ("int8", "int8")]
)
def test_wishes_are_followed(tmp_path, cpu, wanted, found):
    cpu("f32", "bf16", "int8")
    assert choose_precision(bundle(tmp_path), wanted) == (found, "")


def test_what_cannot_be_is_told(tmp_path, cpu):
    cpu("f32")
    with pytest.raises(SetupError, match="no bf16 instructions; choose the precision f32"):
        choose_precision(bundle(tmp_path), "bf16")
    with pytest.raises(InputError, match="no int8 network; here it is computed in f32: choose that, or export"):
        choose_precision(bundle(tmp_path, int8=False), "int8")
    cpu("f32", "bf16", "int8")
    with pytest.raises(InputError, match="no int8 network; here it is computed in f32 or bf16: choose"):
        choose_precision(bundle(tmp_path, int8=False), "int8")
    with pytest.raises(InputError, match="'half' is unknown; expected auto, f32, bf16, int8"):
        check_precision("half")


def test_hints(cpu):
    cpu("f32", "bf16")
    assert [compile_hint(name) for name in ("f32", "bf16", "int8")] == ["f32", "bf16", "bf16"]
    cpu("f32")
    assert compile_hint("int8") == "f32"


def test_a_missing_openvino_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    cpu_precisions.cache_clear()
    with pytest.raises(SetupError, match=r"OpenVINO is not installed; install it with: pip install"):
        cpu_precisions()
