"""Checks of every transaction: the database is still the one that was opened, and the lease is still ours.

Both checks are part of each transaction, of our code and of Optuna's, because they are attached to the engines. A
driver that stood still while another one took its study over, a suspended laptop's say, can so write nothing any more.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Engine

from searcher.ledger.address import DatabaseAddress
from searcher.ledger.sqlite_file import FileIdentity

__all__ = ["BUSY_TIMEOUT_S", "TransactionGuard"]

BUSY_TIMEOUT_S = 5
"""How long one statement waits for another process's lock. The driver waits longer, and logs it."""
FROZEN_TIMEOUT_S = 60
"""How long PostgreSQL waits for a process that stands still within a transaction, before it takes its locks away."""

_WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE)\b", re.IGNORECASE)
_FENCED, _LOG = "searcher_fenced", "searcher_log"
"""What is kept with a connection: whether the present transaction was checked; the inode of the log that it writes."""


@dataclass(frozen=True)
class _Fence:
    launch_id: int
    refuse: Callable[[bool], Exception]


class TransactionGuard:
    """Checks every transaction of an open database: same file, and the lease still ours. Shared by its engines."""

    def __init__(self, address: DatabaseAddress) -> None:
        self._address = address
        self._file: FileIdentity | None = None
        self._fences: dict[int, _Fence] = {}

    def opened(self) -> None:
        """Remember which file was opened: from now on the path must lead to that file."""
        if self._address.is_sqlite:
            self._file = FileIdentity.of(Path(self._address.sqlite_path).absolute())

    def fence(self, launch_id: int, refuse: Callable[[bool], Exception]) -> None:
        """From now until `unfence`, allow writes only while a launch has not ended.

        The launch's row is locked until the writing transaction has ended. A takeover ends the launch, so it happens
        completely before or completely after the transaction.

        Args:
            launch_id: Id of the launch; a later launch has a higher one.
            refuse: Called with True if the launch is in the database; returns the error to raise.
        """
        self._fences[launch_id] = _Fence(launch_id, refuse)

    def unfence(self, launch_id: int) -> None:
        """Remove the condition that `fence` set for a launch."""
        self._fences.pop(launch_id, None)

    def attach(self, engine: Engine) -> None:
        """Check every transaction of an engine from now on."""
        sa.event.listen(engine, "begin", self._begin, insert=True)  # before SQLite's own BEGIN
        sa.event.listen(engine, "before_cursor_execute", self._before_statement)

    # ---- what the engines call ---------------------------------------------------------------------------

    def _begin(self, connection: sa.Connection) -> None:
        connection.info[_FENCED] = False
        if self._file is not None:
            self._file.check()
            self._file.check_log(connection.info.get(_LOG))
        if not self._address.is_sqlite:
            # Of this transaction only: a pool of connections may stand between us and the server.
            connection.exec_driver_sql(
                f"SELECT set_config('lock_timeout', '{round(1000 * BUSY_TIMEOUT_S)}', true), "
                f"set_config('idle_in_transaction_session_timeout', '{round(1000 * FROZEN_TIMEOUT_S)}', true)"
            )

    def _before_statement(
        self, connection: sa.Connection, _cursor: Any, statement: str, _values: Any, context: Any, _many: bool
    ) -> None:
        writes = getattr(context, "is_crud", False) or _WRITES.match(statement)
        if not writes or connection.info.get(_FENCED):
            return
        raw: Any = connection.connection.dbapi_connection
        if (
            self._address.is_sqlite and not raw.in_transaction
        ):  # Optuna's: its check belongs into its transaction
            raw.execute("BEGIN IMMEDIATE")
        if self._file is not None and connection.info.get(_LOG) is None:
            connection.info[_LOG] = self._file.log_inode()
        for fence in list(self._fences.values()):
            row = self._launch(raw, fence.launch_id)
            if row is None or row[0] is not None:
                raise fence.refuse(row is not None)
        connection.info[_FENCED] = True

    def _launch(self, raw: Any, launch_id: int) -> Any:
        """Return the end of a launch in a tuple, None for no such launch; locks its row until the transaction ends."""
        query = "SELECT ended_at FROM searcher_launches WHERE id = "
        if self._address.is_sqlite:  # whose transaction holds the one write lock
            return raw.execute(f"{query}?", (launch_id,)).fetchone()
        return raw.execute(f"{query}%s FOR NO KEY UPDATE", (launch_id,)).fetchone()
