"""Access to the dashboard: only with the token."""

import hmac
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Self

from searcher.exceptions import UserError

__all__ = ["MIN_TOKEN_LENGTH", "Access"]

MIN_TOKEN_LENGTH = 16
"""Of a token that a person chose: there is no limit on guesses."""


class Access:
    """The token for the dashboard, and the sessions of browsers that have shown it.

    A program sends the token with every request. A browser sends it once and gets a session, from whose cookie the
    token cannot be read; sessions end with the process. Safe to use from several threads.

    Args:
        token: The token, at least `MIN_TOKEN_LENGTH` characters.
        was_made: Whether the token was generated for this process, so that the user must be shown it.

    Raises:
        UserError: The token is too short, or has characters that are not allowed in HTTP headers. The message does not
            show it.
    """

    def __init__(self, token: str, *, was_made: bool = False) -> None:
        if len(token) < MIN_TOKEN_LENGTH or not (token.isascii() and token.isprintable()) or " " in token:
            raise UserError(
                f"the dashboard's token: must be at least {MIN_TOKEN_LENGTH} ASCII characters without a space, got "
                f"{len(token)} characters; make one with: python -c 'import secrets; print(secrets.token_urlsafe())'"
            )
        self.token = token
        self.was_made = was_made
        self.login_code: str | None = secrets.token_urlsafe(24)
        """What the first visit of `/login/CODE` may show instead of the token; None once it was used."""
        self._sessions: list[str] = []

    @classmethod
    def make(cls) -> Self:
        """Return access with a new random token."""
        return cls(secrets.token_urlsafe(32), was_made=True)

    def __repr__(self) -> str:
        return "Access(token=***)"

    def admits(self, *, authorization: str, cookies: str, cookie_name: str) -> bool:
        """Return whether a request has the token or belongs to a session.

        Args:
            authorization: The request's header `Authorization`.
            cookies: The request's header `Cookie`.
            cookie_name: Name of the session's cookie.
        """
        scheme, _, shown = authorization.partition(" ")
        if scheme.lower() == "bearer" and self.is_token(shown.strip()):
            return True
        try:
            morsel = SimpleCookie(cookies).get(cookie_name)
        except CookieError:
            return False
        return morsel is not None and any(_equal(morsel.value, session) for session in list(self._sessions))

    def is_token(self, shown: str) -> bool:
        """Return whether a text is the token; the time does not depend on how much of it is right."""
        return _equal(shown, self.token)

    def use_login_code(self, shown: str) -> bool:
        """Return whether a text is the login code, which is valid only once."""
        code = self.login_code
        if code is None or not _equal(shown, code):
            return False
        self.login_code = None
        return True

    def begin_session(self) -> str:
        """Start a new session, and return its secret for a cookie."""
        session = secrets.token_urlsafe(32)
        self._sessions.append(session)
        return session


def _equal(shown: str, expected: str) -> bool:
    return hmac.compare_digest(shown.encode(), expected.encode())
