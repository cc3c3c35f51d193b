"""What a producer promises, compared with what the brokers stored and what the user was told.

Pure functions over `Played`; each returns what is wrong.

What is promised of a partition depends on the program. With idempotence a record is stored once
at most and in the order of the calls, unless a broker forgot what it had stored (the producer's
numbers, or the topic) while more was on its way: no client can help that. There, a record whose
answer was lost may also be taken for stored, without an offset, when a later one was
acknowledged. Without idempotence a retry may store a record again, and later than the next one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from aioproducer import KafkaError, RecordMetadata
from aioproducer.errors import ProducerClosedError
from tests.model import program as steps
from tests.model.player import SLACK, Call, Played

__all__ = ["broken_promises"]

_HARMLESS = (
    steps.Send,
    steps.SendMany,
    steps.Cancel,
    steps.CancelDelivery,
    steps.Flush,
    steps.Close,
    steps.Turns,
    steps.Wait,
)


def broken_promises(played: Played) -> list[str]:
    """Everything that is wrong, in words."""
    return [
        *played.troubles,
        *_counters(played),
        *_outcomes(played),
        *_storage(played),
        *_order(played),
        *_callbacks(played),
        *_undelivered(played),
    ]


def _is_strict(played: Played) -> bool:
    return played.setup.idempotence or all(isinstance(step, _HARMLESS) for step in played.steps)


def _counters(played: Played) -> Iterator[str]:
    metrics = played.metrics
    for name, expected in (
        ("buffer_available_bytes", metrics["buffer_total_bytes"]),
        ("requests_in_flight", 0),
        ("waiting_callers", 0),
        (
            "record_accepted_total",
            metrics["record_delivered_total"] + metrics["record_error_total"],
        ),
    ):
        if metrics[name] != expected:
            yield f"{name} is {metrics[name]} after the close, expected {expected}"
    delivered = sum(isinstance(call.outcome, RecordMetadata) for call in played.calls)
    if delivered > metrics["record_delivered_total"]:
        yield f"{delivered} records were acknowledged to the user, counted: {metrics}"


def _outcomes(played: Played) -> Iterator[str]:
    setup = played.setup
    for call in played.calls:
        # The records of one call wait for buffer space one after the other.
        turns = call.step.count if isinstance(call.step, steps.SendMany) else 1
        bound = (setup.delivery_timeout_ms + turns * setup.max_block_ms) / 1000
        if call.delivery is not None and call.outcome is None:
            yield f"{_name(call)} has no outcome: {call.delivery!r}"
        if call.done_at is None:
            continue
        took = call.done_at - call.at
        if took > bound + SLACK:
            yield f"{_name(call)} ended after {took} s: {call.outcome!r}"
        deadline = call.step.deadline if isinstance(call.step, steps.Send) else None
        withdrawn = "deadline of the call" in str(call.outcome)
        if withdrawn and (deadline is None or not deadline <= took + SLACK <= deadline + 2 * SLACK):
            yield f"{_name(call)} was withdrawn after {took} s: {call.outcome!r}"


def _storage(played: Played) -> Iterator[str]:
    stored: dict[bytes, list[tuple[int, int, int]]] = {}
    for log in played.logs:
        for records in log.values():
            for record in records:
                place = (record.partition, record.offset, record.timestamp_ms)
                stored.setdefault(record.value or b"", []).append(place)
    for call in played.calls:
        places = stored.pop(call.value, [])
        outcome = call.outcome
        is_tainted = bool(played.tainted)
        if len(places) > 1 and _is_strict(played) and not is_tainted:
            yield f"{_name(call)} is stored {len(places)} times: {places} ({outcome!r})"
        wanted = call.step.partition
        if wanted is not None and any(place[0] != wanted for place in places):
            yield f"{_name(call)} is stored in another partition: {places}"
        if isinstance(outcome, RecordMetadata):
            acknowledged = (outcome.partition, outcome.offset, outcome.timestamp_ms)
            if played.setup.acks == 0:
                continue
            if not places and not (outcome.offset < 0 and outcome.partition in played.tainted):
                yield f"{_name(call)} is lost: acknowledged as {outcome}"
            if places and outcome.offset >= 0 and acknowledged not in places:
                yield f"{_name(call)} is stored at {places}, acknowledged as {outcome}"
        elif places and (call.is_refused or (outcome and not outcome.possibly_persisted)):
            yield f"{_name(call)} is stored at {places} in spite of {outcome!r}"
    if stored:
        yield f"nobody sent {stored}"


def _order(played: Played) -> Iterator[str]:
    if not _is_strict(played):
        return
    streams = {call.value: call.stream for call in played.calls}
    for log in played.logs:
        for partition, records in log.items():
            if partition in played.tainted:
                continue
            last: dict[int, int] = {}
            for record in records:
                value = record.value or b""
                number = int(value.partition(b":")[0])
                stream = streams.get(value, 0)
                if number < last.get(stream, -1):
                    yield (
                        f"partition {partition} holds record {number} behind record {last[stream]}"
                    )
                last[stream] = number


def _callbacks(played: Played) -> Iterator[str]:
    for call in played.calls:
        step = call.step
        if not isinstance(step, steps.Send) or not step.on_delivery or step.how == "and_wait":
            continue
        if call.is_refused:
            if call.reported:
                yield f"{_name(call)} was refused, and had outcomes: {call.reported}"
        elif call.delivery is not None and len(call.reported) != 1:
            yield f"{_name(call)} had {len(call.reported)} outcomes"
        for metadata, error in call.reported:
            outcome = call.outcome
            if (metadata is None) == (error is None):
                yield f"{_name(call)} got both {metadata} and {error}"
            elif isinstance(outcome, RecordMetadata) and metadata != outcome:
                yield f"{_name(call)} got {metadata} {error!r}, its outcome is {outcome}"
            elif isinstance(outcome, KafkaError) and type(error) is not type(outcome):
                yield f"{_name(call)} got {error!r}, its outcome is {outcome!r}"
    if not _is_strict(played) or any(map(_loses_a_response, played.steps)):
        return
    # By their numbers: the offsets of a recreated topic begin again.
    last: dict[tuple[int, int], int] = {}
    for call in played.report_order:
        metadata, _ = call.reported[0]
        if metadata is None or metadata.offset < 0 or played.tainted:
            continue
        place = (metadata.partition, call.stream)
        if call.number < last.get(place, -1):
            yield f"{_name(call)} had its outcome late, behind a later one: {metadata}"
        last[place] = call.number


def _loses_a_response(step: steps.Step) -> bool:
    """Whether a batch may be stored and its response not say so, while a later one's does."""
    return isinstance(step, steps.EditAnswer) or (
        isinstance(step, steps.Fail | steps.FailSome) and step.stored
    )


def _undelivered(played: Played) -> Iterator[str]:
    if played.undelivered is None:
        return
    returned = Counter(each.record.value for each in played.undelivered)
    if returned and max(returned.values()) > 1:
        yield f"close returned a record twice: {returned}"
    for call in played.calls:
        closed = isinstance(call.outcome, ProducerClosedError)
        in_doubt = call.outcome is None or (closed and not call.is_refused and not call.delivery)
        if in_doubt:
            continue
        # It also returns what failed for another reason while it closed.
        is_returned = call.value in returned
        failed = isinstance(call.outcome, KafkaError) and not call.is_refused
        if (is_returned and not failed) or (closed and not call.is_refused and not is_returned):
            yield f"{_name(call)} ended with {call.outcome!r}; close returned it: {is_returned}"


def _name(call: Call) -> str:
    return f"record {call.number} ({call.step})"
