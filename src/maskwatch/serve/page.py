"""The page of the service."""

from __future__ import annotations

from fastapi import FastAPI

from maskwatch.serve.settings import ServeSettings


def mount_page(app: FastAPI, settings: ServeSettings) -> None:
    """Adds the page's files to an app."""
    del app, settings
