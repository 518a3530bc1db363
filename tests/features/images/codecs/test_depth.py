"""Ten, twelve or fourteen bits in sixteen."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.images.codecs.depth import FULL, over_range, range_of
from features.images.decoding import decode, load_pixels

SIDE = 16


def samples(bits: int, channels: int) -> np.ndarray:
    """Draw a picture from black to white, of so many bits."""
    ramp = np.linspace(0, 2**bits - 1, SIDE * SIDE).round().reshape(SIDE, SIDE, 1)
    shares = np.array([1.0, 0.6, 0.3])[:channels]
    return (ramp * shares).round().astype(np.uint16)


def png(levels: np.ndarray, significant: int | None = None) -> bytes:
    height, width, channels = levels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]

    def chunk(name: bytes, body: bytes) -> bytes:
        check = zlib.crc32(name + body)
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    stated = b"" if significant is None else chunk(b"sBIT", bytes([significant] * channels))
    data = chunk(b"IHDR", header) + stated + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


def tiff(
    levels: np.ndarray,
    order: str = "<",
    *,
    deflate: bool = False,
    tags: dict[int, int] | None = None,
) -> bytes:
    height, width, channels = levels.shape
    body = levels.astype(f"{order}u2").tobytes()
    if deflate:
        body = zlib.compress(body)
    fields: list[tuple[int, int, list[int]]] = [
        (256, 3, [width]),
        (257, 3, [height]),
        (258, 3, [16] * channels),
        (259, 3, [8 if deflate else 1]),
        (262, 3, [2 if channels > 2 else 1]),
        (273, 4, [8]),
        (277, 3, [channels]),
        (278, 3, [height]),
        (279, 4, [len(body)]),
        *((tag, 3, [value] * channels) for tag, value in (tags or {}).items()),
    ]
    start = 8 + len(body) + len(body) % 2
    beyond = start + 2 + 12 * len(fields) + 4
    entries, more = b"", b""
    for tag, kind, values in sorted(fields):
        packed = struct.pack(order + {3: "H", 4: "I"}[kind] * len(values), *values)
        if len(packed) > 4:
            place = struct.pack(order + "I", beyond + len(more))
            more += packed
        else:
            place = packed.ljust(4, b"\0")
        entries += struct.pack(order + "HHI", tag, kind, len(values)) + place
    header = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    directory = struct.pack(order + "H", len(fields)) + entries + bytes(4)
    return header + body.ljust(start - 8, b"\0") + directory + more


def expected(bits: int, channels: int) -> np.ndarray:
    eight = np.rint(samples(bits, channels).astype(float) * 255 / (2**bits - 1))
    return np.broadcast_to(eight, (SIDE, SIDE, 3)).astype(np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("form", ["png", "tiff <", "tiff >", "tiff deflated"])
def test_the_range_that_the_samples_show_is_used_and_said(
    form: str, bits: int, channels: int
) -> None:
    levels = samples(bits, channels)
    data = {
        "png": lambda: png(levels),
        "tiff <": lambda: tiff(levels, "<"),
        "tiff >": lambda: tiff(levels, ">"),
        "tiff deflated": lambda: tiff(levels, deflate=True),
    }[form]()
    found = decode(data, SIDE)
    np.testing.assert_array_equal(found.pixels, expected(bits, channels))
    assert found.notes == (f"{bits} bits in 16: read over the range from 0 to {2**bits - 1}",)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_range_that_the_file_states_goes_before_what_it_shows(channels: int) -> None:
    dim = samples(12, channels) // 8  # within ten bits, of twelve
    for data in (
        png(dim, significant=12),
        tiff(dim, tags={281: 4095}),
        tiff(dim, tags={341: 4095}),
    ):
        found = load_pixels(data, SIDE)
        assert abs(int(found.max()) - 255 // 8) <= 1
    odd = decode(tiff(samples(12, channels), tags={281: 4095, 280: 0}), SIDE)
    np.testing.assert_array_equal(odd.pixels, expected(12, channels))
    stated = decode(tiff(samples(12, channels) // 2, tags={281: 3000}), SIDE)
    assert stated.notes == ("less than 16 bits in 16: read over the range from 0 to 3000",)
    assert abs(int(stated.pixels.max()) - 2047 * 255 // 3000) <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_what_fills_sixteen_bits_is_read_as_before(channels: int) -> None:
    levels = samples(16, channels)
    for data in (
        png(levels),
        # By the standard twelve significant bits are scaled up to sixteen.
        png(levels, significant=12),
        tiff(levels),
        tiff(levels // 20, tags={281: FULL}),
    ):
        assert decode(data, SIDE).notes == ()
    upper = levels >> 8 if channels == 3 else (levels.astype(int) + 128) // 257
    shown = np.broadcast_to(upper, (SIDE, SIDE, 3))
    np.testing.assert_array_equal(load_pixels(png(levels), SIDE), shown)
    np.testing.assert_array_equal(load_pixels(tiff(levels), SIDE), shown)


def test_eight_bits_in_sixteen_are_read_as_eight() -> None:
    for channels in (1, 3):
        levels = samples(8, channels)
        for data in (png(levels), tiff(levels)):
            found = decode(data, SIDE)
            np.testing.assert_array_equal(found.pixels, expected(8, channels))
            assert found.notes == ()


@pytest.mark.parametrize("opaque", [4095, 65535])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_alpha_channel_may_have_a_range_of_its_own(channels: int, opaque: int) -> None:
    alpha = np.full((SIDE, SIDE, 1), opaque, np.uint16)
    data = png(np.concatenate([samples(12, channels), alpha], axis=2))
    np.testing.assert_array_equal(load_pixels(data, SIDE), expected(12, channels))


@given(st.integers(0, FULL), st.one_of(st.none(), st.integers(256, FULL)))
def test_white_is_never_below_a_sample(largest: int, stated: int | None) -> None:
    top = range_of(largest, stated)
    assert largest <= top <= FULL
    assert over_range(np.array([0, top], np.uint16), top).tolist() == [0, 255]


def test_the_whole_range_is_scaled_as_it_always_was() -> None:
    every = np.arange(FULL + 1, dtype=np.uint16)
    np.testing.assert_array_equal(over_range(every, FULL), (every.astype(int) + 128) // 257)


def test_a_real_jpeg_2000_of_ten_bits_is_seen(real_data: Path) -> None:
    folder = real_data / "data" / "robustness" / "pillow"
    found = decode(folder / "16bit.cropped.jp2", 64)
    assert found.notes == ("10 bits in 16: read over the range from 0 to 1023",)
    assert found.pixels.max() == round(694 * 255 / 1023)
    assert decode(folder / "tiff_16bit_RGB.tiff", 64).notes == ()
