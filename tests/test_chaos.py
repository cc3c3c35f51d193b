"""The audit of `make chaos`: that it finds each broken promise, and nothing where all is well."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from benchmarks import results as benchmark_results
from tests.chaos.audit import BROKEN_PROMISES, Findings, Phase, audit, measure_waits
from tests.chaos.clients import Job, Options
from tests.chaos.faults import SHORT
from tests.chaos.ledger import Entry, Ledger, Outcome, read_value
from tests.chaos.results import Results, show
from tests.chaos.runner import ClientResult, Run
from tests.support.kafka import StoredRecord

TOPIC = "t"
NONCE = "0badcafe"


class Scenario:
    """A ledger of some records and the log that goes with it, to be spoilt."""

    def __init__(self) -> None:
        self.ledger = Ledger(NONCE)
        self.log: list[StoredRecord] = []

    @property
    def entries(self) -> list[Entry]:
        return self.ledger.entries

    def send(self, key: int = 1, *, partition: int = 0) -> Entry:
        """A record that is sent and stored, and not yet acknowledged."""
        entry, key_bytes, value = self.ledger.call(TOPIC, key, "send")
        offset = sum(record.partition == partition for record in self.log)
        self.log.append(
            StoredRecord(partition, offset, key_bytes, value, (), 1_000 + offset, "CreateTime")
        )
        return entry

    def acknowledge(self, entry: Entry) -> Entry:
        at = next(one for one in self.log if read_value(one.value, NONCE) == _name(entry))
        entry.acknowledged(at.partition, at.offset, at.timestamp_ms)
        return entry

    def sent(self, count: int = 3) -> list[Entry]:
        """Some records, stored and acknowledged."""
        return [self.acknowledge(self.send()) for _ in range(count)]

    def audit(self, remade_at: float | None = None) -> Findings:
        return audit(self.entries, self.log, NONCE, remade_at=remade_at)


def _name(entry: Entry) -> tuple[int, int]:
    return entry.key, entry.number


@pytest.fixture
def scenario() -> Scenario:
    return Scenario()


def test_nothing_is_found_where_all_is_well(scenario: Scenario) -> None:
    scenario.sent()
    scenario.acknowledge(scenario.send(2, partition=1))
    findings = scenario.audit()
    assert (findings.sent, findings.acknowledged) == (4, 4)
    assert findings.broken() == {}
    assert findings.examples == {}


def test_an_acknowledged_record_that_is_not_in_the_log_is_missing(scenario: Scenario) -> None:
    scenario.sent()
    lost = scenario.log.pop()
    findings = scenario.audit()
    assert findings.broken() == {"missing": 1}
    assert f"offset={lost.offset}" in findings.examples["missing"][0]


def test_each_copy_beyond_the_first_is_twice(scenario: Scenario) -> None:
    scenario.sent()
    last = scenario.log[-1]
    scenario.log += [dataclasses.replace(last, offset=last.offset + more) for more in (1, 2)]
    assert scenario.audit().broken() == {"twice": 2}


def test_a_record_behind_a_later_one_of_its_key_is_out_of_order(scenario: Scenario) -> None:
    first, second, third = (scenario.send() for _ in range(3))
    values = [record.value for record in scenario.log]
    scenario.log = [
        dataclasses.replace(record, value=values[place])
        for record, place in zip(scenario.log, (1, 0, 2), strict=True)
    ]
    for entry in (first, second, third):
        scenario.acknowledge(entry)
    assert scenario.audit().broken() == {"out_of_order": 1}


def test_order_is_claimed_within_a_partition_only(scenario: Scenario) -> None:
    # A key goes elsewhere when its topic gets more partitions.
    scenario.acknowledge(scenario.send(partition=1))
    scenario.acknowledge(scenario.send(partition=0))
    scenario.log.sort(key=lambda record: record.partition)
    assert scenario.audit().broken() == {}


@pytest.mark.parametrize("field", ["offset", "partition"])
def test_an_acknowledgement_that_points_elsewhere_is_misplaced(
    scenario: Scenario, field: str
) -> None:
    entry = scenario.sent()[1]
    setattr(entry, field, getattr(entry, field) + 1)
    assert scenario.audit().broken() == {"misplaced": 1}


def test_an_acknowledgement_with_another_timestamp_is_mistimed(scenario: Scenario) -> None:
    scenario.sent()[1].timestamp_ms += 1
    assert scenario.audit().broken() == {"mistimed": 1}


def test_a_failed_record_in_the_log_is_unlawful_if_its_error_said_it_cannot_be(
    scenario: Scenario,
) -> None:
    scenario.send().failed(TimeoutError("no"), possibly_persisted=False)
    findings = scenario.audit()
    assert findings.broken() == {"failed": 1, "unlawful": 1}
    assert findings.errors == {"TimeoutError": 1}


@pytest.mark.parametrize("possibly_persisted", [True, None])
def test_a_failed_record_in_the_log_is_lawful_if_its_error_left_that_open(
    scenario: Scenario, possibly_persisted: bool | None
) -> None:
    scenario.send().failed(TimeoutError(), possibly_persisted=possibly_persisted)
    assert scenario.audit().broken() == {"failed": 1}


def test_a_refused_record_in_the_log_is_unlawful(scenario: Scenario) -> None:
    scenario.send().refused(BufferError())
    assert scenario.audit().broken() == {"unlawful": 1}


def test_a_refused_record_that_is_not_stored_breaks_nothing(scenario: Scenario) -> None:
    scenario.send().refused(BufferError())
    scenario.log.clear()
    findings = scenario.audit()
    assert (findings.refused, findings.broken()) == (1, {})


def test_a_record_whose_wait_was_cancelled_must_be_stored_all_the_same(scenario: Scenario) -> None:
    scenario.send().abandoned()
    assert scenario.audit().broken() == {}
    scenario.log.clear()
    assert scenario.audit().broken() == {"missing": 1}


def test_a_record_without_an_outcome_is_unresolved(scenario: Scenario) -> None:
    scenario.send()
    assert scenario.audit().broken() == {"unresolved": 1}


def test_a_second_outcome_is_counted_and_the_first_one_stays(scenario: Scenario) -> None:
    (entry,) = scenario.sent(1)
    entry.failed(TimeoutError(), possibly_persisted=True)
    assert entry.outcome is Outcome.ACKNOWLEDGED
    assert scenario.audit().broken() == {"told_twice": 1}


@pytest.mark.parametrize(
    "spoilt",
    [
        {"value": b"ffffffff 1 0"},  # another run's
        {"value": b"0badcafe 1 7"},  # never sent
        {"value": b"\xff\xfe"},
        {"value": None},
        {"key": b"key-2"},
    ],
)
def test_a_record_that_nobody_sent_is_foreign(
    scenario: Scenario, spoilt: dict[str, bytes | None]
) -> None:
    scenario.sent(1)
    record = scenario.log[0]
    scenario.log.append(dataclasses.replace(record, offset=record.offset + 1, **spoilt))  # type: ignore[arg-type]  # pyright: ignore
    assert scenario.audit().broken() == {"foreign": 1}


def test_what_went_with_a_deleted_topic_is_not_missing_but_what_came_after_is(
    scenario: Scenario,
) -> None:
    old, new = scenario.sent(2)
    old.ended_at, new.ended_at = 10.0, 20.0
    scenario.log.clear()
    assert scenario.audit(remade_at=15.0).broken() == {"missing": 1}
    assert scenario.audit(remade_at=25.0).broken() == {}


def test_a_record_of_a_recreated_topic_is_twice_all_the_same(scenario: Scenario) -> None:
    (entry,) = scenario.sent(1)
    entry.ended_at = 10.0
    scenario.log.append(dataclasses.replace(scenario.log[0], offset=1))
    assert scenario.audit(remade_at=15.0).broken() == {"twice": 1}


def test_a_ledger_is_read_as_it_was_written(scenario: Scenario, tmp_path: Path) -> None:
    scenario.sent()
    scenario.send().failed(TimeoutError("no"), possibly_persisted=False)
    scenario.send().abandoned()
    scenario.send()
    scenario.ledger.write(tmp_path / "ledger")
    assert Ledger.read(tmp_path / "ledger") == scenario.entries


def test_a_job_is_the_same_after_its_way_through_a_command_line() -> None:
    job = Job("localhost:9092", "t", "u", NONCE, "ledger", options=Options(9, 8), loop="uvloop")
    assert Job.from_json(job.to_json()) == job


def test_waits_are_measured_in_all_and_by_the_phase_that_they_mostly_passed_in() -> None:
    phases = [Phase("calm", 100.0, 110.0), Phase("killed", 110.0, 120.0)]
    waited = [(101, 0.5), (106, 3), (109, 4), (111, 2), (130, 1)]  # the last after the script
    entries = [
        Entry("t", 1, number, "send", called_at, Outcome.ACKNOWLEDGED, called_at + wait)
        for number, (called_at, wait) in enumerate(waited)
    ]
    entries.append(Entry("t", 1, 9, "send", 112.0))  # never told: no wait to measure
    waits = measure_waits(entries, phases, slice_of=5)
    assert waits.by_phase == {"calm": 3, "killed": 4}
    assert (waits.p50, waits.p99, waits.longest) == (2, 4, 4)
    assert waits.series == [0.5, 4, 2, 0]


def _results(scenario: Scenario) -> Results:
    phases = [
        Phase(fault.name, 10.0 * place, 10.0 * place + 10) for place, fault in enumerate(SHORT)
    ]
    waits = measure_waits(scenario.entries, phases, slice_of=1)
    ours = ClientResult("aioproducer", scenario.audit(), Findings(), waits)
    peer = ClientResult(
        "aiokafka", Findings(missing=1), Findings(), waits, crash="ended with code 1"
    )
    results = Results("some", "4.3.1", {}, {"aioproducer": "0"}, Options(), 1_000, SHORT)
    results.runs += [Run(phases, [0.0] * len(phases), [ours, peer])] * 2
    return results


def test_what_a_peer_breaks_is_a_result_and_no_failure(scenario: Scenario) -> None:
    scenario.sent()
    assert _results(scenario).runs[0].broken() == {}
    scenario.log.pop()
    assert _results(scenario).runs[0].broken() == {"missing": 1}


def test_a_crash_of_our_own_process_breaks_a_promise() -> None:
    ours = ClientResult(
        "aioproducer", Findings(), Findings(), measure_waits([], [Phase("x", 0, 1)], slice_of=1)
    )
    assert Run([], [], [ours]).broken() == {}
    ours.crash = "ended with code 1"
    assert Run([], [], [ours]).broken() == {"crash": 1}


def test_records_may_fail_while_their_topic_does_not_exist_but_not_go_missing_after(
    scenario: Scenario,
) -> None:
    ours = _results(scenario).runs[0].clients[0]
    ours.second = Findings(failed=3)
    assert ours.broken() == {}
    ours.second.missing = 2
    assert ours.broken() == {"second topic: missing": 2}


def test_the_results_are_stored_beside_the_benchmarks_and_not_taken_for_one(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.chaos.results.FOLDER", tmp_path)
    monkeypatch.setattr(benchmark_results, "FOLDER", tmp_path)
    scenario.sent()
    results = _results(scenario)
    whole, page = results.write()
    assert '"aiokafka"' in whole.read_text()
    assert "## All 2 runs" in page.read_text()
    assert "| aioproducer | 3 | 3 | 0 |" in page.read_text()
    assert "rolling restart" in show(results.runs[0], SHORT)
    assert benchmark_results.newest_stored() is None


def test_every_broken_promise_has_a_count_of_its_own() -> None:
    assert {*BROKEN_PROMISES} < {field.name for field in dataclasses.fields(Findings)}
