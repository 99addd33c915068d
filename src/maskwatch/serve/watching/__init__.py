"""Watching cameras beside serving."""
