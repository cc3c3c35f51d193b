"""The native half of the sender, with a broker that the test plays.

`NativeSender` has an accumulator, the `BrokerQueues` that take its batches, and one connection to
broker 1. It decodes the requests, and the test responds to them. `asked` lists the calls in which
native code asks Python to decide.
"""

from __future__ import annotations

from typing import Any, cast

from aioproducer._native.broker_queues import BrokerQueues, Counters
from aioproducer._native.clock import Clock
from aioproducer._native.codec import decode, encode
from aioproducer._native.core_connection import CoreConnection
from aioproducer._native.produce_response import SentRequest
from aioproducer._native.queues import (
    BrokerQueue,
    CorePartitionQueue,
    CoreProducerId,
    InFlightLimit,
)
from aioproducer.background import Background, Timer
from aioproducer.config import ProducerConfig
from aioproducer.errors import KafkaError
from aioproducer.network.metadata import PartitionLeader
from aioproducer.protocol.frames import decode_response
from aioproducer.protocol.produce import (
    PRODUCE,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from aioproducer.sending.flush import Flushes
from aioproducer.sending.partition_queue import PartitionQueue
from aioproducer.sending.sequences import ProducerIdAndEpoch
from tests.support.core import TOPIC, Core, ManualLoop

TOPIC_ID = bytes(range(16))


class Wire(CoreConnection):
    """A connection whose bytes go nowhere.

    Attributes:
        sent: The requests, without their sizes.
        left: The frames that were no plain success.
    """

    def __init__(self, sender: NativeSender) -> None:
        super().__init__(sender.loop.time)
        self.sent: list[bytes] = []
        self.left: list[bytes] = []
        self._bytes = bytearray()
        self._sender = sender
        self.begin(self, -1)

    def writelines(self, chunks: Any, /) -> None:
        for chunk in chunks:
            self._bytes += chunk
        while len(self._bytes) >= 4:
            size = int.from_bytes(self._bytes[:4], "big")
            if len(self._bytes) < 4 + size:
                return
            self.sent.append(bytes(self._bytes[4 : 4 + size]))
            del self._bytes[: 4 + size]

    def get_write_buffer_size(self) -> int:
        return 0

    def take_slowly(self, data: bytes) -> bool:
        while data:
            size = int.from_bytes(data[:4], "big")
            frame, data = data[4 : 4 + size], data[4 + size :]
            self.left.append(frame)
        return False

    def drained(self) -> None:
        """Nobody waits for that here."""

    def check_timeout_at(self, deadline: float) -> None:
        """No time passes here."""


class AskedProducerId(CoreProducerId):
    """A producer id that writes down when another one is needed."""

    def __init__(self, asked: list[str]) -> None:
        self.asked = asked
        self.current = ProducerIdAndEpoch(7, 0)

    def need(self) -> None:
        self.asked.append("producer id")


class NativeSender:
    """See the module.

    Args:
        version: The newest version of Produce that the broker speaks.
        partitions: How many the topic has; broker 1 leads all of them.
    """

    def __init__(self, *, version: int = 13, partitions: int = 3, **options: Any) -> None:
        self.loop = ManualLoop()
        self.asked: list[str] = []
        self.answers: list[tuple[ProduceResponse | None, KafkaError | None]] = []
        self.producer_id = AskedProducerId(self.asked)
        self.expects_responses = options.get("acks") != 0
        background = Background(self.loop.as_loop())
        self.broker_queues = BrokerQueues(
            loop=self.loop.as_loop(),
            clock=Clock(self.loop.time, False),
            decisions=self,
            producer_id=self.producer_id,
            flushes=Flushes(self.loop.as_loop()),
            counters=Counters(),
            produce_api=PRODUCE,
            config=ProducerConfig(bootstrap_servers="b:9092", **options),
            compresses=False,
        )
        self._timer = Timer(background, self._drain)
        self.core = Core(
            self.loop.as_loop(),
            partitions=0,
            queue_type=PartitionQueue,
            events=self.broker_queues,
            batch_size=16_384,
        )
        self.broker_queues.serve(self.core.accumulator)
        self.wire = Wire(self)
        self.wire.produce_version = version
        self.know(TOPIC, partitions, TOPIC_ID)

    def know(self, name: str, partitions: int, topic_id: bytes) -> None:
        """Make a topic known, led by broker 1."""
        self.core.know(name, partitions)
        self.core.topic(name).topic_id = topic_id
        for partition in range(partitions):
            queue = self.core.queue(partition, name)
            assert isinstance(queue, PartitionQueue)
            queue.led_by(PartitionLeader(1, 0))

    def prove(self, *partitions: int, topic: str = TOPIC) -> None:
        """Have a first record of each partition stored, so that others may follow in flight."""
        for partition in partitions:
            self.core.put(partition=partition, topic=topic)
            self.loop.run_once()
            self.answer(self.last())

    def last(self) -> SentRequest:
        """The request that was sent last and waits for its response."""
        request = self.wire.pending[-1]
        assert isinstance(request, SentRequest)
        return request

    def request(self, position: int = -1) -> ProduceRequest:
        """What a request says, decoded by the generic codec."""
        frame = self.wire.sent[position]
        version = int.from_bytes(frame[2:4], "big")
        size = int.from_bytes(frame[8:10], "big")
        value, end = decode(frame, PRODUCE.request_plan(version), 11 + size)
        assert end == len(frame)
        return cast("ProduceRequest", value)

    def success(self, sent: SentRequest, base_offset: int = 0) -> ProduceResponse:
        """The response that stores everything."""
        return ProduceResponse(
            [
                TopicProduceResponse(
                    topic.name,
                    topic_id,
                    [
                        PartitionProduceResponse(batch.partition, 0, base_offset)
                        for _, batch in pairs
                    ],
                )
                for topic, topic_id, pairs in sent.by_topic
            ]
        )

    def frame(self, sent: SentRequest, response: ProduceResponse) -> bytes:
        """A response as it comes from the socket, with its size."""
        body = encode(response, PRODUCE.response_plan(sent.version))
        frame = sent.correlation_id.to_bytes(4, "big") + b"\0" + b"".join(body)
        return len(frame).to_bytes(4, "big") + frame

    def answer(self, sent: SentRequest, response: ProduceResponse | None = None) -> None:
        """Answer a request; with success if no response is given."""
        self.wire.data_received(self.frame(sent, response or self.success(sent)))

    def decoded(self, frame: bytes, version: int) -> ProduceResponse:
        return decode_response(PRODUCE, version, frame)[1]

    def _drain(self) -> None:
        self.broker_queues.drain(self.broker_queues.of(1))

    # ---- Decisions

    def prepare_closed(self, queue: CorePartitionQueue, /) -> None:
        self.asked.append("prepare_closed")

    def fit_head(self, queue: CorePartitionQueue, /) -> bool:
        self.asked.append("fit_head")
        return False

    def prepare_head(self, queue: CorePartitionQueue, /) -> bool:
        self.asked.append("prepare_head")
        return True

    def linger_until(self, queue: CorePartitionQueue, at: float, /) -> None:
        self.asked.append("linger_until")

    def retry_until(self, queue: CorePartitionQueue, at: float, /) -> None:
        self.asked.append("retry_until")

    def expire_at(self, queue: CorePartitionQueue, at: float, /) -> None:
        self.asked.append(f"expire_at {queue.partition}")

    def partition_needed(self, queue: CorePartitionQueue) -> None:
        raise AssertionError("no transaction adds partitions here")

    def lacks_leader(self, queue: CorePartitionQueue, /) -> None:
        self.asked.append("lacks_leader")

    def close_gap(self, queue: CorePartitionQueue, /) -> None:
        self.asked.append("close_gap")

    def new_broker_queue(self, node_id: int, /) -> BrokerQueue:
        return BrokerQueue(node_id, InFlightLimit(1 << 24, 30.0), self._timer)

    def connection(self, node_id: int, /) -> CoreConnection | None:
        return self.wire

    def send(self, sent: SentRequest, connection: CoreConnection, /) -> None:
        self.asked.append("send")
        sent.send_as(min(connection.produce_version, 8), connection.take_correlation_id())
        if self.expects_responses:
            connection.expect(sent, sent.deadline, sent.sent_at)

    def not_sent(self, sent: SentRequest, connection: CoreConnection, error: Exception, /) -> None:
        raise error

    def sent_without_response(self, sent: SentRequest, /) -> None:
        self.asked.append("sent_without_response")
        self.broker_queues.request_over(sent, False)
        for queue, batch in zip(sent.queues, sent.batches, strict=True):
            queue.request_ended(batch)
            batch.complete(-1)
            self.core.accumulator.release(batch)

    def admit(self) -> None:
        self.asked.append("admit")

    def handle_response(
        self, sent: SentRequest, response: ProduceResponse | None, error: KafkaError | None, /
    ) -> None:
        self.answers.append((response, error))
