"""Whether a file's bytes are what was written: of the whole file, and of its parts.

checksums: CHUNK_ROWS, altered_parts, in_chunks, row_checksum, write_checksums
seal: SEAL_SIZE, is_intact, seal_bytes, seal_file, sealed_version
"""
