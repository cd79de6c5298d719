"""Adapters on frozen towers (CS-Aligner): what the towers give is computed once and kept."""
