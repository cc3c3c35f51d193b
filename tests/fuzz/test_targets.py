"""Every decoder against hostile input, and the fuzzer against decoders that are wrong."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aioproducer.errors import ProtocolError
from tests.fuzz.corpus import REFUSED, TAKEN
from tests.fuzz.running import fuzz, run
from tests.fuzz.targets import APIS, TARGETS, Finding, Target, check


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_input_is_taken_or_refused_cleanly_in_bounded_memory(name: str) -> None:
    fuzz(TARGETS[name], 40, secrets.randbits(64))


@pytest.mark.parametrize("name", [name for name in TARGETS if name.rpartition("-v")[0] in APIS])
def test_a_response_cut_anywhere_is_refused_or_another_response(name: str) -> None:
    # kio's own responses: their tagged fields, nulls and the replicas that are read over.
    target = TARGETS[name]

    @settings(max_examples=3, deadline=None, database=None)
    @given(target.inputs)
    def cut(data: bytes) -> None:
        for size in range(min(len(data), 300)):
            check(target, data[:size])

    cut()


@pytest.mark.parametrize("reason", REFUSED)
def test_the_corpus_of_refused_input_is_refused(reason: str) -> None:
    case = REFUSED[reason]
    assert not check(TARGETS[case.target], bytes.fromhex(case.hex))


@pytest.mark.parametrize("reason", TAKEN)
def test_the_corpus_of_odd_but_sound_input_is_taken(reason: str) -> None:
    case = TAKEN[reason]
    assert check(TARGETS[case.target], bytes.fromhex(case.hex))


# The fuzzer itself.


def _fails_at_a_marker(data: bytes) -> object:
    return [0][data.find(b"\xff")]


def _believes_a_count(data: bytes) -> object:
    return bytearray(data[0] << 16) if data else b""


@pytest.mark.parametrize("take", [_fails_at_a_marker, _believes_a_count])
def test_a_wrong_decoder_is_found_and_shown(take: Callable[[bytes], object]) -> None:
    wrong = Target("wrong", st.binary(max_size=40), take, (ProtocolError,))
    reported: list[str] = []
    assert run(1, reported.append, [wrong]) == 1
    assert reported[0].startswith("fuzz: wrong broke with seed")
    assert "takes_anything(" in reported[1]


def test_an_error_that_is_not_documented_is_a_finding() -> None:
    with pytest.raises(Finding, match="IndexError"):
        check(Target("wrong", st.nothing(), _fails_at_a_marker, (ProtocolError,)), b"a\xff")


def test_sound_decoders_are_fuzzed_until_the_time_is_over() -> None:
    reported: list[str] = []
    assert run(0.001, reported.append, [TARGETS["frames"]]) == 0
    assert reported[-1].endswith("1 targets, no finding")
