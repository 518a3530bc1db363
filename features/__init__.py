"""Everything from image files to the cached embeddings."""
