"""Large hostile input is read in time that goes with its size.

Nothing is measured: each input is so large that a second pass per element would run for minutes,
into the time limit of the test.
"""

from __future__ import annotations

import pytest

from aioproducer._native import codec
from aioproducer._native.codec import Plan, decode
from aioproducer.errors import ProtocolError
from aioproducer.protocol.api_versions import API_VERSIONS
from aioproducer.protocol.frames import FrameDecoder, decode_response
from aioproducer.protocol.metadata import METADATA, MetadataResponseTopic
from aioproducer.protocol.produce import PRODUCE
from tests.fuzz.targets import Nothing
from tests.support.topics import TopicsInUse

MANY = 200_000


def uvarint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def test_many_small_frames_in_one_read() -> None:
    frames = FrameDecoder().feed((b"\0\0\0\4" + b"\0\0\0\7") * MANY)
    assert sum(1 for _ in frames) == MANY


def test_a_large_frame_in_small_pieces() -> None:
    decoder = FrameDecoder()
    size = 16 << 20
    assert not list(decoder.feed(size.to_bytes(4, "big")))
    piece = bytes(64)
    for _ in range(size // 64 - 1):
        assert not list(decoder.feed(piece))
    assert decoder.pending_bytes == 4 + size - 64
    (frame,) = decoder.feed(piece)
    assert len(frame) == size
    assert decoder.pending_bytes == 0


def test_many_tags_that_nobody_knows() -> None:
    tags = uvarint(MANY) + b"".join(uvarint(tag) + b"\0" for tag in range(10, 10 + MANY))
    decode_response(API_VERSIONS, 3, b"\0\0\0\7" + b"\0\0" + b"\1" + bytes(4) + tags)


def test_one_tag_again_and_again() -> None:
    # finalized_features: one with an empty name, and the tags of its struct.
    tag = b"\2\7" + b"\2\1\0\1\0\1\0"
    frame = b"\0\0\0\7" + b"\0\0" + b"\1" + bytes(4) + uvarint(MANY) + tag * MANY
    _, response = decode_response(API_VERSIONS, 3, frame)
    assert len(response.finalized_features) == 1


def test_arrays_that_each_claim_all_that_is_left() -> None:
    # Every topic's partitions claim the rest of the frame: only the first may take the memory.
    plan = Plan(codec.ARRAY, element=Plan(codec.ARRAY, element=Plan(codec.INT8)))
    data = MANY.to_bytes(4, "big") + (4 * MANY - 8).to_bytes(4, "big") * MANY
    with pytest.raises(ProtocolError, match="elements announced"):
        decode(data, plan)


def test_many_elements_that_are_read_over() -> None:
    strings = Plan(codec.ARRAY, compact=True, element=Plan(codec.STRING, compact=True))
    plan = Plan(
        codec.STRUCT, record=Nothing, fields=[(strings, -1, ())] * 2, tagged=[], flexible=True
    )
    data = (uvarint(MANY + 1) + b"\2x" * MANY) * 2 + b"\0"
    assert decode(data, plan) == (Nothing(), len(data))


def test_one_topic_again_and_again_in_metadata() -> None:
    topics_in_use = TopicsInUse()
    topics_in_use.put("t")
    topics_in_use.answer(*(MetadataResponseTopic(0, "t"),) * MANY, asked=["t"])
    assert topics_in_use.ask() == []
    assert [*topics_in_use.topics.by_name] == ["t"]


def test_many_topics_that_nobody_asked_about_in_metadata() -> None:
    topics_in_use = TopicsInUse()
    topics_in_use.put("t")
    answers = [MetadataResponseTopic(0, f"t{index}") for index in range(MANY)]
    topics_in_use.answer(*answers, asked=["t"])
    assert [*topics_in_use.topics.by_name] == ["t"]


def test_many_topics_and_partitions() -> None:
    partition = (b"\0\0" + bytes(4) * 3) + bytes(4) * 3
    topic = b"\0\0" + b"\0\1t" + b"\0" + (500).to_bytes(4, "big") + partition * 500
    body = bytes(4) + bytes(4) + b"\xff\xff" + bytes(4) + (100).to_bytes(4, "big") + topic * 100
    _, response = decode_response(METADATA, 7, b"\0\0\0\7" + body)
    assert sum(len(topic.partitions) for topic in response.topics) == 50_000


def test_a_batch_refused_because_of_each_of_its_records() -> None:
    errors = MANY.to_bytes(4, "big") + (bytes(4) + b"\xff\xff") * MANY
    partition = bytes(4) + b"\0\x57" + bytes(24) + errors + b"\xff\xff"
    topic = b"\0\1t" + (1).to_bytes(4, "big") + partition
    frame = b"\0\0\0\7" + (1).to_bytes(4, "big") + topic + bytes(4)
    _, response = decode_response(PRODUCE, 8, frame)
    assert len(response.responses[0].partition_responses[0].record_errors) == MANY
