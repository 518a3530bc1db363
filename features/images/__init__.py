"""From a file to pixels: the only decoder, for training and serving; what a picture shows.

colour: AS_IS, COLOURS, SHADES_OF_GREY
decoding: Decoded, Frame, IMAGE_SUFFIXES, MAX_PIXELS, PIXELS_VERSION, Pixels, decode, load_pixels,
    read_file
lesion: Box, WHOLE
quality: Quality, check_quality
Within the room: strict
"""
