"""Whether the driver of a launch is still there."""

import socket
from datetime import timedelta

import psutil

from searcher.ledger.tables import LaunchRow, utc_now

__all__ = ["driver_is_gone"]

_EXPIRES_AFTER_S = 90.0
"""A driver on another host that has not renewed its lease for as long counts as gone."""


def driver_is_gone(launch: LaunchRow) -> bool:
    """Return whether a launch without an end has lost its driver.

    On this host the process itself is looked at (a number may have been given to another process since, and a
    zombie drives nothing); on another host only the age of its last renewal tells.
    """
    if launch.host != socket.gethostname():
        return utc_now() - launch.renewed_at > timedelta(seconds=_EXPIRES_AFTER_S)
    try:
        process = psutil.Process(launch.pid)
        same = abs(process.create_time() - launch.process_started) <= 1.0
        return not same or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
