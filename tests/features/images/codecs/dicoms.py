"""DICOM files made for tests."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

PATIENT = "Doe-1234-not-to-be-kept"


def dicom(samples: np.ndarray, kind: str = "RGB", **more: Any) -> bytes:
    """Write samples as a DICOM file without compression.

    Parameters
    ----------
    samples : ndarray of uint8, int16 or uint16, shape (rows, columns) or (rows, columns, 3)
    kind : str
        Photometric interpretation.
    **more
        Further elements by keyword, or others than those that follow from the samples.
    """
    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    file.SOPClassUID, file.SOPInstanceUID = SecondaryCaptureImageStorage, "1.2.3.4"
    file.PatientID, file.PatientName, file.Modality = PATIENT, "Doe^Jane", "XC"
    file.Rows, file.Columns = samples.shape[:2]
    file.SamplesPerPixel = 3 if samples.ndim == 3 else 1
    if samples.ndim == 3:
        file.PlanarConfiguration = 0
    file.PhotometricInterpretation = kind
    file.BitsAllocated = file.BitsStored = 8 * samples.itemsize
    file.PixelRepresentation = int(samples.dtype.kind == "i")
    file.PixelData = samples.tobytes() + b"\0" * (samples.nbytes % 2)
    for name, value in more.items():
        setattr(file, name, value)
    file.HighBit = file.BitsStored - 1
    content = io.BytesIO()
    file.save_as(content, enforce_file_format=True)
    return content.getvalue()
