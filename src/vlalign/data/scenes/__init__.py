"""The embedded dataset: scenes of OpenMoji artwork with captions, phrases and referents that are known."""
