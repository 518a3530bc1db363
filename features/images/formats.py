"""Files that Pillow can't read: what they are, and what reads them if it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Final

from features.errors import UnreadableImage

__all__ = [
    "IMAGE_SUFFIXES",
    "NOT_READ",
    "is_heif",
    "named",
    "not_an_image",
    "raw_camera",
    "require_heif",
]

IMAGE_SUFFIXES: Final = frozenset(
    f".{ending}"
    for ending in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "tif", "tiff", "bmp", "webp", "gif"),
        *("ppm", "pgm", "avif", "jp2", "j2k", "heic", "heif", "hif", "dcm", "dicom"),
    )
)
# Endings of images that aren't read, which is told of those that lie in a folder.
_RAW: Final = (
    *("cr2", "cr3", "crw", "nef", "nrw", "arw", "sr2", "dng", "raf", "orf", "rw2", "pef", "srw"),
    *("x3f", "3fr", "iiq", "mrw"),
)
NOT_READ: Final = {
    **{f".{ending}": f"a raw file of a camera ({ending.upper()})" for ending in _RAW},
    ".jxl": "JPEG XL",
}
_HEIF_BRANDS: Final = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"mif2"}
)
_JPEG_XL: Final = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")
_RAW_STARTS: Final = {
    b"FUJIFILMCCD-RAW": "a raw file of a Fujifilm camera (RAF)",
    b"FOVb": "a raw file of a Sigma camera (X3F)",
    b"\0MRM": "a raw file of a Minolta camera (MRW)",
    b"IIRO": "a raw file of an Olympus camera (ORF)",
    b"IIRS": "a raw file of an Olympus camera (ORF)",
    b"MMOR": "a raw file of an Olympus camera (ORF)",
    b"IIU\0": "a raw file of a Panasonic camera (RW2)",
}
# Raw files of these are TIFF inside, with a small preview that must not be taken for the picture.
_MAKERS: Final = {
    b"NIKON": "a Nikon camera (NEF)",
    b"SONY": "a Sony camera (ARW)",
    b"PENTAX": "a Pentax camera (PEF)",
    b"SAMSUNG": "a Samsung camera (SRW)",
    b"Hasselblad": "a Hasselblad camera (3FR)",
    b"Phase One": "a Phase One camera (IIQ)",
    b"EASTMAN KODAK": "a Kodak camera (DCR)",
}


def is_heif(data: bytes) -> bool:
    """Tell whether a file is HEIF, such as HEIC of phones."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS


def require_heif() -> None:
    """Let Pillow read HEIF.

    Raises
    ------
    UnreadableImage
        If pillow-heif is not installed.
    """
    if importlib.util.find_spec("pillow_heif") is None:
        raise UnreadableImage(
            "unsupported",
            "this is a HEIF file, as phones make them (HEIC): run "
            "`pip install lesion-classifier[heif]` to read such, or export it as JPEG",
        )
    found = importlib.import_module("pillow_heif")
    found.register_heif_opener(thumbnails=False)


def named(data: bytes) -> str | None:
    """Say what a file is that can't be read, as far as its first bytes tell."""
    if data.startswith(_JPEG_XL):
        return "JPEG XL"
    if data.startswith(b"%PDF"):
        return "PDF"
    if b"<svg" in data[:1000]:
        return "SVG"
    return raw_camera(data)


def not_an_image(data: bytes) -> UnreadableImage:
    """Say why a file that Pillow doesn't know can't be read."""
    if (what := named(data)) is not None:
        return UnreadableImage(
            "unsupported", f"the file is {what}, which isn't supported: export it as JPEG or PNG"
        )
    if data.startswith(b"PK\x03\x04") or data[257:262] == b"ustar":
        return UnreadableImage("not_an_image", "the file is an archive: unpack it")
    return UnreadableImage("not_an_image", "the file is not an image, or its header is damaged")


def raw_camera(data: bytes) -> str | None:
    """Name the kind of a camera's raw file; None if it is none."""
    for start, what in _RAW_STARTS.items():
        if data.startswith(start):
            return what
    if data[4:12] == b"ftypcrx ":
        return "a raw file of a Canon camera (CR3)"
    if data[:4] not in {b"II*\0", b"MM\0*"}:
        return None
    if data[8:10] == b"CR":
        return "a raw file of a Canon camera (CR2)"
    return _raw_tiff(data)


def _raw_tiff(data: bytes) -> str | None:
    """Look into the first directory of a TIFF file for what raw files have there."""
    order = "little" if data[:2] == b"II" else "big"

    def number(place: int, size: int) -> int:
        return int.from_bytes(data[place : place + size], order)  # type: ignore[arg-type]

    directory = number(4, 4)
    tags: dict[int, int] = {}
    for place in range(directory + 2, directory + 2 + 12 * min(number(directory, 2), 200), 12):
        tags[number(place, 2)] = place
    if 50706 in tags:
        return "a raw file (DNG)"
    if 330 not in tags and 34665 not in tags:
        return None
    maker = b""
    if 271 in tags:
        place = tags[271]
        long = number(place + 4, 4)
        start = number(place + 8, 4) if long > 4 else place + 8
        maker = data[start : start + min(long, 40)]
    preview = 254 in tags and number(tags[254] + 8, 4) & 1
    raw = next((what for name, what in _MAKERS.items() if maker.startswith(name)), None)
    # A finished TIFF of such a camera has its full picture first.
    return f"a raw file of {raw}" if raw and (preview or 330 in tags) else None
