"""Files of phones and cameras."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features.datasets.folders import find_images
from features.datasets.plan import lines, summarise
from features.errors import DatasetError, UnreadableImage
from features.images.decoding import decode, load_pixels
from features.images.formats import require_heif
from tests.pictures import image_bytes


def heic(picture: Image.Image, **options: object) -> bytes:
    require_heif()
    file = io.BytesIO()
    picture.save(file, "HEIF", quality=95, **options)
    return file.getvalue()


def test_heif_is_read_like_a_jpeg_of_it() -> None:
    picture = Image.open(io.BytesIO(image_bytes(3, (320, 240), "PNG"))).convert("RGB")
    found = decode(heic(picture), 64)
    assert (found.width, found.height) == (320, 240)
    expected = np.asarray(picture.resize((64, 64), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(found.pixels - expected).mean() < 3


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_phone_s_picture_is_shown_upright_once(orientation: int) -> None:
    picture = Image.new("RGB", (160, 80), "white")
    picture.paste((255, 0, 0), (0, 0, 80, 80))
    turned = {
        1: picture,
        3: picture.transpose(Image.Transpose.ROTATE_180),
        6: picture.transpose(Image.Transpose.ROTATE_90),
        8: picture.transpose(Image.Transpose.ROTATE_270),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(heic(turned, exif=exif.tobytes()), 40)
    assert (found.width, found.height) == (160, 80)
    assert found.pixels[20, 5, 1] < 60
    assert found.pixels[20, 35, 1] > 200


def test_a_real_heif_file_is_read(real_data: Path) -> None:
    folder = real_data / "data" / "robustness" / "pillow"
    found = load_pixels(folder / "hopper.heif", 64).astype(int)
    assert np.abs(found - load_pixels(folder / "hopper.webp", 64)).mean() < 12


def test_without_the_library_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(Image.new("RGB", (64, 64), "red"))
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "pillow_heif" else find(name)
    )
    with pytest.raises(UnreadableImage, match=r"lesion-classifier\[heif\]") as error:
        load_pixels(data, 8)
    assert error.value.code == "unsupported"


def raw(maker: bytes = b"", *, tags: dict[int, int] | None = None, mark: bytes = b"") -> bytes:
    """A TIFF file with a small picture that can be read, and what raw files have besides."""
    preview = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(preview, "TIFF")
    data = bytearray(preview.getvalue())
    directory = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, directory)[0]
    old = bytes(data[directory + 2 : directory + 2 + 12 * count])
    entries = {
        struct.unpack_from("<H", old, at)[0]: old[at : at + 12] for at in range(0, len(old), 12)
    }
    if maker:
        entries[271] = struct.pack("<HHII", 271, 2, len(maker) + 1, len(data))
        data += maker + b"\0" * (1 + len(maker) % 2)
    for tag, value in (tags or {}).items():
        entries[tag] = struct.pack("<HHII", tag, 4, 1, value)
    struct.pack_into("<I", data, 4, len(data))
    data += struct.pack("<H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries))
    data += bytes(4)
    data[8 : 8 + len(mark)] = mark
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (raw(b"Canon", mark=b"CR\x02\0"), "CR2"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + bytes(90), "CR3"),
        (raw(b"NIKON CORPORATION", tags={254: 1, 330: 8}), "NEF"),
        (raw(b"SONY", tags={254: 1, 330: 8}), "ARW"),
        (raw(b"PENTAX Corporation", tags={254: 1, 330: 8}), "PEF"),
        (raw(b"Apple", tags={50706: 0x00000401, 254: 1}), "DNG"),
        (b"FUJIFILMCCD-RAW 0201FF" + bytes(90), "RAF"),
        (b"IIRO\x08\0\0\0" + bytes(90), "ORF"),
        (b"IIU\0\x18\0\0\0" + bytes(90), "RW2"),
        (b"\xff\x0a" + bytes(90), "JPEG XL"),
    ],
)
def test_what_a_camera_keeps_for_itself_is_named_and_not_read_by_its_preview(
    data: bytes, name: str
) -> None:
    with pytest.raises(UnreadableImage, match=name) as error:
        load_pixels(data, 8)
    assert error.value.code == "unsupported"
    assert "JPEG or PNG" in str(error.value)


def test_a_finished_tiff_of_a_camera_is_read() -> None:
    for data in (raw(b"NIKON CORPORATION"), raw(b"SONY", tags={254: 0}), raw(tags={34665: 8})):
        assert load_pixels(data, 8)[4, 4].tolist() == [255, 0, 0]


def test_raw_files_beside_pictures_are_told_and_alone_refused(tmp_path: Path) -> None:
    (tmp_path / "nevus").mkdir()
    (tmp_path / "nevus/1.CR2").write_bytes(raw(b"Canon", mark=b"CR\x02\0"))
    with pytest.raises(DatasetError, match=r"1\.CR2 is a raw file of a camera \(CR2\)"):
        find_images(tmp_path)
    (tmp_path / "nevus/1.JPG").write_bytes(image_bytes(1))
    found = find_images(tmp_path)
    assert [item.path for item in found.items] == ["nevus/1.JPG"]
    assert any("raw file of a camera (CR2)" in line for line in lines(summarise(found)))
