"""What timm and Hugging Face say of pixels, and the description that is made of it."""

from __future__ import annotations

from typing import Any

import pytest

from features.networks.imported.description import from_text
from features.networks.imported.torch_settings import (
    Unsaid,
    as_toml,
    from_processor,
    from_timm,
    trained_on,
)

TIMM = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "crop_mode": "center",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
}
PROCESSOR: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": 256},
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def test_a_description_is_made_of_what_timm_says() -> None:
    about = {"name": "timm-x.in1k", "licence": "mit", "trained_on": "ImageNet-1k"}
    text = as_toml(about, {"name": "image", **from_timm(TIMM)}, {"names": ["map"]})
    told = from_text(text)
    # 224 of the 248 pixels that 224 / 0.9 is rounded to.
    assert told.view == "centre0.9032:identity~bicubic"
    assert told.closer_view == "lesion:identity~bicubic"
    assert (told.name, told.licence, told.size, told.outputs) == (
        "timm-x.in1k", "mit", 224, ("map",),
    )  # fmt: skip
    assert told.preprocessing.divisor == 255
    assert told.preprocessing.mean == (0.485, 0.456, 0.406)
    assert told.preprocessing.deviation == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("change", "view"),
    [
        ({"crop_pct": 1.0}, "centre1:identity~bicubic"),
        ({"crop_mode": "squash", "crop_pct": 1.0}, "identity~bicubic"),
        ({"interpolation": "bilinear", "crop_pct": 0.875}, "centre0.875:identity"),
    ],
)
def test_crops_and_interpolations_of_timm(change: dict[str, Any], view: str) -> None:
    said = from_timm({**TIMM, **change})
    assert from_text(as_toml({"name": "x"}, said, {})).view == view


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"crop_mode": "border"}, "crop mode border"),
        ({"crop_mode": "squash"}, "crop mode squash with a part of 0.9"),
        ({"input_size": (3, 1024, 768)}, "no square"),
        ({"input_size": (1, 224, 224)}, "no square in colour"),
        ({"interpolation": "lanczos"}, "lanczos"),
    ],
)
def test_what_a_description_can_not_say_of_timm(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsaid, match=reason):
        from_timm({**TIMM, **change})


@pytest.mark.parametrize(
    ("change", "size", "view", "range_"),
    [
        ({}, 224, "centre0.875:identity~bicubic", (0, 1)),
        ({"size": {"height": 384, "width": 384}, "do_center_crop": False, "resample": 2},
         384, "identity", (0, 1)),
        ({"size": 224}, 224, "identity~bicubic", (0, 1)),
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "do_center_crop": None},
         224, "centre0.875:identity~bicubic", (0, 1)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, 384, "identity~bicubic", (0, 1)),
        ({"rescale_factor": 1 / 127.5, "rescale_offset": True},
         224, "centre0.875:identity~bicubic", (-1, 1)),
        ({"do_rescale": False}, 224, "centre0.875:identity~bicubic", (0, 255)),
    ],
)  # fmt: skip
def test_a_description_is_made_of_what_hugging_face_says(
    change: dict[str, Any], size: int, view: str, range_: tuple[int, int]
) -> None:
    told = from_text(as_toml({"name": "x"}, from_processor({**PROCESSOR, **change}), {}))
    assert (told.size, told.view) == (size, view)
    assert told.range_ == pytest.approx(range_)
    assert told.mean == (0.485, 0.456, 0.406)


def test_pixels_that_are_not_normalised() -> None:
    said = from_processor({**PROCESSOR, "do_normalize": False, "image_mean": None})
    assert (said["mean"], said["deviation"]) == (0, 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"do_resize": False}, "not resized"),
        ({"resample": 1}, "filter 1"),
        ({"do_center_crop": False}, "without a crop"),
        ({"size": {"longest_edge": 512}}, "longest_edge"),
        ({"size": {"height": 224, "width": 448}}, "no square"),
        ({"crop_size": {"height": 300, "width": 300}}, "300 of 256"),
        ({"crop_size": {"height": 224, "width": 200}}, "the crop"),
        ({"size": {"height": 256, "width": 256}}, "224 pixels from the middle of a squashed"),
    ],
)
def test_what_a_description_can_not_say_of_a_processor(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsaid, match=reason):
        from_processor({**PROCESSOR, **change})


def test_training_data_is_read_from_a_tag_and_never_guessed() -> None:
    assert trained_on("augreg_in21k_ft_in1k") == "ImageNet-21k, ImageNet-1k"
    assert trained_on("lvd142m") == "LVD-142M"
    assert trained_on("a1_in1k") == "ImageNet-1k"
    assert trained_on("fb") == trained_on(None) == ""
