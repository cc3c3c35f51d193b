"""Metadata (3): the brokers of the cluster, and the leader of each partition of some topics.

Kafka 2.1 offers version 7. Azure Event Hubs offers 0 to 5, which have no leader epochs: every epoch
is -1 there. Version 4 is the first that says whether a topic may be created.
"""

from collections.abc import Sequence
from typing import NamedTuple

from aioproducer.protocol.schema import (
    BOOL,
    INT16,
    INT32,
    NO_TOPIC_ID,
    STRING,
    UUID,
    Api,
    Array,
    Field,
    Struct,
)

__all__ = [
    "METADATA",
    "MetadataRequest",
    "MetadataRequestTopic",
    "MetadataResponse",
    "MetadataResponseBroker",
    "MetadataResponsePartition",
    "MetadataResponseTopic",
]


class MetadataRequestTopic(NamedTuple):
    """A topic asked for by name, or by id with a null name (from version 12 on)."""

    topic_id: bytes = NO_TOPIC_ID
    name: str | None = ""


class MetadataRequest(NamedTuple):
    """Asks for topics: None for all of them, an empty sequence for the brokers alone."""

    topics: Sequence[MetadataRequestTopic] | None = ()
    allow_auto_topic_creation: bool = True
    include_cluster_authorized_operations: bool = False
    include_topic_authorized_operations: bool = False


class MetadataResponseBroker(NamedTuple):
    """A broker of the cluster."""

    node_id: int = 0
    host: str = ""
    port: int = 0
    rack: str | None = None


class MetadataResponsePartition(NamedTuple):
    """A partition and its leader: id -1 while there is none, epoch -1 before version 7."""

    error_code: int = 0
    partition_index: int = 0
    leader_id: int = 0
    leader_epoch: int = -1


class MetadataResponseTopic(NamedTuple):
    """A topic; the name is null for an unknown topic id, the id is zero before version 10."""

    error_code: int = 0
    name: str | None = ""
    topic_id: bytes = NO_TOPIC_ID
    is_internal: bool = False
    partitions: Sequence[MetadataResponsePartition] = ()


class MetadataResponse(NamedTuple):
    """The brokers, and the topics asked for. `error_code` is for the whole response (KIP-1102)."""

    throttle_time_ms: int = 0
    brokers: Sequence[MetadataResponseBroker] = ()
    cluster_id: str | None = None
    controller_id: int = -1
    topics: Sequence[MetadataResponseTopic] = ()
    error_code: int = 0


# What Kafka sends for operations that were not asked for.
_NOT_ASKED = -(2**31)

_REQUEST = Struct(
    MetadataRequest,
    Field(
        "topics",
        Array(
            Struct(
                MetadataRequestTopic,
                Field("topic_id", UUID, since=10, ignorable=True),
                Field("name", STRING, nullable_since=10),
            )
        ),
        nullable_since=1,
    ),
    Field("allow_auto_topic_creation", BOOL, since=4),
    Field("include_cluster_authorized_operations", BOOL, since=8, until=10),
    Field("include_topic_authorized_operations", BOOL, since=8),
)

# A producer writes to leaders only. The replicas, most of a large cluster's response, are skipped
# without making an object.
_PARTITION = Struct(
    MetadataResponsePartition,
    Field("error_code", INT16),
    Field("partition_index", INT32),
    Field("leader_id", INT32),
    Field("leader_epoch", INT32, since=7, ignorable=True),
    Field("replica_nodes", Array(INT32), skip=True),
    Field("isr_nodes", Array(INT32), skip=True),
    Field("offline_replicas", Array(INT32), since=5, skip=True),
)

_RESPONSE = Struct(
    MetadataResponse,
    Field("throttle_time_ms", INT32, since=3, ignorable=True),
    Field(
        "brokers",
        Array(
            Struct(
                MetadataResponseBroker,
                Field("node_id", INT32),
                Field("host", STRING),
                Field("port", INT32),
                Field("rack", STRING, since=1, nullable_since=1, ignorable=True),
            )
        ),
    ),
    Field("cluster_id", STRING, since=2, nullable_since=2, ignorable=True),
    Field("controller_id", INT32, since=1, ignorable=True),
    Field(
        "topics",
        Array(
            Struct(
                MetadataResponseTopic,
                Field("error_code", INT16),
                Field("name", STRING, nullable_since=12),
                Field("topic_id", UUID, since=10, ignorable=True),
                Field("is_internal", BOOL, since=1, ignorable=True),
                Field("partitions", Array(_PARTITION)),
                Field("topic_authorized_operations", INT32, since=8, skip=True, default=_NOT_ASKED),
            )
        ),
    ),
    Field(
        "cluster_authorized_operations",
        INT32,
        since=8,
        until=10,
        skip=True,
        default=_NOT_ASKED,
    ),
    Field("error_code", INT16, since=13, ignorable=True),
)

METADATA = Api(
    key=3,
    name="Metadata",
    min_version=4,
    max_version=13,
    flexible_from=9,
    pause_from=6,
    request=_REQUEST,
    response=_RESPONSE,
)
