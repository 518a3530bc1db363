from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from features.datasets.drawn_lesion import Lesion, draw_lesion
from features.embedding.specification import ExtractorSpec
from features.images.colour import SHADES_OF_GREY, correct, light
from features.images.decoding import Frame, decode

LIT = st.tuples(*[st.floats(0.7, 1.0)] * 3)


def corrected(pixels: np.ndarray) -> np.ndarray:
    image = Image.fromarray(pixels)
    return np.asarray(correct(image, light(image)))


def lit(pixels: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray:
    return np.asarray((pixels * np.array(colour)).round(), np.uint8)


@given(LIT)
def test_a_picture_comes_out_the_same_under_any_light(colour: tuple[float, float, float]) -> None:
    # Dark enough that nothing is clipped.
    picture = np.asarray(draw_lesion(Lesion(seed=3), 64) * 0.6, np.uint8)
    neutral = corrected(picture).astype(float)
    under = lit(picture, colour)
    found = corrected(under).astype(float)
    strength = found.mean() / neutral.mean()
    np.testing.assert_allclose(found / strength, neutral, atol=3)


def test_grey_pictures_stay_as_they_are() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    np.testing.assert_array_equal(corrected(grey), grey)


def test_a_picture_without_light_stays_as_it_is() -> None:
    for picture in (np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), (90, 0, 0), np.uint8)):
        np.testing.assert_array_equal(corrected(picture), picture)


def test_frames_are_corrected_by_the_light_of_the_whole_image() -> None:
    picture = lit(draw_lesion(Lesion(seed=5), 256), (1.0, 0.8, 0.7))
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    frames = [
        Frame(100, region, colour)
        for region in ("whole", "lesion")
        for colour in ("as-is", SHADES_OF_GREY)
    ]
    whole, whole_corrected, closer, closer_corrected = decode(file.getvalue(), *frames).frames
    colour = light(Image.fromarray(whole))
    for plain, found in ((whole, whole_corrected), (closer, closer_corrected)):
        expected = np.clip(plain / colour, 0, 255)
        np.testing.assert_allclose(found, expected, atol=2)
    assert np.ptp(light(Image.fromarray(whole_corrected))) < 0.1 < np.ptp(colour)


def test_the_fingerprint_tells_only_a_choice() -> None:
    spec = ExtractorSpec("inception_v3", "untrained", "0" * 64, 75, 8, ("mixed1",))
    grey = ExtractorSpec(
        "inception_v3", "untrained", "0" * 64, 75, 8, ("mixed1",), colour=SHADES_OF_GREY
    )
    assert "colour" not in spec.as_dict()
    assert spec.fingerprint != grey.fingerprint
    for each in (spec, grey):
        assert ExtractorSpec.from_dict(each.as_dict()) == each
    with pytest.raises(Exception, match="colour as-is against shades-of-grey"):
        spec.require(grey, mine="a", others="b")
