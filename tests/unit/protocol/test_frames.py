from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioproducer._native.codec import encode
from aioproducer.errors import ProtocolError, UnsupportedVersionError
from aioproducer.protocol.api_versions import API_VERSIONS, ApiVersion, ApiVersionsResponse
from aioproducer.protocol.frames import (
    FrameDecoder,
    decode_response,
    encode_request,
    read_correlation_id,
)
from aioproducer.protocol.init_producer_id import (
    INIT_PRODUCER_ID,
    InitProducerIdRequest,
    InitProducerIdResponse,
)
from aioproducer.protocol.metadata import (
    METADATA,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from aioproducer.protocol.produce import (
    PRODUCE,
    BatchIndexAndErrorMessage,
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from aioproducer.protocol.schema import Api

FIRST_FRAME = b"\x00\x00\x00\x04" + b"\x00\x00\x00\x07"


def response_frame(api: Api[Any, Any], version: int, response: tuple[object, ...]) -> bytes:
    flexible = api.is_flexible(version) and api is not API_VERSIONS
    header = (7).to_bytes(4, "big") + (b"\x00" if flexible else b"")
    return header + b"".join(encode(response, api.response_plan(version)))


def test_the_first_request_of_a_connection_is_these_bytes() -> None:
    request = API_VERSIONS.request.record("aioproducer", "1.0")
    assert b"".join(encode_request(API_VERSIONS, 3, 1, "me", request)) == (
        b"\x00\x00\x00\x1e"  # size
        b"\x00\x12\x00\x03\x00\x00\x00\x01\x00\x02me\x00"  # key, version, id, client id, tags
        b"\x0caioproducer\x041.0\x00"  # compact strings, tags
    )


def test_a_client_id_may_be_absent() -> None:
    chunks = encode_request(INIT_PRODUCER_ID, 0, 1, None, InitProducerIdRequest(None, 1))
    assert b"".join(chunks)[12:14] == b"\xff\xff"


@pytest.mark.parametrize("version", range(7, 14))
def test_record_batches_go_out_uncopied_in_their_order(version: int) -> None:
    memory = [bytearray(b"a" * 100), bytearray(b"b" * 50)]
    header = b"h" * 61
    data = [
        PartitionProduceData(index, [header, memoryview(chunk)])
        for index, chunk in enumerate(memory)
    ]
    request = ProduceRequest(None, -1, 1000, [TopicProduceData("t", b"i" * 16, data)])
    chunks = encode_request(PRODUCE, version, 1, "me", request)
    buffers = [chunk for chunk in chunks if isinstance(chunk, memoryview)]
    assert [buffer.obj for buffer in buffers] == memory
    assert all(buffer.obj is chunk for buffer, chunk in zip(buffers, memory, strict=True))
    assert sum(chunk is header for chunk in chunks) == 2
    assert int.from_bytes(chunks[0][:4], "big") == sum(map(len, chunks)) - 4


def test_the_size_of_the_records_is_written_before_them() -> None:
    data = [PartitionProduceData(5, [b"abc", memoryview(b"defg")])]
    request = ProduceRequest(None, -1, 1000, [TopicProduceData("t", partition_data=data)])
    frame = b"".join(encode_request(PRODUCE, 7, 1, "me", request))
    assert frame.endswith(b"\x00\x00\x00\x05" + b"\x00\x00\x00\x07abcdefg")


def test_a_value_that_the_version_cannot_carry_is_refused() -> None:
    request = InitProducerIdRequest(None, 1000, producer_id=5, producer_epoch=1)
    with pytest.raises(UnsupportedVersionError, match=r"InitProducerIdRequest\.producer_id"):
        encode_request(INIT_PRODUCER_ID, 2, 1, "me", request)
    assert encode_request(INIT_PRODUCER_ID, 3, 1, "me", request)


def test_a_version_that_we_do_not_speak_is_refused() -> None:
    with pytest.raises(ValueError, match="Produce version 6 is not in 7-13"):
        encode_request(PRODUCE, 6, 1, "me", ProduceRequest())


def test_a_response_comes_back_with_its_correlation_id() -> None:
    response = InitProducerIdResponse(0, 0, 4000, 2)
    for version in range(6):
        frame = response_frame(INIT_PRODUCER_ID, version, response)
        assert decode_response(INIT_PRODUCER_ID, version, frame) == (7, response)
        assert read_correlation_id(frame) == 7


def test_tagged_fields_of_the_header_are_read_over() -> None:
    frame = response_frame(INIT_PRODUCER_ID, 2, InitProducerIdResponse())
    with_tag = frame[:4] + b"\x01\x63\x02ab" + frame[5:]
    assert decode_response(INIT_PRODUCER_ID, 2, with_tag) == (7, InitProducerIdResponse())


def test_the_header_of_an_api_versions_response_is_never_flexible() -> None:
    response = ApiVersionsResponse(0, (ApiVersion(0, 3, 13),), 0)
    frame = response_frame(API_VERSIONS, 4, response)
    assert decode_response(API_VERSIONS, 4, frame) == (7, response)


@pytest.mark.parametrize("version", range(5))
def test_unsupported_version_of_api_versions_is_answered_in_version_0(version: int) -> None:
    response = ApiVersionsResponse(35, (ApiVersion(18, 0, 2),))
    frame = response_frame(API_VERSIONS, 0, response)
    assert decode_response(API_VERSIONS, version, frame) == (7, response)


@pytest.mark.parametrize("version", [3, 4])
def test_a_refusal_of_api_versions_may_come_in_the_version_asked(version: int) -> None:
    # As Kroxylicious 0.9 refuses version 4.
    frame = b"\0\0\0\7" + bytes.fromhex("0023 02 0012 0000 0003 00 00000000 00")
    response = ApiVersionsResponse(35, (ApiVersion(18, 0, 3),))
    assert decode_response(API_VERSIONS, version, frame) == (7, response)


@pytest.mark.parametrize("version", range(5))
@pytest.mark.parametrize(
    "refusal",
    [
        # As librdkafka's mock cluster refuses versions 3 and 4.
        pytest.param("0023 01 0012 0000 0002 00000000", id="librdkafka"),
        pytest.param("0023", id="nothing behind it"),
        pytest.param("002a 00000000 00000000 00 00", id="INVALID_REQUEST and zeros"),
        pytest.param("0023 ffffffff", id="a null list"),
        pytest.param("0023 00000002 0012 0000 0002", id="a list cut short"),
    ],
)
def test_of_a_refusal_that_fits_no_form_only_the_error_counts(version: int, refusal: str) -> None:
    frame = b"\0\0\0\7" + bytes.fromhex(refusal)
    code = int(refusal[:4], 16)
    assert decode_response(API_VERSIONS, version, frame) == (7, ApiVersionsResponse(code))


@pytest.mark.parametrize("version", [0, 3, 4])
def test_of_a_refusal_with_bytes_behind_a_good_list_only_the_error_counts(version: int) -> None:
    # In versions 1 and 2 they are a pause.
    frame = b"\0\0\0\7" + bytes.fromhex("0023 00000001 0012 0000 0002 7fffffff")
    assert decode_response(API_VERSIONS, version, frame) == (7, ApiVersionsResponse(35))


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_refusal_of_api_versions_never_asks_for_a_pause(version: int) -> None:
    response = ApiVersionsResponse(35, (ApiVersion(18, 0, 2),), throttle_time_ms=5_000)
    frame = response_frame(API_VERSIONS, version, response)
    assert decode_response(API_VERSIONS, version, frame)[1] == response._replace(throttle_time_ms=0)


def test_bytes_behind_a_response_are_ignored() -> None:
    frame = response_frame(INIT_PRODUCER_ID, 1, InitProducerIdResponse()) + b"more"
    assert decode_response(INIT_PRODUCER_ID, 1, frame)[1] == InitProducerIdResponse()


def test_a_response_without_correlation_id_is_a_protocol_error() -> None:
    with pytest.raises(ProtocolError, match="3 bytes"):
        read_correlation_id(b"abc")


def test_an_undecodable_response_names_the_field_and_the_place() -> None:
    topic = MetadataResponseTopic(0, "t", partitions=(MetadataResponsePartition(),))
    response = MetadataResponse(topics=(topic,))
    frame = response_frame(METADATA, 7, response)
    with pytest.raises(ProtocolError, match=r"MetadataResponse\.topics\.partitions"):
        decode_response(METADATA, 7, frame[:-2])


# Frames from a stream.


@settings(max_examples=50, deadline=None, database=None)
@given(st.lists(st.binary(min_size=4, max_size=40), max_size=5), st.data())
def test_frames_come_out_whole_however_the_bytes_come_in(
    frames: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    decoder = FrameDecoder()
    out: list[bytes] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        out += decoder.feed(stream[start:end])
    assert out == frames
    assert decoder.pending_bytes == 0


def test_fed_bytes_are_kept_also_if_nobody_looks_at_the_frames() -> None:
    decoder = FrameDecoder()
    decoder.feed(FIRST_FRAME)
    assert list(decoder.feed(FIRST_FRAME)) == [FIRST_FRAME[4:]] * 2


def test_a_frame_does_not_change_when_the_buffer_it_came_in_is_used_again() -> None:
    buffer = bytearray(FIRST_FRAME)
    [frame] = FrameDecoder().feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert frame == FIRST_FRAME[4:]


@pytest.mark.parametrize("size", [-1, -(2**31), 0, 3, 101, 2**31 - 1])
def test_an_impossible_size_is_a_protocol_error(size: int) -> None:
    decoder = FrameDecoder(max_frame_size=100)
    with pytest.raises(ProtocolError, match="Kafka listener"):
        list(decoder.feed(FIRST_FRAME + size.to_bytes(4, "big", signed=True)))


def test_the_frames_before_a_bad_one_are_delivered() -> None:
    frames = FrameDecoder().feed(FIRST_FRAME + b"\xff\xff\xff\xff")
    assert next(frames) == FIRST_FRAME[4:]
    with pytest.raises(ProtocolError):
        next(frames)


def test_the_largest_frame_is_accepted_and_one_byte_more_is_not() -> None:
    assert list(FrameDecoder(max_frame_size=5).feed(b"\x00\x00\x00\x0512345")) == [b"12345"]
    with pytest.raises(ProtocolError):
        list(FrameDecoder(max_frame_size=5).feed(b"\x00\x00\x00\x06"))


@pytest.mark.parametrize(
    ("start", "question"),
    [
        (b"\x15\x03\x03\x00\x02\x02\x46", "is TLS missing?"),
        (b"\x15\x03\x01\x00\x02", "security_protocol"),
        (b"HTTP/1.1 400 Bad Request\r\n", "web server"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not a Kafka broker"),
    ],
)
def test_another_protocol_is_recognized_and_the_error_asks_the_right_question(
    start: bytes, question: str
) -> None:
    with pytest.raises(ProtocolError) as caught:
        list(FrameDecoder().feed(start))
    assert question in str(caught.value)


# Hostile brokers.

SAMPLES: list[tuple[Api[Any, Any], tuple[object, ...]]] = [
    (
        PRODUCE,
        ProduceResponse(
            (
                TopicProduceResponse(
                    partition_responses=(
                        PartitionProduceResponse(
                            1,
                            87,
                            record_errors=(BatchIndexAndErrorMessage(3, "bad"),),
                            error_message="worse",
                            current_leader=LeaderIdAndEpoch(2, 3),
                        ),
                    )
                ),
            ),
            5,
            (NodeEndpoint(2, "host", 9092, "rack"),),
        ),
    ),
    (
        METADATA,
        MetadataResponse(
            0,
            (MetadataResponseBroker(1, "host", 9092, "rack"),),
            "cluster",
            1,
            (
                MetadataResponseTopic(
                    0, "topic", b"i" * 16, False, (MetadataResponsePartition(0, 1, 2, 3),) * 2
                ),
            ),
        ),
    ),
    (API_VERSIONS, ApiVersionsResponse(0, (ApiVersion(0, 3, 13), ApiVersion(3, 0, 13)))),
    (INIT_PRODUCER_ID, InitProducerIdResponse(1, 2, 3, 4)),
]
FRAMES = [
    pytest.param(api, version, response_frame(api, version, sample), id=f"{api.name}-v{version}")
    for api, sample in SAMPLES
    for version in range(api.min_version, api.max_version + 1)
]


@pytest.mark.parametrize(("api", "version", "frame"), FRAMES)
def test_a_truncated_response_is_a_protocol_error(
    api: Api[Any, Any], version: int, frame: bytes
) -> None:
    assert decode_response(api, version, frame)[0] == 7
    for size in range(len(frame)):
        with pytest.raises(ProtocolError):
            decode_response(api, version, frame[:size])


@pytest.mark.parametrize(("api", "version", "frame"), FRAMES)
def test_a_corrupt_response_is_a_protocol_error_or_another_response(
    api: Api[Any, Any], version: int, frame: bytes
) -> None:
    def survives(data: bytes) -> None:
        with contextlib.suppress(ProtocolError):
            decode_response(api, version, data)

    for place in range(4, len(frame)):
        for evil in (b"\xff", b"\x7f\xff\xff\xff", b"\x80", b"\xff\xff\xff\xff\x0f"):
            survives(frame[:place] + evil + frame[place + len(evil) :])

    @settings(max_examples=20, deadline=None, database=None)
    @given(st.lists(st.tuples(st.integers(4, len(frame) - 1), st.integers(0, 255)), max_size=5))
    def flips(changes: list[tuple[int, int]]) -> None:
        data = bytearray(frame)
        for place, byte in changes:
            data[place] = byte
        survives(bytes(data))

    flips()


@settings(max_examples=200, deadline=None, database=None)
@given(st.sampled_from([api for api, _ in SAMPLES]), st.data(), st.binary(max_size=60))
def test_garbage_is_a_protocol_error_or_a_response(
    api: Api[Any, Any], data: st.DataObject, garbage: bytes
) -> None:
    version = data.draw(st.integers(api.min_version, api.max_version))
    with contextlib.suppress(ProtocolError):
        decode_response(api, version, garbage)
