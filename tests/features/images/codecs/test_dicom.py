from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from features.errors import UnreadableImage
from features.images.codecs.dicom import patient_of
from features.images.decoding import decode, load_pixels
from tests.features.images.codecs.dicoms import PATIENT, dicom
from tests.pictures import image_bytes

SIDE = 32


def picture() -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image_bytes(4, (SIDE, SIDE), "PNG"))).convert("RGB"))


def ramp(top: int, dtype: type = np.uint16) -> np.ndarray:
    return np.linspace(0, top, SIDE * SIDE).round().astype(dtype).reshape(SIDE, SIDE)


def grey(data: bytes) -> np.ndarray:
    pixels = load_pixels(data, SIDE)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def refused(data: bytes) -> UnreadableImage:
    with pytest.raises(UnreadableImage) as error:
        load_pixels(data, SIDE)
    assert PATIENT not in str(error.value)
    assert "\n" not in str(error.value)
    return error.value


def test_colours_are_those_of_the_picture_in_either_order_of_planes() -> None:
    expected = picture()
    np.testing.assert_array_equal(load_pixels(dicom(expected), SIDE), expected)
    planes = np.ascontiguousarray(np.moveaxis(expected, -1, 0))
    planar = dicom(expected, PlanarConfiguration=1, PixelData=planes.tobytes())
    np.testing.assert_array_equal(load_pixels(planar, SIDE), expected)


def test_luma_and_chroma_become_colours() -> None:
    luma = np.asarray(Image.fromarray(picture()).convert("YCbCr"))
    found = load_pixels(dicom(luma, "YBR_FULL"), SIDE).astype(int)
    assert np.abs(found - picture()).max() <= 3


def test_a_jpeg_inside_is_decoded() -> None:
    jpeg = io.BytesIO()
    Image.fromarray(picture()).save(jpeg, "JPEG", quality=100, subsampling=0)
    data = dicom(picture(), "YBR_FULL_422", PixelData=encapsulate([jpeg.getvalue()]))
    # The syntax is told in the file's first part.
    from pydicom import dcmread

    file = dcmread(io.BytesIO(data))
    file.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    file["PixelData"].is_undefined_length = True
    written = io.BytesIO()
    file.save_as(written)
    found = load_pixels(written.getvalue(), SIDE).astype(int)
    assert np.abs(found - picture()).max() <= 6


def test_a_palette_gives_its_colours() -> None:
    table = np.random.default_rng(1).integers(0, 256, (3, 256))
    more = {
        f"{name}PaletteColorLookupTableData": (values * 257).astype("<u2").tobytes()
        for name, values in zip(("Red", "Green", "Blue"), table, strict=True)
    } | {
        f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16]
        for name in ("Red", "Green", "Blue")
    }
    places = ramp(255, np.uint8)
    found = load_pixels(dicom(places, "PALETTE COLOR", **more), SIDE)
    np.testing.assert_array_equal(found, np.moveaxis(table[:, places], 0, -1))


def test_grey_and_its_inverse() -> None:
    levels = ramp(255, np.uint8)
    np.testing.assert_array_equal(grey(dicom(levels, "MONOCHROME2")), levels)
    np.testing.assert_array_equal(grey(dicom(levels, "MONOCHROME1")), 255 - levels)


@pytest.mark.parametrize("stated", [True, False])
def test_twelve_bits_without_a_window_fill_the_range(stated: bool) -> None:
    more = {"BitsStored": 12} if stated else {}
    levels = ramp(4095)
    found = grey(dicom(levels, "MONOCHROME2", **more))
    np.testing.assert_array_equal(found, np.rint(levels.astype(int) * 255 / 4095).astype(np.uint8))


def test_the_first_window_is_used_after_the_modality_s_rescaling() -> None:
    levels = ramp(4095)
    data = dicom(
        levels, "MONOCHROME2", BitsStored=12, RescaleSlope="2", RescaleIntercept="-1024",
        WindowCenter=["1000", "40"], WindowWidth=["2001", "400"],
    )  # fmt: skip
    values = levels * 2.0 - 1024
    shares = ((values - 999.5) / 2000 + 0.5).clip(0, 1)
    np.testing.assert_array_equal(grey(data), np.rint(shares * 255).astype(np.uint8))
    exact = dicom(
        levels,
        "MONOCHROME2",
        WindowCenter="2000",
        WindowWidth="1000",
        VOILUTFunction="LINEAR_EXACT",
    )
    shares = ((levels - 2000.0) / 1000 + 0.5).clip(0, 1)
    np.testing.assert_array_equal(grey(exact), np.rint(shares * 255).astype(np.uint8))
    curved = dicom(
        levels, "MONOCHROME2", WindowCenter="2000", WindowWidth="1000", VOILUTFunction="SIGMOID"
    )
    shares = 1 / (1 + np.exp(-4 * (levels - 2000.0) / 1000))
    np.testing.assert_array_equal(grey(curved), np.rint(shares * 255).astype(np.uint8))


def test_a_table_of_values_of_interest_is_used() -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = (
        [256, 0, 16],
        np.arange(65535, -1, -257, dtype="<u2").tobytes(),
    )
    levels = ramp(255, np.uint8)
    data = dicom(levels, "MONOCHROME2", VOILUTSequence=[table])
    np.testing.assert_array_equal(grey(data), 255 - levels)


def test_signed_samples_run_from_black_to_white() -> None:
    levels = ramp(2000, np.int16) - 1000
    found = grey(dicom(levels.astype(np.int16), "MONOCHROME2"))
    assert (found.min(), found.max()) == (0, 255)


def test_a_colour_profile_is_applied_and_a_broken_one_passed_over() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    png = io.BytesIO()
    Image.fromarray(picture()).save(png, "PNG", icc_profile=lab.tobytes())
    data = dicom(picture(), ICCProfile=lab.tobytes())
    np.testing.assert_array_equal(load_pixels(data, SIDE), load_pixels(png.getvalue(), SIDE))
    broken = dicom(picture(), ICCProfile=b"no profile")
    np.testing.assert_array_equal(load_pixels(broken, SIDE), picture())


def test_what_is_no_single_picture_is_told() -> None:
    several = dicom(np.stack([ramp(255, np.uint8)] * 3).reshape(-1, SIDE), "MONOCHROME2")
    assert decode(several, SIDE).height == 3 * SIDE
    film = dicom(
        np.stack([ramp(255, np.uint8)] * 3).reshape(-1, SIDE), "MONOCHROME2",
        Rows=SIDE, NumberOfFrames=3,
    )  # fmt: skip
    error = refused(film)
    assert error.code == "unsupported"
    assert "3 frames" in str(error)
    from pydicom import dcmread

    file = dcmread(io.BytesIO(dicom(picture())))
    del file.PixelData
    report = io.BytesIO()
    file.save_as(report)
    assert "holds no picture" in str(refused(report.getvalue()))
    huge = dicom(picture(), Rows=60_000, Columns=60_000)
    assert refused(huge).code == "too_large"
    assert "MULTI" in str(refused(dicom(picture(), "MULTISPECTRAL")))
    assert refused(dicom(picture(), Rows=900)).code == "unreadable"


def test_without_pydicom_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "pydicom" else find(name)
    )
    error = refused(dicom(picture()))
    assert error.code == "unsupported"
    assert "lesion-classifier[dicom]" in str(error)
    assert patient_of(dicom(picture())) == ""


def test_the_patient_is_told_to_who_asks_and_never_in_a_failure() -> None:
    data = dicom(picture())
    assert patient_of(data) == PATIENT
    assert patient_of(image_bytes(1)) == ""
    assert patient_of(data[:200]) == ""


def test_real_files_give_the_picture_that_all_of_them_show(real_data: Path) -> None:
    """Of one picture: bands of red, green, blue and black, in six encodings."""
    folder = real_data / "data" / "robustness" / "pydicom"
    names = [
        "SC_rgb_rle_16bit", "SC_rgb_jpeg_dcmtk", "SC_rgb_gdcm_KY", "SC_rgb_jls_lossy_sample",
        "SC_rgb_dcmtk_+eb+cy+s2", "SC_ybr_full_422_uncompressed", "SC_rgb_dcmtk_+eb+cr",
    ]  # fmt: skip
    found = [load_pixels(folder / f"{name}.dcm", 20).astype(int) for name in names]
    for name, pixels in zip(names, found, strict=True):
        assert np.abs(pixels - found[0]).mean() < 3, name
    with pytest.raises(UnreadableImage) as film:
        load_pixels(folder / "examples_ybr_color.dcm", 20)
    assert "30 frames" in str(film.value)
    assert load_pixels(folder / "examples_palette.dcm", 64).std() > 10
