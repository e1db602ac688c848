import pytest

from nnsam.errors import InputError
from nnsam.exporting.comparison import MeasuredPrecision, choose, fused_is_faster


def candidates(**values):
    return {name: MeasuredPrecision(*value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("measured", "chosen", "words"),
    [
        ({"f32": (1.0, 4.0), "bf16": (0.995, 1.0)}, "bf16", "4.0 times as fast"),
        ({"f32": (1.0, 4.0), "bf16": (0.9949, 1.0)}, "f32", "bf16 was not taken (Dice with float32 0.9949"),
        ({"f32": (1.0, 1.0), "bf16": (0.999, 1.1)}, "f32", "the fastest precision that qualifies"),
        ({"f32": (1.0, 4.0), "bf16": (0.998, 2.0), "int8": (0.996, 1.0)}, "int8", "int8 is the fastest"),
        ({"f32": (1.0, 4.0), "bf16": (0.998, 2.0), "int8": (0.9, 1.0)}, "bf16", "int8 was not taken"),
        ({"f32": (1.0, 4.0), "bf16": (None, 1.0)}, "f32", "give --images"),
        ({"f32": (1.0, 4.0)}, "f32", "the only precision"),
        ({"f32": (None, 4.0)}, "f32", "the only precision"),
    ],
)
def test_auto_takes_the_fastest_that_agrees(measured, chosen, words):
    choice = choose("auto", candidates(**measured))
    assert choice.precision == chosen
    assert words in choice.reason


def test_a_wish_is_fulfilled_and_its_shortfall_told():
    measured = candidates(f32=(1.0, 4.0), bf16=(0.9, 1.0))
    assert choose("f32", measured).reason == "f32 was asked for"
    choice = choose("bf16", measured)
    assert (choice.precision, choice.reason) == ("bf16", "bf16 was asked for (Dice with float32 0.9000, below 0.995)")
    with pytest.raises(InputError, match="int8 was not made"):
        choose("int8", measured)


def test_the_manifest_says_what_was_measured():
    measured = candidates(f32=(1.0, 4.0, 1e-5, 1e-6), bf16=(0.9, 1.0, 0.1, 0.01))
    section = choose("auto", measured, "int8 was not tried").as_dict(measured)
    assert section["auto"] == "f32"
    assert section["reason"].endswith("; int8 was not tried")
    assert section["candidates"]["bf16"] == {
        "dice": 0.9,
        "seconds": 1.0,
        "max_difference": 0.1,
        "mean_difference": 0.01,
        "accepted": False,
    }


@pytest.mark.parametrize(("two", "one", "fused"), [(1.0, 0.94, True), (1.0, 0.96, False), (1.0, 2.0, False)])
def test_one_network_has_to_be_faster_by_five_percent(two, one, fused):
    assert fused_is_faster(two, one) == fused
