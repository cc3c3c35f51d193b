"""What a SASL mechanism is: it makes exchanges, and an exchange is a generator without I/O.

    an exchange yields    and gets back
    bytes                 the broker's challenge, after these bytes were sent
    Call(function, what)  what the function returned: a coroutine function is awaited, any other
                          one, which may block, runs in a thread
    (it returns)          it is over: the last challenge satisfied it

What comes before the first bytes is done while the connection still takes requests, so that a slow
provider of tokens holds up nothing.

If the broker refuses, its error is thrown into the exchange, which may add to it and raise it; by
itself the exchange raises an `AuthenticationError`. No challenge is trusted: an exchange bounds
what it takes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, NamedTuple, Protocol, TypeAlias

__all__ = ["Call", "Exchange", "Mechanism"]


class Call(NamedTuple):
    """Asks for a function to be called, by whoever runs the exchange.

    `what` is that function for a reader, as the subject of a sentence: "sasl_password". An
    exception of the function ends the exchange with an `AuthenticationError` that says so.
    """

    function: Callable[[], Any | Awaitable[Any]]
    what: str


Exchange: TypeAlias = Generator[bytes | Call, Any, None]


class Mechanism(Protocol):
    """One mechanism with one set of credentials, shared by all connections of a producer.

    Attributes:
        name: Kafka's name for it.
    """

    name: str

    def exchange(self, host: str) -> Exchange:
        """Begin an exchange with the broker at a host, as its address names it."""
        ...
