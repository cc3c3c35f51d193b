"""The keeper of the producer id: one task at a time, whoever asks and whenever."""

from __future__ import annotations

import asyncio
from typing import cast

from aioproducer.cluster import Cluster
from aioproducer.errors import ClusterAuthorizationFailedError, KafkaError
from aioproducer.identity import IdentityKeeper
from aioproducer.transaction import ProducerIdentity


class Asked:
    """As much of a cluster as the keeper uses: each question waits for its answer."""

    def __init__(self) -> None:
        self.questions: list[asyncio.Future[ProducerIdentity]] = []

    async def init_producer_id(self) -> ProducerIdentity:
        question: asyncio.Future[ProducerIdentity] = asyncio.get_running_loop().create_future()
        self.questions.append(question)
        return await question


async def turn() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_who_asks_again_on_hearing_of_a_refusal_is_not_asked_for_twice() -> None:
    cluster = Asked()
    obtained: list[ProducerIdentity | None] = []

    def ask_again(error: KafkaError) -> None:
        keeper.need()

    keeper = IdentityKeeper(
        cast("Cluster", cluster),
        asyncio.get_running_loop(),
        retry_delay=lambda failures: 0.0,
        obtained=lambda: obtained.append(keeper.current),
        refused=ask_again,
    )
    keeper.need()
    await turn()
    cluster.questions[0].set_exception(ClusterAuthorizationFailedError("no"))
    await turn()
    keeper.need()
    await turn()
    assert len(cluster.questions) == 2
    cluster.questions[1].set_result(ProducerIdentity(7, 0))
    await turn()
    assert obtained == [ProducerIdentity(7, 0)]
    await keeper.close()


async def test_closing_ends_the_task_that_a_refusal_began() -> None:
    cluster = Asked()
    keeper = IdentityKeeper(
        cast("Cluster", cluster),
        asyncio.get_running_loop(),
        retry_delay=lambda failures: 0.0,
        obtained=lambda: None,
        refused=lambda error: keeper.need(),
    )
    keeper.need()
    await turn()
    cluster.questions[0].set_exception(ClusterAuthorizationFailedError("no"))
    await turn()
    await keeper.close()
    assert cluster.questions[1].cancelled()
