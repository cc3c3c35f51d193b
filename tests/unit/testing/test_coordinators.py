from __future__ import annotations

from aioproducer.testing.coordinators import Coordinators
from aioproducer.testing.error_codes import ErrorCode


def test_a_coordinator_stays_as_long_as_its_broker_is_up() -> None:
    alive = {0, 1, 2}
    coordinators = Coordinators(alive)
    first = coordinators.node_of("transaction", "tx")
    alive.remove(first)
    assert coordinators.node_of("transaction", "tx") == -1
    alive.add(first)
    assert coordinators.node_of("transaction", "tx") == first


def test_what_a_stopped_broker_coordinated_goes_to_another() -> None:
    alive = {0, 1}
    coordinators = Coordinators(alive)
    first = coordinators.node_of("group", "g")
    alive.remove(first)
    coordinators.elect()
    assert coordinators.node_of("group", "g") == 1 - first
    alive.add(first)
    coordinators.elect()
    assert coordinators.node_of("group", "g") == 1 - first


def test_without_brokers_there_is_no_coordinator_until_one_is_up() -> None:
    alive: set[int] = set()
    coordinators = Coordinators(alive)
    assert coordinators.node_of("group", "g") == -1
    alive.add(3)
    coordinators.elect()
    assert coordinators.node_of("group", "g") == 3


def test_coordinators_are_spread_over_the_brokers() -> None:
    coordinators = Coordinators({0, 1, 2})
    assert {coordinators.node_of("transaction", f"tx-{n}") for n in range(30)} == {0, 1, 2}


def test_groups_and_transactional_ids_of_the_same_name_are_apart() -> None:
    coordinators = Coordinators({0, 1})
    coordinators.move("group", "x", 0, 0)
    coordinators.move("transaction", "x", 1, 0)
    assert coordinators.error_at(0, "group", "x") is None
    assert coordinators.error_at(0, "transaction", "x") == ErrorCode.NOT_COORDINATOR


def test_a_new_coordinator_may_be_loading_for_some_requests() -> None:
    coordinators = Coordinators({0, 1})
    coordinators.move("transaction", "tx", 1, 2)
    errors = [coordinators.error_at(1, "transaction", "tx") for _ in range(3)]
    assert errors == [ErrorCode.COORDINATOR_LOAD_IN_PROGRESS] * 2 + [None]
