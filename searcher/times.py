"""Moments, stored in UTC, exchanged with `Z`, shown in a terminal in the reader's zone."""

import logging
import time
from datetime import UTC, datetime

__all__ = ["UtcFormatter", "in_utc", "local_text", "utc_text"]


class UtcFormatter(logging.Formatter):
    """Writes `asctime` in UTC and says so, such as `2026-11-28 00:43:37.123Z`: nodes may be in several zones."""

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"


def in_utc(moment: datetime) -> datetime:
    """Return a moment with its zone, UTC. One without a zone is taken to be in UTC, as the database has it."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def utc_text(moment: datetime | None) -> str | None:
    """Return a moment for JSON in ISO 8601, such as `2026-11-28T00:43:37.123456Z`; None for None."""
    return None if moment is None else in_utc(moment).isoformat().replace("+00:00", "Z")


def local_text(moment: datetime | None) -> str:
    """Return a moment for a person, in this machine's zone, which is said: `2026-11-28 09:43 JST`; "" for None."""
    if moment is None:
        return ""
    local = in_utc(moment).astimezone()
    return f"{local:%Y-%m-%d %H:%M} {local.tzname() or f'{local:%z}'}"
