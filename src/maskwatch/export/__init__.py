"""Writes and verifies model files of trained networks. Needs the `train` extra."""
