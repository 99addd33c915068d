"""Writes and verifies model files, and these in other formats. Most needs the `train` extra."""
