"""The benchmarks' own sums: what is stored, and what counts as a regression."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import goals, importing, report, results, runner
from benchmarks.compare import compare
from benchmarks.figures import short
from benchmarks.jobs import (
    Job,
    Measurement,
    Pattern,
    Payload,
    Records,
    percentiles,
    spread_keys,
)
from benchmarks.results import ContenderResult, Run, WorkloadResult
from benchmarks.route.children import busy_loops, child, cpu_seconds, parse_cpu_seconds
from benchmarks.route.measure import records_per_request
from benchmarks.route.responses import response_of
from benchmarks.runner import in_turn, reason_in
from benchmarks.summary import sentence
from benchmarks.workloads import (
    FULL,
    QUICK,
    TLS,
    TRANSACTIONS,
    Metric,
    Workload,
)


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


def route_run(**cpu_us: list[float]) -> Run:
    """A run of one FastAPI workload; the broker's CPU is a tenth of the server's."""
    row = WorkloadResult("fastapi_50", "50 clients", Metric.CPU, "route", 100)
    row.contenders = [
        ContenderResult(
            client,
            client,
            "send_and_wait()",
            [
                Measurement(
                    records=1_000_000,
                    stored_records=1_000_000,
                    seconds=2,
                    cpu_seconds=cpu,
                    peak_memory_bytes=1,
                    latency_ms={"p50": 1.5, "p99": 9.0},
                    broker_cpu_seconds=cpu / 10,
                )
                for cpu in figures
            ],
        )
        for client, figures in cpu_us.items()
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


def test_why_a_client_failed_is_the_last_error_that_is_named() -> None:
    text = """failed:
[producer] ERROR Sender - Aborting producer batches due to fatal error
org.apache.kafka.common.errors.InvalidTxnStateException: Invalid state.
[main] INFO Metrics - Metrics scheduler closed
Exception in thread "main" java.lang.IllegalArgumentException: 0 > -7
\tat java.base/java.util.Arrays.copyOfRange(Arrays.java:3782)
"""
    named = "org.apache.kafka.common.errors.InvalidTxnStateException: Invalid state."
    assert reason_in(text) == named
    assert reason_in("the log holds 4 records,\n5 were acknowledged") == "5 were acknowledged"


def test_every_other_round_measures_the_contenders_in_reverse() -> None:
    contenders = ["ours", "peer", "floor"]
    orders = [in_turn(contenders, number) for number in range(3)]
    assert orders == [contenders, ["floor", "peer", "ours"], contenders]


@pytest.mark.parametrize("workloads", [QUICK, FULL, TLS, TRANSACTIONS])
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


def test_a_record_costs_a_request_what_it_takes_above_the_route_of_the_same_round() -> None:
    run = route_run(aioproducer=[430, 450, 520], aiokafka=[500, 600, 700], no_kafka=[400, 400, 500])
    assert goals.above_floor(run, "fastapi_50", "aioproducer") == [30, 50, 20]
    assert goals.share_above_floor("fastapi_50")(run) == [0.3, 0.25, 0.1]


def test_a_round_in_which_the_other_adds_nothing_says_nothing() -> None:
    run = route_run(aioproducer=[430, 450], aiokafka=[390, 600], no_kafka=[400, 400])
    assert goals.share_above_floor("fastapi_50")(run) == [0.25]


def test_the_brokers_cpu_is_compared_per_record() -> None:
    run = route_run(aioproducer=[300, 450], aiokafka=[600, 600], no_kafka=[400, 400])
    assert goals.multiple("fastapi_50", "broker CPU", "aiokafka")(run) == [0.5, 0.75]


def test_a_goal_is_judged_by_the_median_and_shows_the_spread() -> None:
    run = run_of(aioproducer=[80, 120, 90], franz_go=[100, 100, 100])
    values = goals.multiple("send_nowait", Metric.RATE, "franz_go")
    assert goals.Goal("g", values, "at least", 1.0).row(run) == [
        "g",
        "0.9 x (0.8 to 1.20)",
        "at least 1 x",
        "**no**",
    ]
    assert goals.Goal("g", values, "at most", 0.9).row(run)[3] == "yes"
    assert goals.Goal("g", values, "shown").row(run)[2:] == ["-", "-"]


def test_a_goal_that_was_not_measured_is_not_reached() -> None:
    run = run_of(aioproducer=[80])
    values = goals.multiple("send_nowait", Metric.RATE, "franz_go")
    assert goals.Goal("g", values, "at least", 1.0).row(run)[1:] == [
        "-",
        "at least 1 x",
        "not measured",
    ]
    text = "\n".join(goals.table(run))
    assert text.startswith("0 of ")
    assert "| yes |" not in text


def test_our_import_is_compared_with_aiokafkas_round_by_round() -> None:
    run = run_of()
    run.imports = {"aioproducer": [0.01, 0.03], "aiokafka": [0.04, 0.04]}
    assert goals.import_share(run) == [0.25, 0.75]


def run_with_all_alike(workloads: tuple[Workload, ...]) -> Run:
    row = Measurement(
        records=1,
        stored_records=1,
        seconds=1,
        cpu_seconds=1,
        peak_memory_bytes=1,
        latency_ms={"p50": 1.0, "p99": 1.0, "max": 1.0},
        broker_cpu_seconds=1,
        blocks=1,
    )
    run = Run("some", rounds=1, seconds=1, imports={"aioproducer": [1], "aiokafka": [1]})
    for workload in workloads:
        result = WorkloadResult.of(workload)
        for one in workload.contenders:
            result.contenders.append(ContenderResult(one.label, one.client, "", [row]))
        run.workloads.append(result)
    return run


def test_every_goal_names_contenders_of_the_full_run() -> None:
    run = run_with_all_alike(FULL)
    # With all alike, nothing is above the route without Kafka.
    silent = [goal.title for goal in goals.GOALS if not goal.figure(run)]
    assert all(title.startswith("FastAPI") and "above no Kafka" in title for title in silent)
    assert len(silent) == 2


def test_every_goal_of_transactions_names_contenders_of_their_run() -> None:
    run = run_with_all_alike(TRANSACTIONS)
    assert all(goal.figure(run) == [1] for goal in goals.TRANSACTION_GOALS)
    assert goals.table(run)[0].startswith("4 of 7 goals are reached, 0 were not measured.")


def transactions_run(**a_second: list[int]) -> Run:
    """A run of one workload, of so many transactions a second in each round."""
    row = WorkloadResult("transactions_100", "some", Metric.TRANSACTIONS, "transactions", 100)
    row.contenders = [
        ContenderResult(
            client,
            client,
            "commit()",
            [
                Measurement(
                    records=100 * one,
                    stored_records=100 * one,
                    seconds=2,
                    cpu_seconds=1,
                    peak_memory_bytes=1,
                    blocks=2 * one,
                )
                for one in figures
            ],
        )
        for client, figures in a_second.items()
    ]
    return Run("transactions", rounds=3, seconds=1, workloads=[row])


def test_transactions_are_counted_by_the_second_and_not_their_records() -> None:
    run = transactions_run(aioproducer=[300, 310])
    assert run.workloads[0].values(run.workloads[0].contenders[0]) == [300, 310]


def test_the_best_of_the_peers_is_the_one_with_the_best_median() -> None:
    run = transactions_run(aioproducer=[300, 310, 290], aiokafka=[500, 40, 40], java=[100] * 3)
    best = goals.multiple_of_best(
        "transactions_100", Metric.TRANSACTIONS, ["aiokafka", "java", "franz_go"]
    )
    assert best(run) == [3.0, 3.1, 2.9]
    assert goals.multiple_of_best("transactions_1", Metric.TRANSACTIONS, ["java"])(run) == []


def test_the_page_of_transactions_has_their_goals_alone() -> None:
    page = report.page(transactions_run(aioproducer=[300], aiokafka=[100], java=[150]), [])
    assert "| aioproducer | commit() | 300 (300 to 300) |  |" in page
    assert "of the best Python peer's | 3.00 x (3.00 to 3.00) | at least 1.5 x | yes |" in page
    assert "FastAPI" not in page


def test_a_run_is_compared_with_the_newest_one_of_the_same_workloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    older, newer = run_of(aioproducer=[200]), transactions_run(aioproducer=[300])
    older.started_at, newer.started_at = "2026-01-01", "2026-01-02"
    older.write()
    newer.write()
    assert results.newest_stored() == newer
    assert results.newest_stored(["send_nowait"]) == older


def test_the_page_of_a_route_shows_the_paired_difference() -> None:
    run = route_run(aioproducer=[430, 450, 420], aiokafka=[500, 600, 500], no_kafka=[400, 400, 400])
    page = report.page(run, [])
    assert "| 430 (420 to 450) | 30.0 (20.0 to 50.0) | 0.25 x (0.2 to 0.3) | 43.0 " in page
    assert "CPU above no Kafka, of aiokafka's | 0.25 x (0.2 to 0.3) | at most 0.3 x | yes |" in page


def test_the_keys_are_random_but_the_same_for_everybody() -> None:
    keys = spread_keys()
    assert keys[:2] == [b"6c576fac", b"826886b3"]
    assert len(keys) == 50_000
    assert len(set(keys)) > 49_990


def test_processor_time_is_read_behind_a_name_with_spaces() -> None:
    stat = "7 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 9"
    assert parse_cpu_seconds(stat, 100) == 2.0


def test_a_response_is_whole_once_its_body_is() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n"
    assert response_of(head[:-2]) is None
    assert response_of(head + b'{"offset":1') is None
    response = response_of(head + b'{"offset":1}')
    assert response is not None
    assert (response.status, response.body) == (200, b'{"offset":1}')


def test_a_header_of_a_response_is_found_however_it_is_written() -> None:
    head = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 7\r\n\r\n"
    response = response_of(head)
    assert response is not None
    assert (response.status, response.header("retry-after")) == (503, "7")
    assert response.header("server") is None


def test_a_response_without_a_length_is_refused() -> None:
    with pytest.raises(ConnectionError, match="Content-Length"):
        response_of(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")


def test_records_per_request_are_those_between_two_looks() -> None:
    before = {"request_total": 10.0, "record_delivered_total": 100.0}
    after = {"request_total": 30.0, "record_delivered_total": 500.0}
    assert records_per_request(before, after) == 20.0
    assert records_per_request({}, {}) == 0.0


def test_logs_in_memory_are_gone_with_the_block_and_with_a_dead_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_MEMORY", tmp_path)
    # No process has this number: it is above the largest that Linux gives.
    left_behind = tmp_path / "aioproducer-benchmarks-4194305"
    left_behind.mkdir()
    with runner.logs_in_memory() as found:
        assert [Path(one) for one in found.values()] == list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


def test_a_child_and_busy_loops_end_with_their_block() -> None:
    with busy_loops(1), child("-c", "import time; time.sleep(60)") as process:
        assert process.poll() is None
        assert cpu_seconds(process.pid) >= 0
    assert process.returncode != 0
