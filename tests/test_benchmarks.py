"""The benchmarks' own sums: what is stored, and what counts as a regression."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import importing, results
from benchmarks.compare import compare
from benchmarks.figures import short
from benchmarks.jobs import Job, Measurement, Pattern, Payload, Records, percentiles
from benchmarks.results import ContenderResult, Run, WorkloadResult
from benchmarks.runner import in_turn
from benchmarks.summary import sentence
from benchmarks.workloads import FULL, QUICK, Metric, Workload


def measurement(records: int) -> Measurement:
    return Measurement(
        records=records, stored_records=records, seconds=1, cpu_seconds=0.5, peak_memory_bytes=1
    )


def run_of(**rounds: list[int]) -> Run:
    row = WorkloadResult("send_nowait", "a loop", Metric.RATE, "patterns", 100)
    row.contenders = [
        ContenderResult(client, client, "send()", [measurement(one) for one in figures])
        for client, figures in rounds.items()
    ]
    return Run("some", rounds=3, seconds=1, workloads=[row])


def test_a_job_is_the_same_after_its_way_through_a_command_line() -> None:
    job = Job(
        bootstrap_servers="localhost:9092",
        topic="t",
        pattern=Pattern.PACED,
        payload=Payload(value_bytes=300, is_card=True, codec="lz4"),
        options={"linger_ms": 5},
    )
    assert Job.from_json(job.to_json()) == job


def test_card_payments_are_json_of_the_size_asked_for() -> None:
    records = Records.of(Payload(value_bytes=300, is_card=True))
    assert {len(value) for value in records.values} <= {300}
    assert json.loads(records.values[0])["card"].encode() == records.keys[0]


def test_percentiles_are_of_the_ordered_values() -> None:
    found = percentiles([number / 1000 for number in range(1000, 0, -1)])
    assert found == {"p50": 501, "p99": 991, "p999": 1000, "max": 1000, "mean": 500.5}


def test_a_run_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    run = run_of(aioproducer=[200, 210], aiokafka=[10, 11])
    assert Run.read(run.write()) == run


def test_the_summary_names_the_ratio_to_each_other_client() -> None:
    run = run_of(aioproducer=[200, 220, 180], aiokafka=[10, 10, 10], bare_socket=[200, 200, 200])
    said = sentence(run.workloads[0])
    assert said == "aioproducer send_nowait: 20.0 x aiokafka, 1.00 x bare_socket (median of 3)"


def test_a_slower_machine_is_no_regression() -> None:
    stored = run_of(aioproducer=[200, 201, 202], aiokafka=[10, 10, 10])
    new = run_of(aioproducer=[100, 101, 102], aiokafka=[5, 5, 5])
    assert compare(stored, new).regressions == ()


def test_a_lower_ratio_to_the_others_is_a_regression() -> None:
    stored = run_of(aioproducer=[200, 201, 202], aiokafka=[10, 10, 10], bare_socket=[9, 9, 9])
    new = run_of(aioproducer=[170, 171, 172], aiokafka=[10, 10, 10], bare_socket=[9, 9, 9])
    verdict = compare(stored, new)
    assert verdict.regressions == ("send_nowait",)
    assert "REGRESSION" in verdict.text


def test_a_change_within_the_scatter_of_the_rounds_is_no_regression() -> None:
    stored = run_of(aioproducer=[150, 200, 250], aiokafka=[10, 10, 10])
    new = run_of(aioproducer=[140, 170, 240], aiokafka=[10, 10, 10])
    assert compare(stored, new).regressions == ()


def test_every_other_round_measures_the_contenders_in_reverse() -> None:
    contenders = ["ours", "peer", "floor"]
    orders = [in_turn(contenders, number) for number in range(3)]
    assert orders == [contenders, ["floor", "peer", "ours"], contenders]


@pytest.mark.parametrize("workloads", [QUICK, FULL])
def test_every_workload_has_a_name_of_its_own(workloads: tuple[Workload, ...]) -> None:
    names = [workload.name for workload in workloads]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1_234_567, "1,234,567"), (12.34, "12.3"), (1.5, "1.50"), (0.01234, "0.0123")],
)
def test_numbers_show_three_digits_that_count(value: float, text: str) -> None:
    assert short(value) == text


def test_the_cost_of_an_import_is_measured_in_a_fresh_interpreter_each_time() -> None:
    found = importing.costs(["json", "calendar"], rounds=2)
    assert found.keys() == {"json", "calendar"}
    assert all(len(times) == 2 and min(times) > 0 for times in found.values())


def test_the_modules_that_come_with_an_import_are_told_dearest_first() -> None:
    found = importing.modules("json", rounds=1)
    assert "json.decoder" in found
    assert "asyncio" not in found
    assert list(found.values()) == sorted(found.values(), reverse=True)
