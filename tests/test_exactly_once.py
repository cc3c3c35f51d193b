"""The audit of `make exactly-once`: that it finds each broken promise, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import results as benchmark_results
from tests.chaos.audit import Phase, Waits
from tests.exactly_once.audit import BROKEN_PROMISES, Findings, Found, audit
from tests.exactly_once.clients import Options
from tests.exactly_once.faults import SHORT, partition_of
from tests.exactly_once.ledger import Ledger, Outcome, Transaction, read_value
from tests.exactly_once.load import Job
from tests.exactly_once.results import Results, show
from tests.exactly_once.runner import ClientResult, Run
from tests.support.kafka import StoredRecord

ORIGIN = "0badcafe/aioproducer"
OVER_AT = 100.0


class Scenario:
    """A ledger of some transactions and the log that goes with it, to be spoilt."""

    def __init__(self) -> None:
        self.ledger = Ledger(ORIGIN, opened={"alone-0": 1}, over_at=OVER_AT)
        self.committed: list[Found] = []
        self.uncommitted: list[Found] = []

    def begin(self, count: int = 3, writer: str = "alone-0", own: str = "id-0") -> Transaction:
        """A transaction whose records are in the log, and not committed."""
        number = sum(each.writer == writer for each in self.ledger.transactions)
        transaction = Transaction(writer, own, number, count, wants_abort=False, called_at=101.0)
        self.ledger.transactions.append(transaction)
        for index in range(count):
            self.store(transaction, index)
        return transaction

    def store(self, transaction: Transaction, index: int) -> None:
        """A record goes to the end of one of two partitions."""
        value = self.ledger.value(transaction, index)
        at = len(self.uncommitted)
        stored = StoredRecord(index % 2, at, None, value, (), 1_000, "CreateTime")
        self.uncommitted.append(Found("t", stored))

    def show(self, transaction: Transaction) -> None:
        """The transaction is committed: read_committed shows it."""
        self.committed += [
            found
            for found in self.uncommitted
            if (name := read_value(found.record.value, ORIGIN))
            and (name.writer, name.number) == (transaction.writer, transaction.number)
        ]

    def commit(self, *, writer: str = "alone-0", own: str = "id-0") -> Transaction:
        """A transaction that is committed, and told so."""
        transaction = self.begin(writer=writer, own=own)
        self.show(transaction)
        transaction.told(Outcome.COMMITTED)
        return transaction

    def audit(self) -> Findings:
        return audit(self.ledger, _sorted(self.committed), _sorted(self.uncommitted))


def _sorted(found: list[Found]) -> list[Found]:
    return sorted(found, key=lambda one: (one.record.partition, one.record.offset))


@pytest.fixture
def scenario() -> Scenario:
    scenario = Scenario()
    scenario.commit()
    return scenario


def test_nothing_is_found_where_all_is_well(scenario: Scenario) -> None:
    scenario.begin().told(Outcome.ABORTED)
    scenario.begin().told(Outcome.UNKNOWN)
    unknown = scenario.begin()
    unknown.told(Outcome.UNKNOWN)
    scenario.show(unknown)
    findings = scenario.audit()
    assert (findings.transactions, findings.committed, findings.aborted) == (4, 1, 1)
    assert (findings.unknown, findings.unknown_committed, findings.unknown_absent) == (2, 1, 1)
    assert findings.broken() == {}
    assert findings.examples == {}


def _miss_a_record(scenario: Scenario) -> None:
    del scenario.committed[1]


def _miss_all_records(scenario: Scenario) -> None:
    scenario.committed.clear()


def _miss_a_stored_record(scenario: Scenario) -> None:
    del scenario.uncommitted[1]


@pytest.mark.parametrize("spoil", [_miss_a_record, _miss_all_records, _miss_a_stored_record])
def test_a_transaction_told_committed_that_a_reader_does_not_see_whole_is_lost(
    scenario: Scenario, spoil: Callable[[Scenario], None]
) -> None:
    spoil(scenario)
    findings = scenario.audit()
    assert findings.broken() == {"lost": 1}
    assert "number=0" in findings.examples["lost"][0]


@pytest.mark.parametrize("shown", [1, 3])
def test_a_transaction_told_aborted_of_which_a_record_is_visible_is_a_ghost(
    scenario: Scenario, shown: int
) -> None:
    scenario.begin().told(Outcome.ABORTED)
    scenario.committed += scenario.uncommitted[3 : 3 + shown]
    assert scenario.audit().broken() == {"ghosts": 1}


def test_an_unknown_transaction_of_which_a_part_is_visible_is_torn(scenario: Scenario) -> None:
    scenario.begin().told(Outcome.UNKNOWN)
    scenario.committed += scenario.uncommitted[3:5]
    assert scenario.audit().broken() == {"torn": 1}


def test_each_copy_beyond_the_first_is_twice(scenario: Scenario) -> None:
    topic, record = scenario.uncommitted[-1]
    scenario.uncommitted += [
        Found(topic, dataclasses.replace(record, offset=record.offset + more)) for more in (1, 2)
    ]
    assert scenario.audit().broken() == {"twice": 2}


def test_records_of_one_transaction_that_changed_places_are_in_disorder() -> None:
    scenario = Scenario()
    transaction = scenario.begin(0)
    transaction.count = 3
    for index in (2, 1, 0):
        scenario.store(transaction, index)
    scenario.show(transaction)
    transaction.told(Outcome.COMMITTED)
    assert scenario.audit().broken() == {"disorder": 1}  # 2 before 0; 1 is in another partition


def test_a_transaction_behind_a_later_one_of_its_writer_is_in_disorder(scenario: Scenario) -> None:
    scenario.commit()
    for log in (scenario.committed, scenario.uncommitted):
        log[:] = [
            Found(topic, dataclasses.replace(record, offset=(record.offset + 3) % 6))
            for topic, record in log
        ]
    assert scenario.audit().broken() == {"disorder": 3}


def test_writers_have_no_order_among_each_other(scenario: Scenario) -> None:
    scenario.commit(writer="alone-1", own="id-1")
    scenario.commit()
    assert scenario.audit().broken() == {}


@pytest.mark.parametrize(
    "value",
    [
        b"ffffffff/aioproducer alone-0 0 0 3",  # another run's
        b"0badcafe/aiokafka alone-0 0 0 3",  # another client's
        b"0badcafe/aioproducer alone-0 7 0 3",  # never begun
        b"0badcafe/aioproducer alone-0 0 3 3",  # one more than the transaction has
        b"0badcafe/aioproducer alone-0 0 x 3",
        b"\xff\xfe",
        None,
    ],
)
def test_a_record_that_nobody_wrote_is_foreign(scenario: Scenario, value: bytes | None) -> None:
    topic, record = scenario.uncommitted[-1]
    scenario.uncommitted.append(Found(topic, dataclasses.replace(record, offset=9, value=value)))
    assert scenario.audit().broken() == {"foreign": 1}


def test_a_transaction_without_an_outcome_is_unresolved(scenario: Scenario) -> None:
    scenario.begin()
    assert scenario.audit().broken() == {"unresolved": 1}


def test_a_transaction_without_an_outcome_may_be_torn_as_well(scenario: Scenario) -> None:
    scenario.begin()
    scenario.committed.append(scenario.uncommitted[-1])
    assert scenario.audit().broken() == {"torn": 1, "unresolved": 1}


def test_a_call_that_did_not_return_is_hung(scenario: Scenario) -> None:
    scenario.ledger.hung.append("alone-0: commit()")
    assert scenario.audit().broken() == {"hung": 1}


def test_an_id_without_a_commit_after_the_last_fault_is_stuck(scenario: Scenario) -> None:
    scenario.commit(writer="alone-1", own="id-1").called_at = OVER_AT - 1
    findings = scenario.audit()
    assert findings.broken() == {"stuck": 1}
    assert findings.examples["stuck"] == ["id-1"]


def test_of_two_writers_that_fence_each_other_one_has_to_commit_at_the_end(
    scenario: Scenario,
) -> None:
    scenario.commit(writer="turns-0-a", own="shared")
    scenario.commit(writer="turns-0-b", own="shared").called_at = OVER_AT - 1
    scenario.ledger.opened |= {"alone-0": 3, "turns-0-a": 4, "turns-0-b": 5}
    findings = scenario.audit()
    assert findings.broken() == {}
    assert (findings.made_anew, findings.fenced) == (2, 7)


def test_errors_are_counted_by_what_was_told(scenario: Scenario) -> None:
    for outcome in (Outcome.ABORTED, Outcome.ABORTED, Outcome.UNKNOWN):
        transaction = scenario.begin()
        transaction.error = "ProducerFencedError: it is"
        transaction.told(outcome)
    assert scenario.audit().errors == {
        "aborted: ProducerFencedError": 2,
        "unknown: ProducerFencedError": 1,
    }


def test_a_ledger_is_read_as_it_was_written(scenario: Scenario, tmp_path: Path) -> None:
    scenario.begin().told(Outcome.UNKNOWN)
    scenario.begin()
    scenario.ledger.hung.append("alone-0: open()")
    scenario.ledger.write(tmp_path / "ledger")
    assert Ledger.read(tmp_path / "ledger") == scenario.ledger


def test_a_job_is_the_same_after_its_way_through_a_command_line() -> None:
    job = Job("localhost:9092", ["t", "u"], ORIGIN, "ledger", ["a"], ["b"], Options(9, 8, 7, 6))
    assert Job.from_json(job.to_json()) == job


def test_an_id_belongs_to_the_partition_that_java_counts() -> None:
    # "polygenelubricants".hashCode() is the least integer, whose absolute value Kafka takes for 0.
    ids = ("", "a", "transfers-0", "transfers-1", "polygenelubricants")
    assert [partition_of(one) for one in ids] == [0, 1, 1, 0, 0]


def _results(scenario: Scenario) -> Results:
    phases = [
        Phase(fault.name, 10.0 * place, 10.0 * place + 10) for place, fault in enumerate(SHORT)
    ]
    waits = Waits(by_phase={fault.name: 0.5 for fault in SHORT})
    ours = ClientResult("aioproducer", scenario.audit(), waits)
    peer = ClientResult("aiokafka", Findings(lost=1), waits, crash="ended with code 1")
    results = Results("some", {"aioproducer": "0"}, Options(), SHORT)
    for kafka in ("4.3.1", "3.9.1", "3.9.1"):
        results.runs.append(Run(kafka, phases, [0.0] * len(phases), [ours, peer]))
    return results


def test_what_a_peer_breaks_is_a_result_and_no_failure(scenario: Scenario) -> None:
    assert _results(scenario).runs[0].broken() == {}
    scenario.committed.pop()
    assert _results(scenario).runs[0].broken() == {"lost": 1}


def test_a_crash_and_a_partition_that_stays_closed_break_a_promise(scenario: Scenario) -> None:
    ours = ClientResult("aioproducer", scenario.audit(), Waits(), hanging=2, crash="killed")
    assert Run("4.3.1", [], [], [ours]).broken() == {"hanging": 2, "crash": 1}


def test_the_results_are_stored_beside_the_benchmarks_and_not_taken_for_one(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.exactly_once.results.FOLDER", tmp_path)
    monkeypatch.setattr(benchmark_results, "FOLDER", tmp_path)
    results = _results(scenario)
    whole, page = results.write()
    assert '"aiokafka"' in whole.read_text()
    assert "## Kafka 4.3.1, version 2 of transactions, one run" in page.read_text()
    assert "## Kafka 3.9.1, version 1 of transactions, 2 runs" in page.read_text()
    assert "| aioproducer | 1 | 1 | 0 |" in page.read_text()
    assert "commits cut after" in show(results.runs, SHORT)
    assert benchmark_results.newest_stored() is None


def test_every_broken_promise_has_a_count_of_its_own() -> None:
    assert {*BROKEN_PROMISES} < {field.name for field in dataclasses.fields(Findings)}
