"""From a file to pixels: the only decoder, for training and serving; what a picture shows.

colour: AS_IS, COLOURS
decoding: Decoded, Frame, IMAGE_SUFFIXES, MAX_PIXELS, PIXELS_VERSION, Pixels, READER_VERSION,
    decode, load_pixels
dicom: patient_of
formats: NOT_READ
lesion: Box, WHOLE
quality: Fault, Hint, Quality, check_quality, is_nearly_black
thumbnails: Thumbnail, data_uri, thumbnail
Within the room: depth, strict
"""
