"""Captions parsed into phrases by Stanza's models."""
