"""A user's own images, listed by a folder, a table or an annotation file, as shards."""
