"""DICOM files to pictures; of their header, nothing is kept."""

from __future__ import annotations

import importlib
import importlib.util
import io
import logging
import struct
import warnings
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from features.errors import UnreadableImage
from features.images.codecs.depth import FULL, over_range, range_of

__all__ = ["is_dicom", "load_dicom", "patient_of"]

_MAGIC: Final = slice(128, 132)
_GREY: Final = frozenset({"MONOCHROME1", "MONOCHROME2"})
_COLOUR: Final = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
# Unpacked on reading, to whatever size.
_DEFLATED: Final = b"1.2.840.10008.1.2.1.99"
_RUN_LENGTHS: Final = "1.2.840.10008.1.2.5"
_META: Final = slice(132, 4096)
_PATIENT_ID: Final = 0x00100020
_NEEDED: Final = "this is a DICOM file: run `pip install lesion-classifier[dicom]` to read such"
# What pydicom and its decoders are known to raise on damaged files.
_DAMAGE: Final = (
    OSError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, RuntimeError,
    MemoryError, AttributeError, AssertionError, struct.error,
)  # fmt: skip

Samples = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


def is_dicom(data: bytes) -> bool:
    """Tell whether a file is DICOM, by its preamble."""
    return data[_MAGIC] == b"DICM"


def patient_of(data: bytes) -> str:
    """Give the patient's number from the beginning of a DICOM file; empty if it can't be told.

    It names a person: whoever asks must neither show nor keep it.
    """
    if not is_dicom(data) or importlib.util.find_spec("pydicom") is None:
        return ""
    try:
        _pydicom()
        reader = importlib.import_module("pydicom.filereader")
        header = reader.read_partial(
            io.BytesIO(_harmless(data)),
            stop_when=lambda tag, *_: tag > _PATIENT_ID,
            specific_tags=[_PATIENT_ID],
        )
        return str(header.get("PatientID") or "").strip()
    except UnreadableImage:
        return ""
    except _damage():
        return ""


def load_dicom(data: bytes, max_pixels: int) -> Image.Image:
    """Decode the picture in a DICOM file as a viewer shows it.

    Samples go through the modality's rescaling or table and the first window or table of values of
    interest; MONOCHROME1 is turned over, palettes and YBR become RGB.

    Parameters
    ----------
    data : bytes
        The file's content.
    max_pixels : int
        A picture with more is refused before it is decoded.

    Returns
    -------
    Image
        Of eight bits a sample, with the file's colour profile if it has one.

    Raises
    ------
    UnreadableImage
        If the file holds no picture, several, or one of a kind that can't be shown; if pydicom is
        not installed.
    """
    pydicom = _pydicom()
    try:
        return _picture(pydicom.dcmread(io.BytesIO(_harmless(data))), pydicom.pixels, max_pixels)
    except _damage() as error:
        # What such an error says may be from the header, and so of the patient.
        raise UnreadableImage(
            "unreadable",
            "the DICOM file is damaged, or compressed in a way that isn't supported: "
            "export it as JPEG or PNG",
        ) from error


def _picture(file: Any, pixels: Any, max_pixels: int) -> Image.Image:
    if "PixelData" not in file:
        raise UnreadableImage("unsupported", "this DICOM file holds no picture: leave it out")
    frames = int(file.get("NumberOfFrames") or 1)
    if frames != 1:
        raise UnreadableImage(
            "unsupported",
            f"this DICOM file holds {frames} frames, and one picture is expected: "
            "export the one that counts",
        )
    if int(file.Rows) * int(file.Columns) > max_pixels:
        limit = f"{max_pixels // 1_000_000} megapixels"
        raise UnreadableImage(
            "too_large",
            f"{file.Columns} x {file.Rows} pixels are more than the {limit} allowed: scale it down",
        )
    kind, bits = str(file.PhotometricInterpretation), int(file.BitsAllocated)
    if bits > 16 or kind not in _GREY | _COLOUR | {"PALETTE COLOR"}:
        raise UnreadableImage(
            "unsupported",
            f"this DICOM file holds a picture of the kind {kind[:30]!r} with {bits} bits a sample, "
            "which isn't supported: export it as JPEG or PNG",
        )
    picture = Image.fromarray(_shown(file, kind, pixels))
    if isinstance(profile := file.get("ICCProfile"), bytes):
        picture.info["icc_profile"] = profile
    return picture


def _pydicom() -> Any:
    if importlib.util.find_spec("pydicom") is None:
        raise UnreadableImage("unsupported", _NEEDED)
    # Odd values are met where they count; of the rest of the header nothing is wanted.
    warnings.filterwarnings("ignore", module="pydicom")
    found = importlib.import_module("pydicom")
    importlib.import_module("pydicom.pixels")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    found.config.settings.reading_validation_mode = found.config.IGNORE
    return found


def _damage() -> tuple[type[Exception], ...]:
    errors = importlib.import_module("pydicom.errors")
    return (*_DAMAGE, errors.BytesLengthException, errors.InvalidDicomError)


def _harmless(data: bytes) -> bytes:
    if _DEFLATED in data[_META]:
        raise UnreadableImage(
            "unsupported",
            "this DICOM file is deflated as a whole, which isn't supported: export it otherwise",
        )
    return data


def _shown(file: Any, kind: str, pixels: Any) -> Bytes:
    if file.file_meta.TransferSyntaxUID == _RUN_LENGTHS:
        # Of its decoders, the one in Rust panics on damaged data, which nothing catches.
        file.pixel_array_options(decoding_plugin="pydicom")
    samples: Samples = file.pixel_array
    if kind == "PALETTE COLOR":
        coloured: Samples = pixels.apply_color_lut(samples, file)
        return over_range(coloured.astype(np.uint16), 255 if coloured.itemsize == 1 else FULL)
    if kind in _COLOUR:
        if samples.ndim != 3 or samples.shape[2] != 3:
            raise ValueError("its samples are not three for each pixel")
        return _scaled(samples, file)
    if samples.ndim != 2:
        raise ValueError("its samples are not one for each pixel")
    grey = _windowed(pixels.apply_modality_lut(samples, file), file, pixels)
    if grey is None:
        signed = samples.dtype.kind == "i" and int(samples.min(initial=0)) < 0
        grey = _stretched(samples) if signed else _scaled(samples, file)
    inverse: Bytes = 255 - grey
    return inverse if kind == "MONOCHROME1" else grey


def _windowed(values: Samples, file: Any, pixels: Any) -> Bytes | None:
    """Apply the first table or window of values of interest; None if there is none."""
    if file.get("VOILUTSequence"):
        descriptor = file.VOILUTSequence[0].LUTDescriptor
        shown = pixels.apply_voi(values, file)
        return _eight(shown.astype(np.float64) / (2 ** int(descriptor[2]) - 1))
    centre, width = _first(file.get("WindowCenter")), _first(file.get("WindowWidth"))
    if centre is None or width is None or not width >= 1:
        return None
    numbers: Floats = values.astype(np.float64)
    function = str(file.get("VOILUTFunction") or "LINEAR").upper()
    if function == "SIGMOID":
        return _eight(1 / (1 + np.exp((-4 * (numbers - centre) / width).clip(-700, 700))))
    if function == "LINEAR_EXACT":
        return _eight((numbers - centre) / width + 0.5)
    return _eight((numbers - (centre - 0.5)) / max(width - 1, 1e-9) + 0.5)


def _first(value: Any) -> float | None:
    if value is None or value == "":
        return None
    return float(value if isinstance(value, (str, int, float)) else value[0])


def _eight(shares: Floats) -> Bytes:
    found: Bytes = np.rint(shares.clip(0, 1) * 255).astype(np.uint8)
    return found


def _scaled(samples: Samples, file: Any) -> Bytes:
    if samples.dtype == np.uint8:
        return samples
    bits = int(file.BitsStored)
    stated = 2**bits - 1 if 8 < bits < 16 else None
    levels = samples.clip(0, 65535).astype(np.uint16)
    return over_range(levels, range_of(int(levels.max(initial=0)), stated))


def _stretched(samples: Samples) -> Bytes:
    numbers: Floats = samples.astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    return _eight((numbers - low) / max(high - low, 1))
