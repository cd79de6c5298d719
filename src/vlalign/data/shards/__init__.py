"""A split on disk: tar shards, an index of each, the manifest, and how shards come to be there."""
