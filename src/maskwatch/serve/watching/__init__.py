"""Watching cameras in the same process as the service."""
