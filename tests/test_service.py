"""`make service`: the audit finds each broken promise; the HTTP clients write down what happens."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import results as benchmark_results
from tests.service.audit import BROKEN_PROMISES, Findings, HandedOver, audit
from tests.service.calls import HUNG_UP, NO_ANSWER, Call, read_calls, write_calls
from tests.service.load import Plan
from tests.service.results import Results, show
from tests.service.runner import Outcome
from tests.service.scenarios import SCENARIOS
from tests.support.kafka import StoredRecord
from tests.support.programs import finish, running

NONCE = "0badcafe"
ONE_CLIENT = 1


class Scene:
    """Requests and the log that goes with them, to be spoilt."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.log: list[StoredRecord] = []
        self.handed_over: list[HandedOver] = []

    def call(self, status: int, *, stored: bool, is_click: bool = False) -> Call:
        call = Call(3, len(self.calls), is_click, 1.0, status, 1.5)
        call.retry_after = 1 if status == 503 else None
        self.calls.append(call)
        if stored:
            record = StoredRecord(0, len(self.log), None, self.value(call), (), 0, "CreateTime")
            self.log.append(record)
            call.partition, call.offset = record.partition, record.offset
        return call

    def value(self, call: Call) -> bytes:
        return f"{NONCE} {call.client} {call.number}".encode()

    def audit(self) -> Findings:
        return audit(self.calls, self.log, self.handed_over, NONCE)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_nothing_is_found_where_all_is_well(scene: Scene) -> None:
    scene.call(200, stored=True)
    scene.call(202, stored=True, is_click=True)
    scene.call(503, stored=False)
    findings = scene.audit()
    assert findings.broken() == {}
    assert (findings.stored, findings.accepted, findings.refused) == (1, 1, 1)
    assert findings.statuses == {"200": 1, "202": 1, "503": 1}


def test_a_request_that_was_answered_2xx_without_a_record_is_lost(scene: Scene) -> None:
    scene.call(201, stored=False)
    findings = scene.audit()
    assert findings.broken() == {"lost": 1}
    assert "status=201" in findings.examples["lost"][0]


def test_each_copy_beyond_the_first_is_twice(scene: Scene) -> None:
    scene.call(200, stored=True)
    scene.log += [dataclasses.replace(scene.log[0], offset=offset) for offset in (1, 2)]
    assert scene.audit().broken() == {"twice": 2}


def test_an_offset_that_is_not_the_records_is_misplaced(scene: Scene) -> None:
    scene.call(200, stored=True).offset += 1
    assert scene.audit().broken() == {"misplaced": 1}


def test_a_503_whose_record_is_in_the_log_is_a_broken_promise(scene: Scene) -> None:
    scene.call(503, stored=True)
    assert scene.audit().broken() == {"stored_though_refused": 1}


def test_a_503_that_does_not_say_when_to_come_again_is_counted(scene: Scene) -> None:
    scene.call(503, stored=False)
    scene.call(503, stored=False).retry_after = None
    assert scene.audit().without_retry_after == 1


@pytest.mark.parametrize("status", [504, NO_ANSWER, HUNG_UP])
def test_what_nobody_was_told_of_may_be_stored_or_not(scene: Scene, status: int) -> None:
    scene.call(status, stored=True)
    scene.call(status, stored=False)
    findings = scene.audit()
    assert findings.broken() == {}
    assert (findings.unknown, findings.unknown_and_stored) == (2, 1)


def test_any_other_status_is_a_broken_promise(scene: Scene) -> None:
    scene.call(500, stored=False)
    assert scene.audit().broken() == {"unasked": 1}


def test_a_click_is_stored_or_handed_over(scene: Scene) -> None:
    scene.handed_over = [
        HandedOver(scene.value(scene.call(202, stored=False, is_click=True)), True)
    ]
    findings = scene.audit()
    assert (findings.broken(), findings.handed_over) == ({}, 1)
    scene.handed_over.clear()
    assert scene.audit().broken() == {"accepted_and_lost": 1}


@pytest.mark.parametrize(("possibly_persisted", "broken"), [(True, {}), (False, {"denied": 1})])
def test_what_is_handed_over_as_surely_not_stored_is_not_in_the_log(
    scene: Scene, possibly_persisted: bool, broken: dict[str, int]
) -> None:
    call = scene.call(202, stored=True, is_click=True)
    scene.handed_over = [HandedOver(scene.value(call), possibly_persisted)]
    assert scene.audit().broken() == broken


def test_a_record_that_nobody_asked_for_is_foreign_but_one_of_another_run_is_not(
    scene: Scene,
) -> None:
    scene.call(200, stored=True)
    for offset, value in enumerate([f"{NONCE} 3 7", "ffffffff 3 0"], 1):
        scene.log.append(dataclasses.replace(scene.log[0], offset=offset, value=value.encode()))
    assert scene.audit().broken() == {"foreign": 1}


def test_every_broken_promise_has_a_count_of_its_own() -> None:
    assert {*BROKEN_PROMISES} < {field.name for field in dataclasses.fields(Findings)}


def test_requests_are_read_as_they_were_written(scene: Scene, tmp_path: Path) -> None:
    scene.call(200, stored=True)
    scene.call(503, stored=False)
    write_calls(tmp_path / "calls", scene.calls)
    assert read_calls(tmp_path / "calls") == scene.calls


def _results(scene: Scene) -> Results:
    results = Results("some", "4.3.1", {"aioproducer": "0", "aiokafka": "1"}, 200, 12, SCENARIOS)
    for app in results.versions:
        latency = {"p50": 12.5, "p99": 80.0, "max": 90.0}
        results.outcomes += [Outcome(app, "killed", 2.0, scene.audit(), latency)] * 2
    return results


def test_the_results_are_stored_beside_the_benchmarks_and_not_taken_for_one(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.service.results.FOLDER", tmp_path)
    monkeypatch.setattr(benchmark_results, "FOLDER", tmp_path)
    scene.call(200, stored=True)
    scene.call(503, stored=False)
    results = _results(scene)
    whole, page = results.write()
    assert '"aiokafka"' in whole.read_text()
    assert "| aioproducer | 0.5 | 12.5 | 80.0 | 90.0 | 2 | 0 | 0 | 2 | 0 |" in page.read_text()
    assert "killed, aiokafka" in show(results.outcomes)
    assert benchmark_results.newest_stored() is None


def test_what_an_application_did_wrong_breaks_a_promise() -> None:
    outcome = Outcome("aioproducer", "steady")
    assert outcome.broken() == {}
    outcome.problems.append("not ready after the fault")
    assert outcome.broken() == {"not ready after the fault": 1}


async def _calls_of(
    respond: Callable[[int], bytes | None], path: Path, **plan: float
) -> list[Call]:
    """Let one client loose until its third request.

    Args:
        respond: Gets the number of a request; returns the response, nothing to close the
            connection, or None to leave the client waiting.
        path: For what the client writes down.
        **plan: Of its plan.
    """
    asked = 0
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().partition(b"content-length: ")[2].split()[0])
                await reader.readexactly(size)
                asked += 1
                if asked == 3:
                    over.set()
                response = respond(asked)
                if response == b"":
                    return
                writer.write(response or b"")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        job = Plan(port, ONE_CLIENT, NONCE, str(path), **plan)
        async with running("-m", "tests.service.load", job.to_json()) as load:
            assert load.stdout is not None
            assert load.stdin is not None
            assert await load.stdout.readline() == b"ready\n"
            load.stdin.write(b"go\n")
            await over.wait()
            finished = await finish(load, b"end\n")
            assert finished.code == 0, finished.err
    return read_calls(path)


def _response(status: str, body: str, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers, "", body]
    return "\r\n".join(lines).encode()


async def test_the_clients_write_down_what_they_were_answered(tmp_path: Path) -> None:
    def respond(number: int) -> bytes:
        if number == 2:
            return _response("503 Service Unavailable", "", "retry-after: 1")
        return _response("200 OK", f'{{"partition": 4, "offset": {number}}}')

    first, refused, third, *_ = await _calls_of(respond, tmp_path / "calls")
    assert (first.status, first.partition, first.offset) == (200, 4, 1)
    assert (refused.status, refused.retry_after) == (503, 1)
    assert third.sent_at - refused.ended_at >= 0.9  # it does what Retry-After asks for
    assert [call.number for call in (first, refused, third)] == [0, 1, 2]


async def test_a_connection_that_the_server_ends_is_no_answer_and_the_client_makes_another(
    tmp_path: Path,
) -> None:
    def respond(number: int) -> bytes:
        return b"" if number == 1 else _response("202 Accepted", "")

    calls = await _calls_of(respond, tmp_path / "calls", clicks=1.0)
    assert [call.status for call in calls[:3]] == [NO_ANSWER, 202, 202]
    assert calls[1].is_accepted


async def test_an_impatient_client_hangs_up_before_the_response(tmp_path: Path) -> None:
    calls = await _calls_of(lambda _: None, tmp_path / "calls", impatient=1.0)
    assert len(calls) >= 3
    assert {call.status for call in calls} == {HUNG_UP}
