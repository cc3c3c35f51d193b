"""`gather`: the results of many deliveries by one wait. Owns nothing: the work is native.

`asyncio.gather` makes a task or a callback for each delivery, which costs more than the record.
This one is notified once per batch.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any, Literal, overload

from aioproducer._native.record_batch import Delivery, gather_deliveries
from aioproducer.errors import KafkaError
from aioproducer.records import RecordMetadata

__all__ = ["gather"]


@overload
def gather(
    deliveries: Iterable[Delivery], *, return_exceptions: Literal[False] = False
) -> Coroutine[Any, Any, list[RecordMetadata]]: ...
@overload
def gather(
    deliveries: Iterable[Delivery], *, return_exceptions: bool
) -> Coroutine[Any, Any, list[RecordMetadata | KafkaError]]: ...
def gather(
    deliveries: Iterable[Delivery], *, return_exceptions: bool = False
) -> Coroutine[Any, Any, Any]:
    """Wait for many deliveries at once, as `asyncio.gather` does, at a small part of its cost.

    Awaiting returns when every record has its outcome. The deliveries are taken at the call; they
    may be of several producers of one event loop, and the same one may be given twice. Cancelling
    ends the wait and no record: all can be gathered again.

    Args:
        deliveries: What `await producer.send(...)` and `send_nowait` return: any iterable, also a
            generator or an empty one.
        return_exceptions: Put the errors of failed records among the results, instead of raising
            the first one to happen at once. After that the other records go on, and their failures
            are counted by the producer, but not raised or logged by this call.

    Returns:
        The `RecordMetadata` of each record, in the order given.

    Raises:
        KafkaError: A record was not stored, or it is not known whether it was.
        TypeError: Something else than deliveries was given.
        WrongEventLoopError: A delivery belongs to another event loop.

    Example:
        deliveries = [await producer.send("payments", value) for value in values]
        results = await aioproducer.gather(deliveries)
    """
    return gather_deliveries(deliveries, not return_exceptions, True)
