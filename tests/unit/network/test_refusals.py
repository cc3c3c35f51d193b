"""Addresses that refused us are left alone for a while that grows."""

from __future__ import annotations

import pytest

from aioproducer.errors import AuthenticationError
from aioproducer.network.metadata import BrokerAddress
from aioproducer.network.refusals import Refusals

ADDRESS = BrokerAddress(1, "kafka.example", 9093)


def is_left_alone(refusals: Refusals, now: float, address: BrokerAddress = ADDRESS) -> bool:
    try:
        refusals.check(address, now)
    except AuthenticationError:
        return True
    return False


def test_an_address_is_left_alone_for_a_second_or_so_and_then_tried_again() -> None:
    refusals = Refusals()
    assert not is_left_alone(refusals, 0)
    refusals.add(ADDRESS, AuthenticationError("No"), 0)
    assert is_left_alone(refusals, 0.7)
    assert not is_left_alone(refusals, 1.3)
    assert not is_left_alone(refusals, 0.7, BrokerAddress(1, "other.example", 9093))


def test_the_pause_grows_to_ten_seconds_and_ends_with_a_success() -> None:
    refusals = Refusals()
    for _ in range(6):
        refusals.add(ADDRESS, AuthenticationError("No"), 0)
    assert is_left_alone(refusals, 7.9)
    assert not is_left_alone(refusals, 10.1)
    refusals.forget(ADDRESS)
    assert not is_left_alone(refusals, 0)
    refusals.add(ADDRESS, AuthenticationError("No"), 0)
    assert not is_left_alone(refusals, 1.3)


def test_the_error_is_the_last_real_one_and_a_new_object_each_time() -> None:
    refusals = Refusals()
    error = AuthenticationError("No", broker="kafka.example:9093")
    refusals.add(ADDRESS, error, 0)
    with pytest.raises(AuthenticationError, match="No") as caught:
        refusals.check(ADDRESS, 0.1)
    assert caught.value is not error
    assert str(caught.value) == str(error)
