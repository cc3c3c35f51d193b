"""Test doubles for code that produces to Kafka.

`MockProducer` stores records in memory; `FakeCluster` has brokers on real sockets, and
`FakeCluster.in_thread` those for synchronous tests. The pytest fixtures are in `pytest_plugin.py`.

Each name is imported at its first use: pytest imports this package in every run of an environment
that has it installed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aioproducer.testing.apis.add_offsets_to_txn import AddOffsetsToTxnResponse
    from aioproducer.testing.apis.add_partitions_to_txn import (
        AddedPartition,
        AddPartitionsToTxnResponse,
    )
    from aioproducer.testing.apis.api_versions import ApiVersionsResponse
    from aioproducer.testing.apis.describe_transactions import (
        DescribedTransaction,
        DescribeTransactionsResponse,
    )
    from aioproducer.testing.apis.end_txn import EndTxnResponse
    from aioproducer.testing.apis.find_coordinator import Coordinator, FindCoordinatorResponse
    from aioproducer.testing.apis.init_producer_id import InitProducerIdResponse
    from aioproducer.testing.apis.metadata import (
        MetadataResponse,
        PartitionMetadata,
        TopicMetadata,
    )
    from aioproducer.testing.apis.offsets import CommittedPartition
    from aioproducer.testing.apis.produce import ProducedPartition, ProduceResponse
    from aioproducer.testing.apis.sasl_authenticate import SaslAuthenticateResponse
    from aioproducer.testing.apis.sasl_handshake import SaslHandshakeResponse
    from aioproducer.testing.apis.txn_offset_commit import TxnOffsetCommitResponse
    from aioproducer.testing.batch import FakeRecord
    from aioproducer.testing.cluster import FakeCluster
    from aioproducer.testing.controls import FakeClusterOptions
    from aioproducer.testing.error_codes import ErrorCode
    from aioproducer.testing.faults import Cut, Delay, Edit, Fail, FakeResponse, Hang, Mutate
    from aioproducer.testing.habits import (
        EVENT_HUBS,
        KROXYLICIOUS,
        LIBRDKAFKA_MOCK,
        TANSU,
        Habits,
    )
    from aioproducer.testing.in_thread import FakeClusterInThread
    from aioproducer.testing.mock import MockProducer
    from aioproducer.testing.mock_broker import SentRecord
    from aioproducer.testing.observed import ApiName, FakeRequest, SentBatch
    from aioproducer.testing.sasl import FakeSasl
    from aioproducer.testing.transaction_values import FakeTransaction

__all__ = [
    "EVENT_HUBS",
    "KROXYLICIOUS",
    "LIBRDKAFKA_MOCK",
    "TANSU",
    "AddOffsetsToTxnResponse",
    "AddPartitionsToTxnResponse",
    "AddedPartition",
    "ApiName",
    "ApiVersionsResponse",
    "CommittedPartition",
    "Coordinator",
    "Cut",
    "Delay",
    "DescribeTransactionsResponse",
    "DescribedTransaction",
    "Edit",
    "EndTxnResponse",
    "ErrorCode",
    "Fail",
    "FakeCluster",
    "FakeClusterInThread",
    "FakeClusterOptions",
    "FakeRecord",
    "FakeRequest",
    "FakeResponse",
    "FakeSasl",
    "FakeTransaction",
    "FindCoordinatorResponse",
    "Habits",
    "Hang",
    "InitProducerIdResponse",
    "MetadataResponse",
    "MockProducer",
    "Mutate",
    "PartitionMetadata",
    "ProduceResponse",
    "ProducedPartition",
    "SaslAuthenticateResponse",
    "SaslHandshakeResponse",
    "SentBatch",
    "SentRecord",
    "TopicMetadata",
    "TxnOffsetCommitResponse",
]

_MODULES = {
    "apis.api_versions": ("ApiVersionsResponse",),
    "apis.init_producer_id": ("InitProducerIdResponse",),
    "apis.metadata": ("MetadataResponse", "PartitionMetadata", "TopicMetadata"),
    "apis.produce": ("ProduceResponse", "ProducedPartition"),
    "apis.sasl_authenticate": ("SaslAuthenticateResponse",),
    "apis.sasl_handshake": ("SaslHandshakeResponse",),
    "apis.add_offsets_to_txn": ("AddOffsetsToTxnResponse",),
    "apis.add_partitions_to_txn": (
        "AddPartitionsToTxnResponse",
        "AddedPartition",
    ),
    "apis.describe_transactions": ("DescribeTransactionsResponse", "DescribedTransaction"),
    "apis.end_txn": ("EndTxnResponse",),
    "apis.find_coordinator": (
        "Coordinator",
        "FindCoordinatorResponse",
    ),
    "apis.offsets": ("CommittedPartition",),
    "apis.txn_offset_commit": ("TxnOffsetCommitResponse",),
    "transaction_values": ("FakeTransaction",),
    "batch": ("FakeRecord",),
    "cluster": ("FakeCluster",),
    "controls": ("FakeClusterOptions",),
    "error_codes": ("ErrorCode",),
    "faults": ("Cut", "Delay", "Edit", "Fail", "FakeResponse", "Hang", "Mutate"),
    "habits": ("EVENT_HUBS", "KROXYLICIOUS", "LIBRDKAFKA_MOCK", "TANSU", "Habits"),
    "in_thread": ("FakeClusterInThread",),
    "mock": ("MockProducer",),
    "mock_broker": ("SentRecord",),
    "observed": ("ApiName", "FakeRequest", "SentBatch"),
    "sasl": ("FakeSasl",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
