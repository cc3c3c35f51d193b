"""Every version of every message, byte for byte against kio, in both directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aioproducer._native.codec import Plan, decode, encode
from aioproducer.protocol.add_offsets_to_txn import ADD_OFFSETS_TO_TXN
from aioproducer.protocol.add_partitions_to_txn import ADD_PARTITIONS_TO_TXN
from aioproducer.protocol.api_versions import API_VERSIONS
from aioproducer.protocol.describe_transactions import DESCRIBE_TRANSACTIONS
from aioproducer.protocol.end_txn import END_TXN
from aioproducer.protocol.find_coordinator import FIND_COORDINATOR
from aioproducer.protocol.frames import encode_request
from aioproducer.protocol.init_producer_id import INIT_PRODUCER_ID
from aioproducer.protocol.metadata import METADATA
from aioproducer.protocol.produce import PRODUCE
from aioproducer.protocol.sasl_authenticate import SASL_AUTHENTICATE
from aioproducer.protocol.sasl_handshake import SASL_HANDSHAKE
from aioproducer.protocol.schema import Api, Array, Struct
from aioproducer.protocol.txn_offset_commit import TXN_OFFSET_COMMIT
from tests.support.kio_messages import kio_bytes, kio_class, plain, plain_default, values_of

AnyApi = Api[Any, Any]

APIS: dict[str, AnyApi] = {
    "produce": PRODUCE,
    "metadata": METADATA,
    "api_versions": API_VERSIONS,
    "init_producer_id": INIT_PRODUCER_ID,
    "find_coordinator": FIND_COORDINATOR,
    "add_partitions_to_txn": ADD_PARTITIONS_TO_TXN,
    "add_offsets_to_txn": ADD_OFFSETS_TO_TXN,
    "end_txn": END_TXN,
    "txn_offset_commit": TXN_OFFSET_COMMIT,
    "describe_transactions": DESCRIBE_TRANSACTIONS,
    "sasl_handshake": SASL_HANDSHAKE,
    "sasl_authenticate": SASL_AUTHENTICATE,
}
VERSIONS = [
    pytest.param(name, version, id=f"{name}-v{version}")
    for name, api in APIS.items()
    for version in range(api.min_version, api.max_version + 1)
]
# What the producer reads over: written as Kafka's defaults.
SKIPPED = {
    "replica_nodes": (),
    "isr_nodes": (),
    "offline_replicas": (),
    "topic_authorized_operations": -(2**31),
    "cluster_authorized_operations": -(2**31),
}
few = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


def without_skipped(message: Any) -> Any:
    if isinstance(message, dict):
        fields = cast("dict[str, Any]", message)
        return {k: without_skipped(v) for k, v in fields.items() if k not in SKIPPED}
    if isinstance(message, list):
        return [without_skipped(item) for item in cast("list[object]", message)]
    return message


def only_known(ours: Any, theirs: Any) -> Any:
    """Drop from ours what the version lacks: what kio does not name."""
    if isinstance(ours, dict):
        fields = cast("dict[str, Any]", ours)
        return {k: only_known(v, theirs[k]) for k, v in fields.items() if k in theirs}
    if isinstance(ours, list):
        items = cast("list[object]", ours)
        return [only_known(a, b) for a, b in zip(items, theirs, strict=True)]
    return ours


def check(entity: Any, plan: Plan, *, same_bytes: bool) -> None:
    data = kio_bytes(entity)
    ours, end = decode(data, plan)
    theirs = without_skipped(plain(entity))
    assert only_known(plain(ours), theirs) == theirs
    assert end == len(data)
    if same_bytes:
        assert b"".join(encode(ours, plan)) == data


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_a_request_is_the_same_bytes_as_kios(name: str, version: int) -> None:
    api = APIS[name]
    entity = kio_class(name, version, api.request.record.__name__)

    @few
    @given(values_of(entity))
    def run(message: Any) -> None:
        check(message, api.request_plan(version), same_bytes=True)

    run()


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_a_response_of_kio_is_read_as_what_it_says(name: str, version: int) -> None:
    api = APIS[name]
    entity = kio_class(name, version, api.response.record.__name__)

    @few
    @given(values_of(entity))
    def run(message: Any) -> None:
        check(message, api.response_plan(version), same_bytes=False)

    run()


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_a_response_is_the_same_bytes_as_kios(name: str, version: int) -> None:
    api = APIS[name]
    entity = kio_class(name, version, api.response.record.__name__)

    @few
    @given(values_of(entity, **SKIPPED))
    def run(message: Any) -> None:
        check(message, api.response_plan(version), same_bytes=True)

    run()


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_a_request_frame_is_kios_header_and_body(name: str, version: int) -> None:
    api = APIS[name]
    entity = kio_class(name, version, api.request.record.__name__)
    header = entity.__header_schema__

    @few
    @given(
        values_of(entity),
        st.integers(-(2**31), 2**31 - 1),
        st.one_of(st.none(), st.text(max_size=9)),
    )
    def run(message: Any, correlation_id: int, client_id: str | None) -> None:
        body = kio_bytes(message)
        head = kio_bytes(
            header(
                request_api_key=api.key,
                request_api_version=version,
                correlation_id=correlation_id,
                client_id=client_id,
            )
        )
        request, _ = decode(body, api.request_plan(version))
        frame = b"".join(encode_request(api, version, correlation_id, client_id, request))
        assert frame == len(head + body).to_bytes(4, "big") + head + body

    run()


@pytest.mark.parametrize("name", APIS)
def test_every_default_is_kafkas(name: str) -> None:
    for struct in (APIS[name].request, APIS[name].response):
        for record in records_of(struct):
            entity = kio_class(name, APIS[name].max_version, record.__name__, struct.record)
            for field in dataclasses.fields(entity):
                kafkas = plain_default(field)
                if kafkas is not None and field.name not in SKIPPED:
                    wire_name, default = kafkas
                    assert plain(getattr(record(), wire_name)) == default, (record, wire_name)


def records_of(struct: Struct[Any]) -> Iterator[type[Any]]:
    yield struct.record
    for field in struct.fields:
        kind = field.type.of if isinstance(field.type, Array) else field.type
        if isinstance(kind, Struct):
            yield from records_of(kind)


@pytest.mark.parametrize(("name", "version"), VERSIONS)
def test_what_a_version_lacks_is_read_as_its_default(name: str, version: int) -> None:
    api = APIS[name]
    for plan, record in (
        (api.request_plan(version), api.request.record),
        (api.response_plan(version), api.response.record),
    ):
        assert decode(b"".join(encode(record(), plan)), plan)[0] == record()
