"""From a file to pixels: the only decoder, for training and serving; what a picture shows.

colour: AS_IS, COLOURS
decoding: Decoded, Frame, MAX_PIXELS, PIXELS_VERSION, Pixels, READER_VERSION,
    decode, decode_each, load_pixels
formats: IMAGE_SUFFIXES, NOT_READ
lesion: Box, WHOLE
processes: Readers, kept_workers, usable_cores
quality: Fault, Hint, Quality, check_quality
reading: AHEAD_IN_THE_CLOUD, FileState, Read, file_state, remote_state
thumbnails: Thumbnail, data_uri, thumbnail
Within the room: frames
"""
