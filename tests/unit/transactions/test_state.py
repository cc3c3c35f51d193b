"""What each state of a transactional producer allows: the table of state.py, cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from aioproducer import TopicPartition
from aioproducer.errors import (
    KafkaError,
    KafkaTimeoutError,
    ProducerFencedError,
    TransactionFailedError,
    TransactionStateError,
)
from aioproducer.transactions.state import State, TransactionState

CAUSE: Final = KafkaTimeoutError(topic_partition=TopicPartition("debits", 2), attempts=3)
FENCED: Final = ProducerFencedError()


def in_state(state: State) -> TransactionState:
    machine = TransactionState()
    if state is State.UNINITIALIZED:
        return machine
    if state is State.FATAL:
        machine.fatal(FENCED)
        return machine
    machine.initialized()
    if state is State.READY:
        return machine
    machine.begin()
    if state is State.FAILED:
        machine.failed(CAUSE)
    elif state is State.COMMITTING:
        machine.begin_commit()
    elif state is State.ABORTING:
        machine.begin_abort()
    assert machine.state is state
    return machine


CALLS: Final[dict[str, Callable[[TransactionState], None]]] = {
    "begin": TransactionState.begin,
    "commit": TransactionState.begin_commit,
    "abort": TransactionState.begin_abort,
}
ALLOWED: Final = {
    ("begin", State.READY): State.OPEN,
    ("commit", State.OPEN): State.COMMITTING,
    ("abort", State.OPEN): State.ABORTING,
    ("abort", State.FAILED): State.ABORTING,
}


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_leads_on_or_is_refused_and_changes_nothing(call: str, state: State) -> None:
    machine = in_state(state)
    if (call, state) in ALLOWED:
        CALLS[call](machine)
        assert machine.state is ALLOWED[call, state]
        return
    with pytest.raises(KafkaError) as caught:
        CALLS[call](machine)
    assert machine.state is state
    error = caught.value
    assert error.fatal == (state is State.FATAL)
    assert error.requires_abort == (state is State.FAILED)
    if state not in (State.FAILED, State.FATAL):
        assert isinstance(error, TransactionStateError)
        assert error.hint


@pytest.mark.parametrize("state", State)
def test_records_are_taken_in_an_open_transaction_only(state: State) -> None:
    assert in_state(state).takes_records == (state is State.OPEN)


@pytest.mark.parametrize("state", State)
def test_a_failed_record_fails_a_transaction_that_is_not_being_aborted(state: State) -> None:
    machine = in_state(state)
    is_news = machine.failed(CAUSE)
    assert is_news == (state in (State.OPEN, State.COMMITTING))
    assert machine.state is (State.FAILED if is_news else state)


@pytest.mark.parametrize("kind", [KafkaTimeoutError, ProducerFencedError])
def test_an_error_says_what_it_has_led_to(kind: type[KafkaError]) -> None:
    failed, later, fatal = kind(), kind(), kind()
    machine = in_state(State.OPEN)
    machine.failed(failed)
    machine.failed(later)
    assert failed.requires_abort and not failed.fatal
    assert later.requires_abort and not later.fatal
    machine.fatal(fatal)
    assert fatal.fatal and not fatal.requires_abort


@pytest.mark.parametrize("state", State)
def test_what_is_fatal_stays(state: State) -> None:
    machine = in_state(state)
    assert machine.fatal(FENCED) == (state is not State.FATAL)
    assert not machine.fatal(ProducerFencedError())
    assert machine.state is State.FATAL
    assert machine.cause is FENCED


@pytest.mark.parametrize("state", [State.FAILED, State.ABORTING, State.FATAL])
def test_a_transaction_that_can_only_be_aborted_sends_nothing_again(state: State) -> None:
    assert in_state(state).must_abort


@pytest.mark.parametrize("state", [State.COMMITTING, State.ABORTING])
def test_when_a_transaction_has_ended_another_one_may_begin(state: State) -> None:
    machine = in_state(state)
    machine.ended()
    machine.begin()
    assert machine.state is State.OPEN
    assert machine.cause is None


def test_the_first_failure_is_the_cause() -> None:
    machine = in_state(State.FAILED)
    machine.failed(KafkaError("later"))
    error = machine.failure()
    assert isinstance(error, TransactionFailedError)
    assert error.__cause__ is CAUSE
    assert error.topic_partition == ("debits", 2)
    assert error.attempts == 3
    assert "abort_transaction()" in str(error)


def test_the_failure_of_a_record_may_be_raised_in_many_tasks() -> None:
    machine = in_state(State.FAILED)
    assert machine.failure() is not machine.failure()
    fatal = in_state(State.FATAL)
    assert fatal.refusal("begin a transaction") is not FENCED
