"""Headers of HTTP responses."""

from __future__ import annotations

import email.utils
import time


def retry_after_s(text: str | None) -> float | None:
    """Seconds of the header Retry-After: a number, or a date (RFC 9110, section 10.2.3); None if invalid."""
    if text is None:
        return None
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None
