"""A connection that is about to end takes no more requests, on every Python and loop."""

from __future__ import annotations

import asyncio

import pytest

from aioproducer.background import Background
from aioproducer.errors import NetworkError
from aioproducer.network.connection import Connection, ConnectionOptions
from aioproducer.network.metadata import BrokerAddress
from aioproducer.protocol.api_versions import API_VERSIONS, ApiVersionsRequest
from aioproducer.testing import FakeCluster


async def test_a_request_is_refused_between_the_end_of_a_transport_and_the_news_of_it() -> None:
    loop = asyncio.get_running_loop()
    async with FakeCluster() as cluster:
        host, _, port = cluster.bootstrap_servers.partition(":")
        connection = Connection(
            Background(loop), BrokerAddress(0, host, int(port)), ConnectionOptions("me", "1.0")
        )
        transport, _ = await loop.create_connection(lambda: connection, host, int(port))
        transport.close()

        assert connection.is_open
        with pytest.raises(NetworkError, match="closed") as caught:
            connection.send(API_VERSIONS, 0, ApiVersionsRequest(), timeout=1, on_response=None)
        assert not caught.value.possibly_persisted

        await connection.close()
        assert not connection.is_open
