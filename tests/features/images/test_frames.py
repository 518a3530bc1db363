"""What is cut out of an image, and how large the image is read for it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from features.images.decoding import Frame, decode, decode_each
from features.images.lesion import WHOLE
from tests.pictures import encoded, image_bytes


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_the_middle_of_the_shorter_side_is_cut_out_of_the_upright_image(orientation: int) -> None:
    height, width = 60, 100
    upright = np.zeros((height, width, 3), np.uint8)
    # 0.8 of 60 pixels: 48 on each side of the middle.
    upright[6:54, 26:74] = 255
    turned = {1: 0, 3: 2, 6: 1, 8: 3}[orientation]
    file, exif = io.BytesIO(), Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(np.ascontiguousarray(np.rot90(upright, turned))).save(file, "PNG", exif=exif)
    decoded = decode(file.getvalue(), Frame(48, "centre0.8"), Frame(48), Frame(60, "centre1"))
    assert (decoded.pixels == 255).all()
    assert not (decoded.frames[1] == 255).all()
    assert (decoded.frames[2][6:54, 6:54] == 255).all()
    assert (decoded.frames[2][:5] == 0).all()
    box = decoded.boxes[0]
    assert (box.left, box.top, box.right, box.bottom) == pytest.approx((0.26, 0.1, 0.74, 0.9))


def photograph(side: int, radius: int, orientation: int = 1, form: str = "JPEG") -> bytes:
    """A lesion on grainy skin, right of the middle, stored turned as the orientation says."""
    height, width = side, side * 4 // 3
    noise = np.random.default_rng(1).integers(-30, 31, (height, width, 1))
    pixels = np.clip(np.array((220, 180, 160)) + noise, 0, 255).astype(np.uint8)
    rows, columns = np.ogrid[:height, :width]
    pixels[(rows - 0.5 * height) ** 2 + (columns - 0.55 * width) ** 2 < radius**2] //= 2
    back = {1: None, 6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180}[orientation]
    image, exif = Image.fromarray(pixels), Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encoded(image if back is None else image.transpose(back), form, exif=exif)


SHARP, DRAFT = Frame(64, "lesion"), Frame(64, "lesion", draft=True)


@pytest.mark.parametrize(("form", "side"), [("JPEG", 96), ("JPEG", 255), ("PNG", 300)])
def test_what_can_not_be_read_any_smaller_is_the_same_as_without_a_draft(
    form: str, side: int
) -> None:
    for radius in (side // 12, side // 4):
        data = photograph(side, radius, form=form)
        sharp, draft = decode(data, Frame(64), SHARP), decode(data, Frame(64), DRAFT)
        assert draft.boxes == sharp.boxes
        assert draft.boxes[1] != WHOLE
        np.testing.assert_array_equal(draft.frames, sharp.frames)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize(
    ("radius", "scale"),
    [
        pytest.param(100, 2, id="a large lesion is cut out of the half that the whole is made of"),
        pytest.param(25, 1, id="one of fewer pixels than the frame there is read again, larger"),
    ],
)
def test_a_large_jpeg_is_read_as_large_as_its_lesion_needs(
    radius: int, scale: int, orientation: int
) -> None:
    data = photograph(300, radius, orientation)
    found = decode(data, Frame(64), DRAFT)
    box = found.boxes[1]
    half = 0.5 * (box.bottom - box.top) * 300
    assert (half < 64) == (scale == 1)
    expected = []
    for divided in (2, scale):
        with Image.open(io.BytesIO(data)) as image:
            image.draft(None, (image.width // divided, image.height // divided))
            turn = {1: None, 6: Image.Transpose.ROTATE_270, 3: Image.Transpose.ROTATE_180}
            back = turn[orientation]
            expected.append(image.copy() if back is None else image.transpose(back))
    whole, source = expected
    assert source.size == (400 // scale, 300 // scale)
    width, height = source.size
    inside = (box.left * width, box.top * height, box.right * width, box.bottom * height)
    cut = source.resize((64, 64), Image.Resampling.BILINEAR, box=inside)
    np.testing.assert_array_equal(found.frames[1], np.asarray(cut))
    # Turned before or after it is made small, a picture may be a level off by rounding.
    small = np.asarray(whole.resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(found.pixels - small).max() <= 1
    assert (found.width, found.height) == (400, 300)


def test_a_draft_is_within_a_grey_level_of_what_is_cut_out_of_the_original() -> None:
    data = image_bytes(3, (1300, 1000))
    sharp, draft = decode(data, Frame(64), SHARP), decode(data, Frame(64), DRAFT)
    for one, other in zip(sharp.frames, draft.frames, strict=True):
        assert np.abs(one.astype(int) - other).mean() < 1
    assert (sharp.frames[0] != draft.frames[0]).any()


@pytest.mark.parametrize("radius", [25, 100])
def test_a_draft_beside_frames_of_other_networks_is_what_it_is_alone(radius: int) -> None:
    data = photograph(300, radius)
    groups = ([Frame(64), DRAFT], [Frame(64), SHARP], [Frame(64)])
    for mine, frames in zip(decode_each(data, *groups), groups, strict=True):
        alone = decode(data, *frames)
        assert mine.boxes == alone.boxes
        np.testing.assert_array_equal(mine.frames, alone.frames)


@pytest.mark.real_data
def test_of_real_originals_a_draft_is_nearly_what_is_cut_out_of_them(real_data: Path) -> None:
    places = ("melanoma/ISIC_0000141.jpg", "melanoma/ISIC_0000390.jpg")
    for place in places:
        data = (real_data / "data" / "originals" / place).read_bytes()
        colour = "shades-of-grey"
        sharp = decode(data, Frame(299, colour=colour), Frame(299, "lesion", colour))
        draft = decode(data, Frame(299, colour=colour), Frame(299, "lesion", colour, draft=True))
        assert (draft.width, draft.height, draft.boxes) == (sharp.width, sharp.height, sharp.boxes)
        apart = [np.abs(a.astype(int) - b) for a, b in zip(sharp.frames, draft.frames, strict=True)]
        assert max(each.mean() for each in apart) < 0.5
        assert min(each.max() for each in apart) > 0
