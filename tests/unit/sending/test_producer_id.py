"""The producer id: got once for all who need it, again when it is of no use, never in a hurry."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from typing import cast

import pytest
import pytest_asyncio

from aioproducer._native.broker_queues import Counters
from aioproducer.background import Background
from aioproducer.errors import (
    ClusterAuthorizationFailedError,
    CoordinatorNotAvailableError,
    KafkaError,
    UnsupportedVersionError,
)
from aioproducer.network.backoff import Backoff
from aioproducer.network.cluster import Cluster
from aioproducer.sending.producer_id import ProducerId
from aioproducer.sending.sequences import ProducerIdAndEpoch

pytestmark = pytest.mark.virtual_time

ME = ProducerIdAndEpoch(7, 0)


class Asked:
    """As much of a cluster as is asked for an id: each question waits for its response."""

    def __init__(self) -> None:
        self.questions: list[asyncio.Future[ProducerIdAndEpoch]] = []
        self.times: list[float] = []
        self._asked = asyncio.Event()

    async def init_producer_id(self) -> ProducerIdAndEpoch:
        question: asyncio.Future[ProducerIdAndEpoch] = asyncio.get_running_loop().create_future()
        self.questions.append(question)
        self.times.append(asyncio.get_running_loop().time())
        self._asked.set()
        return await question

    async def next_question(self) -> asyncio.Future[ProducerIdAndEpoch]:
        """Wait until there is a question without a response."""
        while not self.questions or self.questions[-1].done():
            self._asked.clear()
            await self._asked.wait()
        return self.questions[-1]


class Doubling(Backoff):
    def after(self, failures: int) -> float:
        return 2.0**failures


class Owner:
    """Who needs the id, and what it heard. Waits twice as long after each failure."""

    def __init__(self) -> None:
        self.cluster = Asked()
        self.heard: list[ProducerIdAndEpoch | str] = []
        self.asks_again = False
        self.producer_id = ProducerId(
            cast("Cluster", self.cluster),
            Background(asyncio.get_running_loop()),
            backoff=Doubling(0, 0),
            counters=Counters(),
            obtained=self._obtained,
            refused=self._refused,
        )

    def _obtained(self) -> None:
        assert self.producer_id.current is not None
        self.heard.append(self.producer_id.current)

    def _refused(self, error: KafkaError) -> None:
        self.heard.append(type(error).__name__)
        if self.asks_again:
            self.producer_id.need()

    async def answer(self, answer: ProducerIdAndEpoch | BaseException) -> None:
        """Wait for the next question and answer it."""
        question = await self.cluster.next_question()
        if isinstance(answer, BaseException):
            question.set_exception(answer)
        else:
            question.set_result(answer)
        await turn()


async def turn() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


@pytest_asyncio.fixture
async def harness() -> AsyncIterator[Owner]:
    owner = Owner()
    yield owner
    await owner.producer_id.close()


async def test_an_id_is_got_when_it_is_needed_and_handed_on(harness: Owner) -> None:
    await turn()
    assert harness.cluster.questions == []
    harness.producer_id.need()
    assert harness.producer_id.current is None
    await harness.answer(ME)
    assert harness.heard == [ME]
    assert harness.producer_id.current == ME


async def test_all_who_need_it_meanwhile_are_one_question(harness: Owner) -> None:
    for _ in range(5):
        harness.producer_id.need()
        await turn()
    await harness.answer(ME)
    harness.producer_id.need()
    await turn()
    assert len(harness.cluster.questions) == 1
    assert harness.heard == [ME]


async def test_a_refusal_that_passes_is_asked_again_with_growing_pauses(harness: Owner) -> None:
    harness.producer_id.need()
    for _ in range(4):
        await harness.answer(CoordinatorNotAvailableError("not yet"))
    await harness.answer(ME)
    times = harness.cluster.times
    pauses = [round(after - before) for before, after in itertools.pairwise(times)]
    assert pauses == [2, 4, 8, 16]
    assert harness.heard == [ME]


async def test_a_refusal_that_passes_gives_its_reason_until_there_is_an_id(harness: Owner) -> None:
    harness.producer_id.need()
    await harness.answer(CoordinatorNotAvailableError("not yet"))
    assert isinstance(harness.producer_id.last_error, CoordinatorNotAvailableError)
    await harness.answer(ME)
    assert harness.producer_id.last_error is None


async def test_refusals_in_a_row_are_logged_once(
    harness: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    harness.producer_id.need()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            await harness.answer(CoordinatorNotAvailableError("not yet"))
        assert caplog.messages == []
        for _ in range(4):
            await harness.answer(CoordinatorNotAvailableError("not yet"))
    (message,) = caplog.messages
    assert message.startswith("No producer id yet, and records wait for one: ")


async def test_a_denial_is_reported_and_ends_the_asking_for_ten_seconds(harness: Owner) -> None:
    harness.producer_id.need()
    await harness.answer(ClusterAuthorizationFailedError("no"))
    await asyncio.sleep(9)
    assert harness.heard == ["ClusterAuthorizationFailedError"]
    assert len(harness.cluster.questions) == 1
    # Without a record that needs it: a readiness probe may keep all of them away.
    await harness.answer(ME)
    assert harness.heard == ["ClusterAuthorizationFailedError", ME]
    assert not harness.producer_id.is_refused
    assert harness.producer_id.needed_since is None


async def test_after_the_close_a_denied_id_is_not_asked_for_again(harness: Owner) -> None:
    harness.producer_id.need()
    await harness.answer(ClusterAuthorizationFailedError("no"))
    await harness.producer_id.close()
    await asyncio.sleep(100)
    assert len(harness.cluster.questions) == 1


@pytest.mark.parametrize("kind", [ClusterAuthorizationFailedError, UnsupportedVersionError])
async def test_a_denial_says_that_there_is_a_way_without_an_id(
    harness: Owner, kind: type[KafkaError]
) -> None:
    harness.producer_id.need()
    await harness.answer(kind("no"))
    assert "enable_idempotence=False" in str(harness.producer_id.last_error)


async def test_after_a_denial_the_next_who_needs_it_waits_for_the_backoff(harness: Owner) -> None:
    harness.producer_id.need()
    for _ in range(4):
        await harness.answer(ClusterAuthorizationFailedError("no"))
        harness.producer_id.need()
    times = harness.cluster.times
    pauses = [round(after - before) for before, after in itertools.pairwise(times)]
    assert pauses == [2, 4, 8]


async def test_after_an_id_the_backoff_begins_again(harness: Owner) -> None:
    harness.producer_id.need()
    for _ in range(5):
        await harness.answer(CoordinatorNotAvailableError("not yet"))
    await harness.answer(ME)
    harness.producer_id.discard()
    await harness.answer(CoordinatorNotAvailableError("not yet"))
    await harness.answer(ProducerIdAndEpoch(8, 0))
    assert round(harness.cluster.times[-1] - harness.cluster.times[-2]) == 2


async def test_who_asks_again_on_hearing_of_a_refusal_is_not_asked_for_twice(
    harness: Owner,
) -> None:
    harness.asks_again = True
    harness.producer_id.need()
    await harness.answer(ClusterAuthorizationFailedError("no"))
    harness.producer_id.need()
    await harness.answer(ME)
    assert len(harness.cluster.questions) == 2
    assert harness.heard == ["ClusterAuthorizationFailedError", ME]


async def test_a_defect_does_not_end_the_asking_for_good(
    harness: Owner, caplog: pytest.LogCaptureFixture
) -> None:
    harness.producer_id.need()
    await harness.answer(AttributeError("a defect of ours"))
    assert harness.producer_id.current is None
    harness.producer_id.need()
    await harness.answer(ME)
    assert harness.heard == [ME]
    assert "a defect of ours" in caplog.text


# ---- epochs


async def test_a_bump_begins_the_next_epoch(harness: Owner) -> None:
    harness.producer_id.need()
    await harness.answer(ME)
    assert harness.producer_id.bump() == (7, 1)
    assert harness.producer_id.current == (7, 1)
    assert len(harness.cluster.questions) == 1


async def test_when_the_epochs_are_used_up_another_id_is_got(harness: Owner) -> None:
    harness.producer_id.need()
    await harness.answer(ProducerIdAndEpoch(7, 2**15 - 1))
    bumps = 0
    while harness.producer_id.bump() is not None:
        bumps += 1
    assert bumps <= 1
    assert harness.producer_id.current is None
    await harness.answer(ProducerIdAndEpoch(8, 0))
    assert harness.heard[-1] == (8, 0)


async def test_a_bump_without_an_id_gets_one(harness: Owner) -> None:
    assert harness.producer_id.bump() is None
    await harness.answer(ME)
    assert harness.producer_id.current == ME


async def test_an_id_that_is_discarded_is_replaced_by_another_one(harness: Owner) -> None:
    harness.producer_id.need()
    await harness.answer(ME)
    harness.producer_id.discard()
    assert harness.producer_id.current is None
    await harness.answer(ProducerIdAndEpoch(8, 0))
    assert harness.heard == [ME, (8, 0)]


# ---- the end


async def test_closing_ends_the_asking(harness: Owner) -> None:
    harness.producer_id.need()
    await turn()
    await harness.producer_id.close()
    assert harness.cluster.questions[0].cancelled()
    assert harness.heard == []


async def test_closing_ends_the_wait_for_the_backoff(harness: Owner) -> None:
    harness.producer_id.need()
    await harness.answer(CoordinatorNotAvailableError("not yet"))
    await harness.producer_id.close()
    await asyncio.sleep(100)
    assert len(harness.cluster.questions) == 1


async def test_closing_ends_the_task_that_a_refusal_began(harness: Owner) -> None:
    harness.asks_again = True
    harness.producer_id.need()
    await harness.answer(ClusterAuthorizationFailedError("no"))
    await harness.producer_id.close()
    await asyncio.sleep(100)
    assert len(harness.cluster.questions) == 1


async def test_after_closing_no_id_is_got(harness: Owner) -> None:
    await harness.producer_id.close()
    harness.producer_id.need()
    harness.producer_id.discard()
    await asyncio.sleep(100)
    assert harness.cluster.questions == []


async def test_closing_before_and_after_an_id_is_harmless(harness: Owner) -> None:
    harness.producer_id.need()
    await harness.answer(ME)
    await harness.producer_id.close()
    await harness.producer_id.close()
    assert harness.producer_id.current == ME
