"""`aioproducer check`: walks the way to the brokers step by step, and says where it ends.

    each bootstrap server     name, TCP, TLS, versions, SASL
    the first that answers    metadata
    each broker               name, TCP, TLS, versions, SASL, at the address that it advertises
    the rights                a producer id, the topic if one is named
    a topic that is named     one idempotent record in it

Called by `main`. Each step is the producer's own: what works here works there.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import ssl
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import async_timeout

from aioproducer.background import Background, in_thread
from aioproducer.cli.arguments import add_broker_arguments, config_from
from aioproducer.cli.certificate import describe_certificate, fetch_certificate
from aioproducer.cli.picture import Picture, StepFailedError
from aioproducer.cli.report import say
from aioproducer.config import ProducerConfig
from aioproducer.errors import (
    ConfigError,
    KafkaConnectionError,
    KafkaError,
    TlsError,
    UnknownTopicOrPartitionError,
    broker_error,
)
from aioproducer.errors.base import seconds
from aioproducer.network.authentication import Authentication
from aioproducer.network.connecting import connection_options, resolve
from aioproducer.network.connection import Connection, ConnectionOptions, ConnectionState
from aioproducer.network.diagnosis import diagnose
from aioproducer.network.metadata import BrokerAddress
from aioproducer.producer import Producer
from aioproducer.protocol.init_producer_id import INIT_PRODUCER_ID, InitProducerIdRequest
from aioproducer.protocol.metadata import (
    METADATA,
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
)
from aioproducer.protocol.produce import PRODUCE
from aioproducer.sending.producer_id import explain_refusal

__all__ = ["add_arguments", "check"]

T = TypeVar("T")

_VALUE: Final = b"aioproducer check"
"""What the one record says."""
_MOST_BROKERS: Final = 20
"""Brokers whose addresses are walked to; more take too long to read."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand, and what runs it."""
    parser.description = (
        "Walk the way to the brokers step by step: names, TCP, TLS, versions, SASL, metadata,"
        " rights, and one idempotent record if a topic is named."
    )
    parser.epilog = (
        "Unless -b, -F or -X names the brokers, options come from the environment as well: "
        "KAFKA_BOOTSTRAP_SERVERS, KAFKA_SASL_USERNAME, ... "
        "Exit code: 0 all is well, 1 a step failed, 2 wrong usage or configuration."
    )
    add_broker_arguments(parser)
    parser.add_argument("-t", dest="topic", metavar="TOPIC", help="send one record to this topic")
    parser.set_defaults(run=_run)


async def check(config: ProducerConfig, topic: str | None, picture: Picture) -> None:
    """Walk the whole way; `picture.failures` counts what failed."""
    walk = _Walk(config, picture)
    picture.title(_about(config))
    connection: Connection | None = None
    try:
        for host, port in config.bootstrap_addresses:
            found = await walk.to(BrokerAddress(-1, host, port), "a bootstrap server")
            if connection is None:
                connection = found
            elif found is not None:
                await found.close()
        if connection is not None:
            await walk.through_cluster(connection, topic)
    except StepFailedError:
        return
    finally:
        if connection is not None:
            await connection.close()


class _Walk:
    """The steps, each on its own."""

    def __init__(self, config: ProducerConfig, picture: Picture) -> None:
        self._config = config
        self._picture = picture
        self._background = Background(asyncio.get_running_loop())
        self._options: ConnectionOptions = connection_options(config)
        self._timeout = config.socket_connection_setup_timeout_ms / 1000

    # ---- to one broker

    async def to(self, address: BrokerAddress, what: str) -> Connection | None:
        """Walk to an address; returns the connection, or None if a step failed."""
        self._picture.title(f"{address}, {what}")
        steps = ["name", "TCP", "TLS", "versions", "SASL"]
        if not self._config.uses_tls:
            steps.remove("TLS")
        if not self._config.uses_sasl:
            steps.remove("SASL")
        connection: Connection | None = None
        try:
            hosts = await self._resolve(address, steps)
            sock = await self._connect(address, hosts, steps)
            connection = await self._open(address, sock, steps)
            await self._negotiate(connection, steps)
            await self._log_in(connection, steps)
        except StepFailedError:
            self._picture.skipped(steps)
            if connection is not None:
                await connection.close()
            return None
        return connection

    async def _resolve(self, address: BrokerAddress, steps: list[str]) -> list[str]:
        with self._picture.step(_next(steps, "name")) as step:
            hosts = await self._in_time(address, resolve(address.host))
            step.found = ", ".join(hosts)
        return hosts

    async def _connect(
        self, address: BrokerAddress, hosts: Sequence[str], steps: list[str]
    ) -> socket.socket:
        with self._picture.step(_next(steps, "TCP")) as step:
            refused: KafkaError | None = None
            for host in hosts:
                try:
                    sock = await self._in_time(address, _socket(host, address.port))
                except KafkaError as error:
                    refused = error
                    step.more.append(f"{host}: {error.what()}")
                else:
                    step.found = host
                    return sock
            assert refused is not None
            raise refused

    async def _open(
        self, address: BrokerAddress, sock: socket.socket, steps: list[str]
    ) -> Connection:
        connection = Connection(self._background, address, self._options)
        loop = self._background.loop
        if self._options.tls is None:
            await loop.create_connection(lambda: connection, sock=sock)
            return connection
        host = sock.getpeername()[0]
        with self._picture.step(_next(steps, "TLS")) as step:
            try:
                opening = loop.create_connection(
                    lambda: connection,
                    sock=sock,
                    ssl=await self._options.tls.context(),
                    server_hostname=address.host.removesuffix("."),
                    ssl_handshake_timeout=self._timeout,
                )
                await self._in_time(address, opening)
            except KafkaError as error:
                sock.close()
                if isinstance(error, TlsError):
                    step.more += await self._certificate(address, host)
                raise
            assert connection.tls is not None
            step.found = f"{connection.tls.version()}, {(connection.tls.cipher() or ['?'])[0]}"
            step.more += describe_certificate(dict(connection.tls.getpeercert() or {}))
        return connection

    async def _certificate(self, address: BrokerAddress, host: str) -> list[str]:
        """What is known of a certificate that was refused."""
        fetch = partial(
            fetch_certificate, host, address.port, address.host, timeout=self._timeout / 2
        )
        try:
            fields: dict[str, Any] = await in_thread(fetch, name="aioproducer-check")
        except (OSError, ssl.SSLError, ValueError):
            return []
        return ["The certificate is", *describe_certificate(fields)]

    async def _negotiate(self, connection: Connection, steps: list[str]) -> None:
        with self._picture.step(_next(steps, "versions")) as step:
            await self._in_time(connection.address, connection.negotiate(timeout=self._timeout))
            produce = connection.version_for(PRODUCE)
            step.found = f"Produce {produce}, Metadata {connection.version_for(METADATA)}"

    async def _log_in(self, connection: Connection, steps: list[str]) -> None:
        mechanism = self._options.mechanism
        if mechanism is None:
            connection.ready()
            return
        with self._picture.step(_next(steps, "SASL")) as step:
            authentication = Authentication(
                connection,
                mechanism,
                self._background,
                self._options.login_threads,
                timeout=self._timeout,
            )
            await self._in_time(
                connection.address, authentication.begin(), ConnectionState.AUTHENTICATING
            )
            step.found = _login(self._config)

    # ---- through the cluster

    async def through_cluster(self, connection: Connection, topic: str | None) -> None:
        """Ask a broker for the others, walk to each, and try the rights."""
        self._picture.title("the cluster")
        names = [] if topic is None else [MetadataRequestTopic(name=topic)]
        with self._picture.step("metadata") as step:
            response = await self._ask(connection, MetadataRequest(names, False))
            if response.error_code:
                raise broker_error(response.error_code, broker=str(connection.address))
            step.found = f"cluster {response.cluster_id}, {_count(response.brokers, 'broker')}"
        for broker in response.brokers[:_MOST_BROKERS]:
            address = BrokerAddress(broker.node_id, broker.host, broker.port)
            found = await self.to(address, f"broker {broker.node_id}, as it advertises itself")
            if found is not None:
                await found.close()
        if len(response.brokers) > _MOST_BROKERS:
            self._picture.note(f"and {len(response.brokers) - _MOST_BROKERS} more brokers")
        await self._through_rights(connection, response, topic)
        if topic is not None and not self._picture.failures:
            await self._send(topic)

    async def _through_rights(
        self, connection: Connection, response: MetadataResponse, topic: str | None
    ) -> None:
        self._picture.title("the rights" + (f" on {topic}" if topic is not None else ""))
        if topic is not None:
            with self._picture.step("topic") as step:
                (found,) = response.topics
                if found.error_code:
                    error = broker_error(found.error_code, broker=str(connection.address))
                    if isinstance(error, UnknownTopicOrPartitionError):
                        error.hint = f"Create the topic {topic!r}: `check` never does."
                    raise error
                leaders = {partition.leader_id for partition in found.partitions} - {-1}
                step.found = (
                    f"{_count(found.partitions, 'partition')}, led by {_count(leaders, 'broker')}"
                )
        if self._config.enable_idempotence:
            with self._picture.step("idempotent") as step:
                await self._init_producer_id(connection)
                step.found = "a producer id was given"

    async def _init_producer_id(self, connection: Connection) -> None:
        request = InitProducerIdRequest(None, 2**31 - 1)
        give_up_at = self._background.time() + self._timeout
        while True:
            response = await self._request(connection, INIT_PRODUCER_ID, request)
            if not response.error_code:
                return
            error = broker_error(response.error_code, broker=str(connection.address))
            explain_refusal(error)
            # A cluster that has just come up is still loading what it needs for that.
            if not error.retriable or self._background.time() > give_up_at:
                raise error
            await asyncio.sleep(self._config.retry_backoff_ms / 1000)

    async def _send(self, topic: str) -> None:
        self._picture.title(f"one record to {topic}")
        # A start with the id would fence the application whose it is, and abort its transaction.
        config = self._config.replace(allow_auto_create_topics=False, transactional_id=None)
        with self._picture.step("start") as step:
            producer: Producer[bytes, bytes] = Producer(config)
            await producer.start()
            step.found = "the producer is ready"
            if self._config.transactional_id is not None:
                step.more.append("without transactional_id, which would fence the application")
        try:
            with self._picture.step("record") as step:
                stored = await producer.send_and_wait(topic, _VALUE)
                step.found = f"{stored.topic}-{stored.partition}, offset {stored.offset}"
        finally:
            await producer.close()

    async def _ask(self, connection: Connection, request: MetadataRequest) -> MetadataResponse:
        response: MetadataResponse = await self._request(connection, METADATA, request)
        return response

    async def _request(self, connection: Connection, api: Any, request: Any) -> Any:
        timeout = self._config.request_timeout_ms / 1000
        version = connection.version_for(api)
        asking = connection.request(api, version, request, timeout=timeout)
        return await self._in_time(connection.address, asking, ConnectionState.READY)

    async def _in_time(
        self,
        address: BrokerAddress,
        work: Awaitable[T],
        state: ConnectionState = ConnectionState.CONNECTING,
    ) -> T:
        """Wait for a part of a step; what goes wrong becomes an error that explains itself."""
        try:
            async with async_timeout.timeout(self._timeout):
                return await work
        except TimeoutError as error:
            raise KafkaConnectionError(
                f"No answer within {seconds(self._timeout)}", broker=str(address)
            ) from error
        except (OSError, KafkaError, ValueError, OverflowError) as error:
            explained = diagnose(error, address, uses_tls=self._config.uses_tls, state=state)
            if explained is error:
                raise
            raise explained from error


async def _socket(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, (host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _next(steps: list[str], label: str) -> str:
    """Take a step off those that are still to walk."""
    steps.remove(label)
    return label


def _about(config: ProducerConfig) -> str:
    return f"{', '.join(config.bootstrap_servers)}  {config.security_protocol}" + (
        f"  {_login(config)}" if config.uses_sasl else ""
    )


def _login(config: ProducerConfig) -> str:
    user = f" as {config.sasl_username}" if config.sasl_username else ""
    return f"{config.sasl_mechanism}{user}"


def _count(things: Sequence[object] | set[int], name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def _run(arguments: argparse.Namespace) -> int:
    try:
        config = config_from(arguments, os.environ, takes_transactional_id=True)
        picture = Picture(partial(print, flush=True))
        asyncio.run(check(config, arguments.topic, picture))
    except ConfigError as error:
        say(f"aioproducer: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    said = f"{picture.failures} step(s) failed" if picture.failures else "All is well"
    print(f"\n{said}.")
    return 1 if picture.failures else 0
