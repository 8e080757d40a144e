"""Whether the driver of a launch is still there.

There are two ways. The driver's process is checked where it can be seen (same machine, same process namespace); that
needs no clock. Elsewhere only its lease can be checked, by the database's clock. That clock may jump, so an old lease
alone is no proof that the driver is gone. `Lease.acquire` then watches whether it is renewed.
"""

import os
import socket
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import psutil

from searcher.ledger.tables import LaunchRow

__all__ = ["EXPIRES_AFTER_S", "driver_is_gone", "driver_state", "own_process"]

EXPIRES_AFTER_S = 90.0
"""Seconds without a renewal after which a driver that cannot be seen no longer counts as alive."""

_PROC = Path("/proc")


def own_process() -> tuple[str, float]:
    """Return the namespace in which this process's number is valid, and the process's start time in seconds."""
    start = _start_and_state(os.getpid())
    assert start is not None, "this process exists"
    return _process_space(), start[0]


def driver_state(launch: LaunchRow, now: datetime) -> Literal["alive", "gone", "uncertain"]:
    """Return whether the driver of a launch without an end is alive, gone or uncertain.

    Args:
        launch: The launch.
        now: The present moment by the database's clock.
    """
    seen = _seen_state(launch)
    if seen is not None:
        return seen
    is_fresh = timedelta(0) <= now - launch.renewed_at < timedelta(seconds=EXPIRES_AFTER_S)
    return "alive" if is_fresh else "uncertain"


def driver_is_gone(launch: LaunchRow, now: datetime) -> bool:
    """Return whether the driver of a launch without an end seems to be gone. For display; not safe to act on.

    Args:
        launch: The launch.
        now: The present moment by the database's clock.
    """
    seen = _seen_state(launch)
    if seen is not None:
        return seen == "gone"
    return now - launch.renewed_at >= timedelta(seconds=EXPIRES_AFTER_S)


def _seen_state(launch: LaunchRow) -> Literal["alive", "gone"] | None:
    """Return the state of the driver by its process, None if the process cannot be seen."""
    if launch.process_space is None:
        return _seen_state_before_0002(launch)
    if launch.process_space != _process_space():
        return None
    try:
        found = _start_and_state(launch.pid)
    except PermissionError:
        return None
    if found is None:
        return "gone"
    start, is_zombie = found
    same = (
        abs(start - launch.process_started) < 0.005
    )  # half a tick: else the number passed to another process
    return "alive" if same and not is_zombie else "gone"


def _seen_state_before_0002(launch: LaunchRow) -> Literal["alive", "gone"] | None:
    """Judge as the released version that wrote the row did: by host, and by the start on the host's clock."""
    if launch.host != socket.gethostname():
        return None
    try:
        process = psutil.Process(launch.pid)
        same = abs(process.create_time() - launch.process_started) <= 1.0
        return "alive" if same and process.status() != psutil.STATUS_ZOMBIE else "gone"
    except psutil.NoSuchProcess:
        return "gone"


def _process_space() -> str:
    """Return an identifier of this boot of this machine, and of this process namespace."""
    return " ".join(part for part in (_boot_and_namespace(), socket.gethostname()) if part)


def _boot_and_namespace() -> str | None:
    """Return None where there is no /proc, such as on macOS."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return None


def _start_and_state(pid: int) -> tuple[float, bool] | None:
    """Return when a process began, and whether it is a zombie; None if there is no such process.

    With /proc the start is in seconds since boot, which no clock changes. psutil's `create_time` is since the epoch,
    and changes with the clock on Linux. Elsewhere psutil's is what there is.

    Raises:
        PermissionError: There is one, but it does not show itself (/proc is mounted with hidepid).
    """
    if _boot_and_namespace() is None:
        return _start_and_state_without_proc(pid)
    try:
        # The second field, the name in parentheses, may hold spaces and parentheses itself. See proc_pid_stat(5).
        state, *fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if psutil.pid_exists(pid):
            raise PermissionError(f"process {pid} does not show itself") from None
        return None
    return int(fields[18]) / os.sysconf("SC_CLK_TCK"), state in "ZX"


def _start_and_state_without_proc(pid: int) -> tuple[float, bool] | None:
    try:
        process = psutil.Process(pid)
        return process.create_time(), process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        raise PermissionError(f"process {pid} does not show itself") from None
