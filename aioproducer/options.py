"""What one option may be: the rule that checks a value, reads a text, and says what is allowed.

A `Rule` knows nothing of other options; config.py checks those against each other. It gets the
option's name as the user wrote it (`linger_ms`, `linger.ms`, `KAFKA_LINGER_MS`), so that the error
names what has to be changed. Errors leave out what may hold a password or a key.
"""

from __future__ import annotations

import inspect
import re
import ssl
from collections.abc import Callable, Mapping, Sequence

from aioproducer.errors import ConfigError

__all__ = [
    "INT32_MAX",
    "INT64_MAX",
    "Rule",
    "Secret",
    "choice",
    "file_path",
    "flag",
    "function",
    "header_text",
    "number",
    "pairs",
    "secret",
    "servers",
    "some_text",
    "split_host_port",
    "tls_settings",
    "whole_number",
]

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

_DEFAULT_PORT = 9092
_HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?"
_IPV6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?"
_PEM = "-----BEGIN"


class Secret(str):
    """A text that does not show in a repr: not in a config's, nor in a traceback's locals."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'<hidden>'"


class _Refused(ValueError):
    """Raised inside a rule: the value is not allowed."""

    def __init__(self, advice: str = "", *, about: str = "") -> None:
        super().__init__(advice)
        self.advice = advice
        self.about = about


def _as_it_is(text: str) -> object:
    return text


class Rule:
    """What one option may be.

    Args:
        allowed: What is allowed, for a reader.
        accept: Returns a value in its one normal form, or refuses it.
        read: Returns the value a text stands for; a ValueError refuses it.
        keeps_spaces: Whether spaces around a text belong to it.
    """

    __slots__ = ("_accept", "_keeps_spaces", "_read", "allowed")

    def __init__(
        self,
        allowed: str,
        accept: Callable[[object], object],
        read: Callable[[str], object] = _as_it_is,
        *,
        keeps_spaces: bool = False,
    ) -> None:
        self.allowed = allowed
        self._accept = accept
        self._read = read
        self._keeps_spaces = keeps_spaces

    def check(self, name: str, value: object) -> object:
        """Return a value in its normal form.

        Raises:
            ConfigError: It is not allowed; names option, value, what is allowed, what to do.
        """
        try:
            return self._accept(value)
        except _Refused as refused:
            raise self._error(name, value, refused) from None

    def parse(self, name: str, text: str) -> object:
        """Return the value, in its normal form, that a text from a file or a variable stands for.

        Raises:
            ConfigError: As for `check`.
        """
        # A line break at the end is that of the file, also of one that held a password.
        text = text.strip("\r\n") if self._keeps_spaces else text.strip()
        try:
            return self._accept(self._read(text))
        except _Refused as refused:
            raise self._error(name, text, refused) from None
        except ValueError:
            raise self._error(name, text, _Refused()) from None

    def _error(self, name: str, value: object, refused: _Refused) -> ConfigError:
        return ConfigError(
            refused.about,
            option=name,
            value="<hidden>" if _may_hold_a_secret(value) else value,
            allowed=self.allowed,
            hint=refused.advice,
        )


def _may_hold_a_secret(value: object) -> bool:
    # user:password@host, where only host:port belongs; a key, where only its path does
    parts: list[object] = [value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = [*value]
    return any(isinstance(part, str) and ("@" in part or _PEM in part) for part in parts)


def whole_number(
    low: int, high: int = INT32_MAX, *, unit: str = "", special: Mapping[int, str] | None = None
) -> Rule:
    """Allow whole numbers between two bounds, and special ones beside them with their meaning."""
    outside = special or {}

    def accept(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise _Refused
        if value not in outside and not low <= value <= high:
            raise _Refused
        return int(value)

    largest = {INT32_MAX: "2^31 - 1", INT64_MAX: "2^63 - 1"}.get(high, str(high))
    allowed = f"a whole number{f' of {unit}' if unit else ''} from {low} to {largest}"
    for value, meaning in outside.items():
        allowed += f", or {value} for {meaning}"
    return Rule(allowed, accept, int)


def number(low: float, high: float = INT32_MAX, *, unit: str = "") -> Rule:
    """Allow numbers between two bounds, fractions too."""

    def accept(value: object) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Refused
        if not low <= value <= high:  # nan is refused too
            raise _Refused
        return value

    largest = "2^31 - 1" if high == INT32_MAX else f"{high:g}"
    return Rule(f"a number{f' of {unit}' if unit else ''} from {low:g} to {largest}", accept, float)


def flag() -> Rule:
    """Allow True and False."""

    def accept(value: object) -> bool:
        if not isinstance(value, bool):
            raise _Refused
        return value

    def read(text: str) -> object:
        return {"true": True, "false": False}.get(text.lower(), text)

    return Rule("True or False", accept, read)


def choice(
    *names: str,
    aliases: Mapping[str | int | None, str | int] | None = None,
    allowed: str = "",
    is_optional: bool = False,
) -> Rule:
    """Allow a few values; texts in any case.

    Args:
        *names: The values allowed that are texts.
        aliases: From every other value accepted to the one it stands for.
        allowed: What is allowed, for a reader; by default the names.
        is_optional: Whether None is allowed and stands for itself.
    """
    meanings = {_folded(spelling): meaning for spelling, meaning in (aliases or {}).items()}
    meanings |= {_folded(name): name for name in names}

    def accept(value: object) -> str | int | None:
        if value is None and is_optional:
            return None
        if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
            meaning = meanings.get(_folded(value))
            if meaning is not None:
                return meaning
        raise _Refused

    return Rule(allowed or ", ".join(f"'{name}'" for name in names), accept)


def _folded(value: str | int | None) -> str | int | None:
    return value.lower() if isinstance(value, str) else value


def header_text() -> Rule:
    """Allow a text that fits the two-byte length of a request header, and one line of a log."""

    def accept(value: object) -> str:
        if not isinstance(value, str) or "\n" in value or "\r" in value:
            raise _Refused
        if not _is_utf8(value) or len(value.encode()) > 32_767:
            raise _Refused
        return value

    return Rule("a text of one line, at most 32767 bytes in UTF-8", accept)


def _is_utf8(text: str) -> bool:
    """Whether a text has bytes; os.environ gives one without where they were of another charset."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def some_text(what: str) -> Rule:
    """Allow None and a text that is not empty."""

    def accept(value: object) -> str | None:
        if isinstance(value, str) and value:
            if not _is_utf8(value):
                raise _Refused(about="a text that is not valid in UTF-8")
            return value
        if value is None:
            return None
        raise _Refused

    return Rule(f"None or {what}", accept)


def file_path(what: str = "the path of a file") -> Rule:
    """Allow None and the path of a file; not the file's text, which may be a key."""

    def accept(value: object) -> str | None:
        if value is None:
            return None
        if not isinstance(value, str) or not value or "\0" in value:
            raise _Refused
        if _PEM in value:
            raise _Refused(
                "Give the path of a file that holds it; for TLS, the options with _pem take texts.",
                about="a text in PEM, and no path",
            )
        return value

    return Rule(f"None or {what}", accept)


def secret(what: str, *, is_provided: bool = False) -> Rule:
    """Allow None, a secret text, and where `is_provided` a function that returns it."""

    def accept(value: object) -> object:
        if isinstance(value, str) and value:
            if not _is_utf8(value):
                raise _Refused(about="a text that is not valid in UTF-8")
            return Secret(value)
        if value is None or (is_provided and callable(value)):
            return value
        raise _Refused

    provided = ", or a function (or coroutine function) that returns it" if is_provided else ""
    return Rule(f"None or {what}{provided}", accept, keeps_spaces=True)


def pairs(what: str) -> Rule:
    """Allow names with their texts: a mapping, or `name=value,name=value`."""

    def accept(value: object) -> tuple[tuple[str, str], ...]:
        entries: list[tuple[object, object]]
        if isinstance(value, str):
            entries = [(name, text) for name, _, text in (_split(value))]
        elif isinstance(value, Mapping):
            entries = [*value.items()]
        elif isinstance(value, tuple):  # the normal form
            entries = [*value]
        else:
            raise _Refused
        found: dict[str, str] = {}
        for name, text in entries:
            if not isinstance(name, str) or not isinstance(text, str) or not name.strip():
                raise _Refused
            found[name.strip()] = text.strip()
        return tuple(found.items())

    def _split(value: str) -> list[tuple[str, str, str]]:
        return [entry.partition("=") for entry in value.split(",") if entry.strip()]

    return Rule(f"{what}, as a mapping of texts or as 'name=value,name=value'", accept)


def function(
    what: str,
    names: Mapping[str, str] | None = None,
    *,
    method: str = "",
    is_awaited: bool = False,
) -> Rule:
    """Allow None, a ready thing by its name, or something that can be called.

    Args:
        what: What the callable is and takes, for a reader.
        names: From every name accepted to the name of the ready thing.
        method: What an object may have in place of being callable itself.
        is_awaited: A coroutine function may be given, too.
    """
    ready = names or {}

    def accept(value: object) -> object:
        if value is None:
            return None
        if isinstance(value, str):
            if value not in ready:
                raise _Refused
            return ready[value]
        called = getattr(value, method, None) if method else None
        if called is not None and isinstance(value, type):
            # A class has the method as well, but not the object that the method needs.
            raise _Refused(f"Pass an instance: {value.__name__}(...).")
        if called is None:
            called = value
        if not callable(called):
            raise _Refused
        if _is_coroutine_function(called) and not is_awaited:
            raise _Refused("A coroutine function cannot be used: it is called without await.")
        return value

    choices = "".join(f"'{name}', " for name in dict.fromkeys(ready.values()))
    return Rule(f"None, {choices}or {what}", accept)


def _is_coroutine_function(called: object) -> bool:
    # Of an object that is called, its class has the function.
    return inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(type(called).__call__)


def tls_settings() -> Rule:
    """Allow None and an `ssl.SSLContext`."""

    def accept(value: object) -> ssl.SSLContext | None:
        if isinstance(value, str):
            raise _Refused("It has no text form: set it in code.")
        if value is not None and not isinstance(value, ssl.SSLContext):
            raise _Refused
        return value

    return Rule("None or an ssl.SSLContext", accept)


def servers() -> Rule:
    """Allow addresses of brokers; the normal form is a tuple of `host:port` without repeats."""

    def accept(value: object) -> tuple[str, ...]:
        if isinstance(value, str):
            entries: list[object] = [*value.split(",")]
        elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            entries = [*value]
        else:
            raise _Refused
        found: dict[str, None] = {}
        for entry in entries:
            if not isinstance(entry, str):
                raise _Refused(about=f"an entry is of type {type(entry).__name__}")
            if entry.strip():
                found[_server(entry.strip())] = None
        if not found:
            raise _Refused("Name at least one broker.", about="empty")
        return tuple(found)

    allowed = (
        "'host:port,host:port' or a sequence of 'host:port'; without a port it is "
        f"{_DEFAULT_PORT}, an IPv6 address stands in brackets"
    )
    return Rule(allowed, accept)


def _server(text: str) -> str:
    about = f"{text[:300]!r} is no address"
    if "@" in text:
        raise _Refused(
            "Leave out user and password: they are no part of an address.",
            about="an entry holds '@'",
        )
    if re.search(r"\s", text):
        raise _Refused("Separate the servers by commas.", about=about)
    if "://" in text:
        hint = "Leave out what stands before '://', and set security_protocol."
        raise _Refused(hint, about=about)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        if not bracket or not re.fullmatch(_IPV6, host) or colon not in ("", ":"):
            raise _Refused(about=about)
    else:
        if text.count(":") > 1:
            raise _Refused("Put an IPv6 address in brackets: '[::1]:9092'.", about=about)
        host, colon, port = text.partition(":")
        if not re.fullmatch(_HOST, host):
            raise _Refused(about=about)
    if not colon:
        port = str(_DEFAULT_PORT)
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65_536:
        raise _Refused("A port is a number from 1 to 65535.", about=about)
    return f"[{host}]:{int(port)}" if ":" in host else f"{host}:{int(port)}"


def split_host_port(server: str) -> tuple[str, int]:
    """Split an address in its normal form into host (IPv6 without brackets) and port."""
    host, _, port = server.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)
