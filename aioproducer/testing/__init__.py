"""Test doubles for code that produces to Kafka: `FakeCluster`, brokers in your own process."""

from __future__ import annotations

from aioproducer.testing.apis.api_versions import ApiVersionsAnswer
from aioproducer.testing.apis.init_producer_id import InitProducerIdAnswer
from aioproducer.testing.apis.metadata import MetadataAnswer, PartitionMetadata, TopicMetadata
from aioproducer.testing.apis.produce import ProduceAnswer, ProducedPartition
from aioproducer.testing.apis.sasl_authenticate import SaslAuthenticateAnswer
from aioproducer.testing.apis.sasl_handshake import SaslHandshakeAnswer
from aioproducer.testing.batch import FakeRecord
from aioproducer.testing.cluster import FakeCluster
from aioproducer.testing.error_codes import ErrorCode
from aioproducer.testing.faults import Cut, Delay, Edit, Fail, FakeResponse, Hang, Mutate
from aioproducer.testing.habits import (
    EVENT_HUBS,
    KROXYLICIOUS,
    LIBRDKAFKA_MOCK,
    TANSU,
    Habits,
)
from aioproducer.testing.observed import ApiName, FakeRequest, SentBatch
from aioproducer.testing.sasl import FakeSasl

__all__ = [
    "EVENT_HUBS",
    "KROXYLICIOUS",
    "LIBRDKAFKA_MOCK",
    "TANSU",
    "ApiName",
    "ApiVersionsAnswer",
    "Cut",
    "Delay",
    "Edit",
    "ErrorCode",
    "Fail",
    "FakeCluster",
    "FakeRecord",
    "FakeRequest",
    "FakeResponse",
    "FakeSasl",
    "Habits",
    "Hang",
    "InitProducerIdAnswer",
    "MetadataAnswer",
    "Mutate",
    "PartitionMetadata",
    "ProduceAnswer",
    "ProducedPartition",
    "SaslAuthenticateAnswer",
    "SaslHandshakeAnswer",
    "SentBatch",
    "TopicMetadata",
]
