"""Moments, stored in UTC, exchanged with `Z`, shown in a terminal in the reader's zone."""

import logging
import time
from datetime import UTC, datetime

__all__ = ["UtcFormatter", "in_utc", "local_text", "utc_text"]


class UtcFormatter(logging.Formatter):
    """A log formatter that writes times in UTC with a `Z`, such as `2026-11-28 00:43:37.123Z`.

    Nodes of a cluster may be in several time zones.
    """

    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"


def in_utc(moment: datetime) -> datetime:
    """Return a time in UTC, with its zone. A time without a zone is taken as UTC, as in the database."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def utc_text(moment: datetime | None) -> str | None:
    """Return a time in ISO 8601 for JSON, such as `2026-11-28T00:43:37.123456Z`; None for None."""
    return None if moment is None else in_utc(moment).isoformat().replace("+00:00", "Z")


def local_text(moment: datetime | None) -> str:
    """Return a time for the user, with this machine's zone, such as `2026-11-28 09:43 JST`; empty for None."""
    if moment is None:
        return ""
    local = in_utc(moment).astimezone()
    return f"{local:%Y-%m-%d %H:%M} {local.tzname() or f'{local:%z}'}"
