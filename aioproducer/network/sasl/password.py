"""A password: a text, or what a function returns each time that a connection logs in."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from aioproducer.errors import AuthenticationError
from aioproducer.hooks import SecretProvider
from aioproducer.network.sasl.exchange import Call

__all__ = ["find_password"]

_OPTION: Final = "sasl_password"


def find_password(given: str | SecretProvider) -> Generator[Call, Any, bytes]:
    """Return the password as a part of an exchange, by `yield from`.

    Raises:
        AuthenticationError: The function returned what is no password; the error does not show it.
    """
    found: object = given if isinstance(given, str) else (yield Call(given, _OPTION))
    if not isinstance(found, str):
        raise _unusable(f"an object of type {type(found).__name__}")
    if not found:
        raise _unusable("an empty text")
    try:
        return found.encode()
    except UnicodeEncodeError:
        # From None: the exception has the text.
        raise _unusable("a text that is not valid in UTF-8") from None


def _unusable(what: str) -> AuthenticationError:
    return AuthenticationError(
        f"{_OPTION} returned {what}, which is no password",
        hint="Have it return the password as a str; os.environ.get, too, may return None.",
    )
