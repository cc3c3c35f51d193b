"""How a test names the error that it orders: by class, instance, Kafka's name or code. Values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias, cast

from aioproducer.errors import (
    KafkaError,
    UnknownErrorCodeError,
    broker_error,
    error_for_code,
)

__all__ = ["OrderedError", "as_error", "as_error_code"]

OrderedError: TypeAlias = type[KafkaError] | KafkaError | str | int
"""`NotLeaderOrFollowerError`, an instance of it, `"NOT_LEADER_OR_FOLLOWER"`, or `6`."""

_HIGHEST_CODE: Final = 255
"""Kafka 4.3 has 134 errors, and a new one now and then."""


def as_error(error: OrderedError) -> KafkaError:
    """Return an instance.

    Raises:
        ValueError: Kafka has no error of this name, or the code 0 means success.
    """
    if isinstance(error, KafkaError):
        return error
    if isinstance(error, type):
        # Only some classes have arguments that must be given; no broker sends those.
        return cast("Callable[[], KafkaError]", error)()
    return broker_error(_code_of_name(error) if isinstance(error, str) else int(error))


def as_error_code(error: OrderedError) -> tuple[int, str | None]:
    """Return the code that a broker sends, and its text if the error was given with one.

    Raises:
        ValueError: No broker sends this error.
    """
    if isinstance(error, str):
        return _code_of_name(error), None
    if isinstance(error, int):
        return int(error), None
    code = error.unknown_code if isinstance(error, UnknownErrorCodeError) else error.code
    if code is None:
        raise ValueError(f"{error!r} has no code: no broker sends it")
    return code, (error.message or None) if isinstance(error, KafkaError) else None


def _code_of_name(name: str) -> int:
    for code in range(-1, _HIGHEST_CODE):
        if name and code and name == error_for_code(code).name:
            return code
    raise ValueError(f"Kafka has no error {name!r}; names are like 'NOT_LEADER_OR_FOLLOWER'")
