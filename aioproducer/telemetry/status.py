"""What `Producer.status` returns, and when a producer counts as healthy. No I/O, no clock.

Spans are in seconds, as of the call. A value is a snapshot: nothing in it changes later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from aioproducer.errors.base import seconds

__all__ = [
    "DOWN_AFTER",
    "BrokerStatus",
    "ProducerState",
    "ProducerStatus",
    "why_unhealthy",
]

BrokerStatus: TypeAlias = Literal[
    "connected", "connecting", "not connected", "frozen", "unreachable"
]
"""What a broker does, as far as the producer has tried.

    connected      its connection takes requests
    connecting     the first attempt to connect is under way
    not connected  nobody needs it, or its idle connection was closed: no reason to worry
    frozen         it took a request and has sent nothing for 5 seconds, or for half of
                   `request_timeout_ms` where that is less
    unreachable    the last attempt to connect failed, or it hung up on requests in flight
"""

ProducerState: TypeAlias = Literal[
    "created", "starting", "open", "draining", "closing", "closed", "left behind by a fork"
]

DOWN_AFTER: Final = 2.0
"""Seconds without any broker that works, or without a producer id, until a producer counts as
unhealthy: a broker that restarts, or a connection that is made anew, takes less."""

_REASONS: Final[Mapping[ProducerState, str]] = {
    "created": "The producer is not started.",
    "starting": "The producer has not reached the cluster yet.",
    "draining": "The process is about to end.",
    "closing": "The producer is closing.",
    "closed": "The producer is closed.",
    "left behind by a fork": "The producer was started before this process was forked.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducerStatus:
    """What a producer does now, for a health check and for people.

    `healthy` is True when a record sent now can be expected to be stored:

    1. The producer is open and has reached the cluster.
    2. Not every broker has been frozen or unreachable for 2 seconds. A broker to which nobody
       needs a connection does not count, so an idle producer stays healthy.
    3. With idempotence, it has a producer id, or has asked for one for less than 2 seconds.
    4. With a transactional id, it was not fenced, not refused that id, and nothing else has ended
       it for good.
    5. Either the oldest record is younger than `linger_ms` and a quarter of `delivery_timeout_ms`,
       or some record was stored within that time.

    An error of one topic, partition or record does not make it unhealthy: look at `last_error`.
    While it is unhealthy the producer goes on trying, so it turns healthy without any traffic; but
    for rule 4, after which only another producer helps, or, once the right is granted, the next
    call of `begin_transaction`.

    Attributes:
        healthy: Whether a record sent now can be expected to be stored.
        reason: Why it is not healthy, as a sentence; empty when it is. Names brokers and topics.
        state: `"created"`, `"starting"`, `"open"`, `"draining"` (after `Producer.drain`),
            `"closing"`, `"closed"`, or `"left behind by a fork"`.
        client_id: The option.
        cluster_id: The cluster's id; None while it is not known.
        brokers: What each broker does, by its name (`"1 at host:port"`).
        brokers_connected: How many of them are connected and not frozen.
        brokers_known: How many there are.
        producer_id: The id of an idempotent producer; None while there is none.
        oldest_record_age: Seconds since the oldest record without an outcome was accepted; None
            when there is none.
        buffer_used_ratio: How much of `buffer_memory` is in use, from 0 to 1.
        requests_in_flight: Produce requests without a response.
        waiting_callers: Callers who wait for buffer space.
        last_error: The newest failure of a record, an attempt to send, or, as long as it lasts, a
            connection; None if there was none.
        last_error_age: Seconds since then.
        failing_for: Seconds since the first failure that no success has followed; None when all
            is well. A record that is stored ends it, and so does a connection that is made again.
    """

    healthy: bool
    reason: str
    state: ProducerState
    client_id: str
    cluster_id: str | None = None
    brokers: Mapping[str, BrokerStatus] = field(default_factory=dict[str, BrokerStatus])
    brokers_connected: int = 0
    brokers_known: int = 0
    producer_id: int | None = None
    oldest_record_age: float | None = None
    buffer_used_ratio: float = 0.0
    requests_in_flight: int = 0
    waiting_callers: int = 0
    last_error: str | None = None
    last_error_age: float | None = None
    failing_for: float | None = None

    def __getitem__(self, name: str) -> Any:
        """Return an attribute by its name, as from a dict.

        Raises:
            KeyError: There is none of this name.
        """
        if name not in self.__slots__:
            raise KeyError(name)
        return getattr(self, name)

    def as_dict(self) -> dict[str, Any]:
        """Return all attributes as a dict that `json.dumps` takes."""
        return dataclasses.asdict(self)


def why_unhealthy(
    state: ProducerState,
    *,
    down_for: float | None = None,
    no_producer_id_for: float | None = None,
    producer_id_refused: bool = False,
    no_transaction_because: str | None = None,
    oldest_record_age: float | None = None,
    stored_ago: float | None = None,
    late_after: float = 0.0,
    last_error: str | None = None,
) -> str:
    """Return why a producer is not healthy, as a sentence; empty when it is.

    Args:
        state: The producer's.
        down_for: Seconds for which no broker has worked; None while one does.
        no_producer_id_for: Seconds for which it has asked for a producer id; None while it has
            one, or needs none.
        producer_id_refused: Whether the cluster refused it one for good.
        no_transaction_because: Why none can begin, where it has transactions; else None.
        oldest_record_age: Seconds since the oldest record was accepted.
        stored_ago: Seconds since a record was stored; None if none was.
        late_after: Seconds after which a record is late.
        last_error: Why, as far as it is known.
    """
    because = f": {last_error}" if last_error else "."
    if state != "open":
        reason = _REASONS[state]
        return f"{reason[:-1]}{because}" if state == "starting" else reason
    if no_transaction_because is not None:
        return f"No transaction can begin: {no_transaction_because}"
    if down_for is not None and down_for >= DOWN_AFTER:
        return f"No broker has worked for {seconds(down_for)}{because}"
    if producer_id_refused:
        return f"The producer gets no producer id{because}"
    if no_producer_id_for is not None and no_producer_id_for >= DOWN_AFTER:
        return f"The producer has no producer id for {seconds(no_producer_id_for)}{because}"
    if (
        oldest_record_age is not None
        and oldest_record_age > late_after
        and (stored_ago is None or stored_ago > late_after)
    ):
        return f"Records have waited for {seconds(oldest_record_age)}, and none is stored{because}"
    return ""
