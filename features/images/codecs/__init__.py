"""Files of every format opened and loaded, damage told from what does no harm.

dicom: patient_of
opening: explained, loaded, opened, orientation, require_size
Within the room: depth, strict
"""
