"""The address of a study database: what people write, read strictly, and never shown with its password."""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from searcher.exceptions import DatabaseError
from searcher.extras import is_installed, need
from searcher.settings import without_frame

__all__ = ["DatabaseAddress", "holds_secret", "parse_url"]

_SQLITE, _POSTGRES = "sqlite", "postgresql+psycopg"
_SCHEMES: Final = {
    "sqlite": _SQLITE,
    "sqlite+pysqlite": _SQLITE,
    "postgres": _POSTGRES,
    "postgresql": _POSTGRES,
    "postgresql+psycopg": _POSTGRES,
}
_FORMS = "a path or a URL like postgresql://user@host/name"
_ESCAPES = (
    "write special characters of a password as %40 and the like: @ %40, / %2F, ? %3F, # %23, % %25, & %26"
)
_DEFAULT_PORT = "5432"
_COMMON_KEYWORDS = frozenset({"dbname", "host", "hostaddr", "password", "port", "service", "user"})
"""Of libpq's own form of an address: what one begins with, as a rule."""


class DatabaseAddress:
    """The address of a study database. Its text never shows a password, and it cannot be pickled.

    Args:
        url: URL of SQLite or PostgreSQL, from `parse_url`.
    """

    __slots__ = ("_url",)

    def __init__(self, url: URL) -> None:
        self._url = url

    @property
    def is_sqlite(self) -> bool:
        """Whether the database is an SQLite file; otherwise it is in PostgreSQL."""
        return self._url.drivername == _SQLITE

    @property
    def sqlite_path(self) -> str:
        """Path of the SQLite file, as the user wrote it."""
        assert self.is_sqlite
        return str(self._url.database)

    @property
    def options(self) -> Mapping[str, Any]:
        """The options after the `?` of the URL, including passwords."""
        return self._url.query

    @property
    def holds_secret(self) -> bool:
        """Whether the address contains a password."""
        return bool(self._url.password) or any(_is_secret(key) for key in self._url.query)

    def connect_arguments(self) -> dict[str, Any]:
        """Return the arguments for the database driver's `connect`, including the password."""
        dialect = self._url.get_dialect()()
        _, arguments = dialect.create_connect_args(self._url)
        return dict(arguments)

    def without_secrets(self, text: str) -> str:
        """Return a text, such as an error message, with this address's passwords replaced by `***`."""
        options = [str(value) for key, value in self._url.query.items() if _is_secret(key)]
        for secret in filter(None, [str(self._url.password or ""), *options]):
            for written in (secret, quote(secret, safe="")):
                text = text.replace(written, "***")
        return text

    def __str__(self) -> str:
        if self.is_sqlite and not self._url.query:
            return self.sqlite_path
        hidden = {key: "hidden" for key in self._url.query if _is_secret(key)}
        return self._url.update_query_dict(hidden).render_as_string(hide_password=True)

    def __repr__(self) -> str:
        return f"DatabaseAddress({self})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DatabaseAddress) and self._url == other._url

    def __hash__(self) -> int:
        return hash(self._url)

    def __reduce__(self) -> str:
        raise TypeError("a DatabaseAddress is not pickled: it would carry its password to a worker")


def parse_url(text: str | DatabaseAddress) -> DatabaseAddress:
    """Return the address for `--db` or `SEARCHER_DB`: a URL, libpq's `host=.. dbname=..`, or an SQLite file's path.

    The message of an error never shows the text, because it may contain a password.

    Raises:
        DatabaseError: The text is none of the three.
    """
    if isinstance(text, DatabaseAddress):
        return text
    text = without_frame(text)
    if "\0" in text:
        raise DatabaseError("--db: must be a path or a URL, got a character of code 0 in it; write it again")
    if re.fullmatch(r"([\"'`]).*\1", text, re.DOTALL):
        raise DatabaseError(
            "--db: must be an address without quotes around it, got some, as an env file leaves them; remove them"
        )
    if re.match(r"file:", text, re.IGNORECASE):
        raise DatabaseError(f"--db: must be {_FORMS}, got a file: URI; give the path alone")
    scheme, separator, rest = text.partition("://")
    if separator and re.fullmatch(r"[A-Za-z][\w+.-]*", scheme):
        return DatabaseAddress(_parsed(scheme.lower(), rest))
    if _is_conninfo(text):
        return DatabaseAddress(_of_conninfo(text))
    if separator or _is_url_without_scheme(text):
        raise DatabaseError(
            f"--db: must be {_FORMS}, got something between the two; begin it with postgresql://, or a path with ./"
        )
    return DatabaseAddress(_sqlite(text))


def holds_secret(text: str) -> bool:
    """Return whether an address, for `--db` or `SEARCHER_DB`, contains a password.

    Raises:
        DatabaseError: The text is no address.
    """
    return parse_url(text).holds_secret


def _is_url_without_scheme(text: str) -> bool:
    return bool(re.match(r"(postgres(ql)?(\+\w+)?|jdbc):|[^/\s]+:.*@", text, re.IGNORECASE | re.DOTALL))


def _parsed(scheme: str, rest: str) -> URL:
    if scheme not in _SCHEMES:
        raise DatabaseError(
            f"--db {scheme}://...: must be SQLite or PostgreSQL, got {scheme}; "
            "use a file path or postgresql://user@host/name"
        )
    driver = _SCHEMES[scheme]
    if driver == _SQLITE:
        return _sqlite(_made(f"sqlite://{rest}").database or "", _made(f"sqlite://{rest}").query)
    _check_postgres(rest)
    _need_driver()
    url = _of_several_hosts(driver, rest) or _made(f"{driver}://{rest}")
    _check_options(url)
    if "password" in url.query:  # where masking would not find it
        if not isinstance(url.query["password"], str) or url.password:
            raise DatabaseError("--db: must have one password, got several; write one")
        url = url.set(password=url.query["password"]).difference_update_query(["password"])
    return url


def _need_driver() -> None:
    need("postgres", "--db postgresql://...", error=DatabaseError)


def _check_options(url: URL) -> None:
    """Refuse options that PostgreSQL does not know: a password with & in it would be cut there, and its rest shown."""
    unknown = [key for key in url.query if key not in _libpq_keywords()]
    if not unknown:
        return
    got = "another" if any(map(_is_secret, url.query)) else unknown[0]
    raise DatabaseError(
        f"--db: must have only options that PostgreSQL knows behind the ?, got {got}; correct it, or {_ESCAPES}"
    )


def _check_postgres(rest: str) -> None:
    """Refuse a URL in which a part of the password would be read as the host."""
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    if rest.count("@") > 1 or "@" in rest[len(authority) :]:
        raise DatabaseError(
            f"--db: must have one @, before the host, with no / or ? before it, got others; {_ESCAPES}"
        )
    if re.search(r"[\x00-\x20\x7f]", rest):
        raise DatabaseError(
            "--db: must be a URL without white space, got some; write spaces as %20, or remove them"
        )
    if re.search(r"%(?![0-9A-Fa-f]{2})", rest):
        raise DatabaseError(f"--db: must have two hexadecimal digits after each %, got others; {_ESCAPES}")
    for _, port in _hosts(authority):
        if port and not (port.isascii() and port.isdigit() and 0 < int(port[:9]) < 65536):
            raise DatabaseError(
                f"--db: must be {_FORMS}, with a number between 1 and 65535 as port, got something else; {_ESCAPES}"
            )


def _hosts(authority: str) -> list[tuple[str, str]]:
    """Return hosts and ports, which may be empty, of `user:password@host:port,host:port`."""
    found = (
        re.fullmatch(r"(\[[^\]]*\]|[^:]*):?(.*)", part) for part in authority.rpartition("@")[2].split(",")
    )
    return [(match[1].strip("[]"), match[2]) for match in found if match is not None]


def _of_several_hosts(driver: str, rest: str) -> URL | None:
    """Return the URL for libpq's list of hosts, a primary and its standbys; None where there is one host.

    SQLAlchemy reads the list only from the query.
    """
    authority = re.split(r"[/?]", rest, maxsplit=1)[0]
    hosts = _hosts(authority)
    if len(hosts) < 2:
        return None
    user, at, _ = authority.rpartition("@")
    url = _made(f"{driver}://{user}{at}{rest[len(authority) :]}")
    lists = {"host": ",".join(host for host, _ in hosts)}
    if any(port for _, port in hosts):
        lists["port"] = ",".join(port or _DEFAULT_PORT for _, port in hosts)
    return url.set(query=lists | dict(url.query))


def _made(text: str) -> URL:
    try:
        return make_url(text)
    except (sa.exc.ArgumentError, ValueError):  # whose message may hold half a password
        raise DatabaseError(f"--db: must be {_FORMS}, got something else; {_ESCAPES}") from None


def _sqlite(path: str, query: Mapping[str, Any] | None = None) -> URL:
    if path in ("", ":memory:"):
        raise DatabaseError("--db sqlite://: must name a file, got a database in memory; give a path")
    return URL.create(_SQLITE, database=path, query=dict(query or {}))


def _is_conninfo(text: str) -> bool:
    keyword, equals, _ = text.partition("=")
    return bool(equals) and keyword.strip().lower() in _libpq_keywords()


@cache
def _libpq_keywords() -> frozenset[str]:
    """Return what libpq knows; of a plain install, by which an address is known that needs the extra."""
    if not is_installed("postgres"):
        return _COMMON_KEYWORDS
    import psycopg.pq

    return frozenset(option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults())


def _of_conninfo(text: str) -> URL:
    """Return the URL for libpq's own form of an address, such as `host=h user=u dbname=x`."""
    _need_driver()
    import psycopg.conninfo

    try:
        found = psycopg.conninfo.conninfo_to_dict(text)
    except psycopg.Error:  # whose message quotes what it cannot read
        raise DatabaseError(
            "--db: must be keywords and values like host=db.example user=u dbname=x, got something else; put values "
            "with spaces into single quotes"
        ) from None
    known = {key: str(value) for key, value in found.items() if value is not None}
    if "://" in known.get("dbname", "") or _is_conninfo(
        known.get("dbname", "")
    ):  # libpq would read it once more
        raise DatabaseError(
            "--db: must have a database's name as dbname, got another address; give that one alone"
        )
    return URL.create(
        _POSTGRES,
        username=known.pop("user", None),
        password=known.pop("password", None),
        database=known.pop("dbname", None),
        query=known,  # host and port among them, which may be a folder or lists
    )


def _is_secret(key: str) -> bool:
    """Return whether an option of the URL is a password: `sslpassword` is one, `passfile` names a file."""
    return "password" in key.lower() or key.lower() in (
        "oauth_client_secret",
        "scram_client_key",
        "scram_server_key",
    )
