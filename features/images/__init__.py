"""From a file to pixels: the only decoder, for training and serving; what a picture shows.

colour: AS_IS, COLOURS
decoding: Decoded, Frame, IMAGE_SUFFIXES, MAX_PIXELS, PIXELS_VERSION, Pixels, decode, load_pixels,
    read_file
lesion: Box, WHOLE
quality: Fault, Hint, Quality, check_quality
thumbnails: Thumbnail, data_uri, thumbnail
Within the room: strict
"""
