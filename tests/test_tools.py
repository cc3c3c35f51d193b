"""The scripts that get a Kafka, and the fixtures that every other test stands on."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.support.kafka import consume, create_topic, end_offsets
from tools import check_toolchain, demo
from tools.kafka import (
    DEFAULT_VERSION,
    Kafka,
    KafkaStartError,
    KafkaUnavailableError,
    LocalKafka,
    NodeControl,
    find_kafka,
    main,
    start_kafka,
)
from tools.kafka_cluster import HOME, Process, Record, free_ports, stop_leftovers, wait_until

# An own home keeps these tests' records from those of the session; the jars are shared.
JARS = HOME / DEFAULT_VERSION


def own_home(tmp_path: Path) -> Path:
    home = tmp_path / ".kafka"
    home.mkdir()
    if JARS.exists():
        (home / DEFAULT_VERSION).symlink_to(JARS)
    return home


def produce(kafka: Kafka, topic: str, *values: bytes, partition: int = 0) -> None:
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "acks": "all",
            # A leader paused after its append is asked again: once stored must stay once.
            "enable.idempotence": True,
            # A paused broker accepts the connection and never answers: ask the next one soon.
            "api.version.request.timeout.ms": 1000,
        }
    )
    for value in values:
        producer.produce(topic, value, b"key", partition, headers=[("h", b"1"), ("empty", None)])
    assert producer.flush(40) == 0


def assert_readable(kafka: Kafka) -> None:
    topic = create_topic(kafka, partitions=2)
    produce(kafka, topic, b"a", b"b", partition=1)
    assert end_offsets(kafka, topic) == {0: 0, 1: 2}
    first, second = consume(kafka, topic)
    assert (first.partition, first.offset, first.key, first.value) == (1, 0, b"key", b"a")
    assert first.headers == (("h", b"1"), ("empty", None))
    assert first.timestamp_type == "CreateTime"
    assert (second.offset, second.value) == (1, b"b")


def test_the_newest_broker_stores_what_the_independent_reader_reads(kafka: Kafka) -> None:
    assert_readable(kafka)


def test_a_broker_before_4_stores_what_the_independent_reader_reads(kafka39: Kafka) -> None:
    assert_readable(kafka39)


def test_the_reader_waits_for_a_count_and_says_what_it_missed(kafka: Kafka) -> None:
    topic = create_topic(kafka)
    produce(kafka, topic, b"a")
    assert len(consume(kafka, topic, 1)) == 1
    with pytest.raises(TimeoutError, match=r"read 1 records .* wanted 2"):
        consume(kafka, topic, 2, timeout=0.5)


def test_the_reader_shows_log_append_time(kafka: Kafka) -> None:
    topic = create_topic(kafka, config={"message.timestamp.type": "LogAppendTime"})
    produce(kafka, topic, b"a")
    assert consume(kafka, topic)[0].timestamp_type == "LogAppendTime"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_three_brokers_outlive_one_killed_stopped_or_paused(kafka3: NodeControl) -> None:
    topic = create_topic(kafka3, partitions=3)
    addresses = kafka3.bootstrap_servers
    kafka3.kill(1)
    produce(kafka3, topic, b"one is dead")
    kafka3.start_node(1)
    assert kafka3.bootstrap_servers == addresses
    kafka3.stop_node(2)
    produce(kafka3, topic, b"one is stopped")
    kafka3.start_node(2)
    kafka3.pause(3)
    produce(kafka3, topic, b"one is paused")
    kafka3.resume(3)
    assert [record.value for record in consume(kafka3, topic, 3)] == [
        b"one is dead",
        b"one is stopped",
        b"one is paused",
    ]


def test_brokers_of_an_owner_that_died_are_stopped_by_the_next_start(
    kafka: Kafka, tmp_path: Path
) -> None:
    if shutil.which("java") is None:
        pytest.skip("the leftover is a Java process")
    home = own_home(tmp_path)
    program = f"""
        import os, signal
        from pathlib import Path
        from tools.kafka_java import LocalKafka
        LocalKafka(home=Path({str(home)!r})).start()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    code = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False).returncode
    assert code == -signal.SIGKILL
    [record] = Record.read_all(home)
    assert record.is_alive()
    assert stop_leftovers(home) == 1
    assert not record.is_alive()
    assert Record.read_all(home) == []


def test_a_reused_pid_is_never_signalled() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        Process(other.pid, "born at another time").send(signal.SIGKILL)
        assert Process.of(other.pid).is_alive()
        other.kill()
        assert wait_until(lambda: not Process.of(other.pid).is_alive(), timeout=5)


def test_a_process_that_ended_is_not_alive_before_its_parent_looks() -> None:
    with subprocess.Popen(["true"]) as ended:
        born = Process.of(ended.pid)
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert not born.is_alive()


def test_a_cluster_whose_owner_lives_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run" / "one").mkdir(parents=True)
    record = Record(tmp_path / "run" / "one", "4.3.1", "x:1", Process.of(os.getpid()), {})
    record.write()
    assert stop_leftovers(tmp_path) == 0
    assert Record.read_all(tmp_path) == [record]


def test_ports_are_free_and_out_of_reach_of_outgoing_connections() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = free_ports(3, first=port)
    assert port not in ports
    assert all(20_000 <= one < 32_000 for one in ports)


def test_a_broker_that_ends_at_once_shows_the_tail_of_its_log(kafka: Kafka, tmp_path: Path) -> None:
    broken = LocalKafka(home=own_home(tmp_path), config={"num.network.threads": "none"})
    with pytest.raises((KafkaStartError, KafkaUnavailableError), match=r"num\.network\.threads"):
        broken.start()
    assert Record.read_all(tmp_path / ".kafka") == []


def test_without_any_kafka_one_sentence_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setattr("tools.kafka.HOME", tmp_path)
    assert main(["start"]) == 3
    said = capsys.readouterr()
    assert "no real Kafka was found" in said.err
    assert "Java 17 and Maven" in said.err
    assert said.out == ""


def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KafkaUnavailableError, match="Java 11 is too old"):
        start_kafka(home=tmp_path)


def test_the_address_in_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "kafka.example:9092")
    with find_kafka() as found:
        assert found.bootstrap_servers == "kafka.example:9092"


FAKE_DOCKER = """\
#!{python}
# Stands for a Docker engine: `up` starts a broker that answers one kind of request.
import os, subprocess, sys
here = os.path.dirname(os.path.abspath(__file__))
with open(here + "/calls", "a") as calls:
    print(*sys.argv[1:], file=calls)
if "up" in sys.argv:
    broker = here + "/broker.py"
    process = subprocess.Popen([sys.executable, broker, os.environ["KAFKA_PORT"]])
    open(here + "/pid", "w").write(str(process.pid))
elif "down" in sys.argv:
    os.kill(int(open(here + "/pid").read()), 9)
"""

FAKE_BROKER = """\
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    correlation_id = connection.recv(100)[8:12]
    connection.sendall(b"\\0\\0\\0\\4" + correlation_id)
    connection.close()
"""


def test_docker_compose_comes_before_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = tmp_path / "docker"
    docker.write_text(FAKE_DOCKER.format(python=sys.executable))
    docker.chmod(0o755)
    (tmp_path / "broker.py").write_text(FAKE_BROKER)
    monkeypatch.setenv("PATH", str(tmp_path))
    with start_kafka(home=tmp_path, config={"a.b": "c"}) as kafka:
        kafka.pause(1)
        [record] = Record.read_all(tmp_path)
        assert record.bootstrap_servers == kafka.bootstrap_servers
    assert Record.read_all(tmp_path) == []
    calls = (tmp_path / "calls").read_text()
    for wanted in ("info", "up -d kafka\n", "pause kafka\n", "down --volumes --timeout 0\n"):
        assert wanted in calls


def test_a_machine_without_a_compiler_gets_one_sentence_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "apt-get").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert check_toolchain.main() == 1
    [sentence] = capsys.readouterr().out.splitlines()
    assert sentence.startswith("aioproducer needs a C compiler")
    assert "sudo apt-get install -y gcc" in sentence


def test_a_machine_without_python_headers_gets_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def include(_name: str) -> str:
        return str(tmp_path)

    monkeypatch.setattr("sysconfig.get_path", include)
    assert any("headers of Python" in one for one in check_toolchain.missing())


@pytest.mark.parametrize(
    ("environment", "passed_on"),
    [({"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"}, "kafka:9092"), ({"PATH": ""}, "fake")],
)
def test_the_demo_gets_the_address_of_kafka(
    environment: dict[str, str], passed_on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    passed: list[str] = []

    def run(bootstrap_servers: str) -> int:
        passed.append(bootstrap_servers)
        return 7

    monkeypatch.setattr("tools.demo._run", run)
    assert demo.main() == 7
    assert passed == [passed_on]


async def test_every_coroutine_test_runs_on_both_loops(request: pytest.FixtureRequest) -> None:
    loop = type(asyncio.get_running_loop()).__module__
    assert loop.partition(".")[0] in request.node.name


LEAKS = {
    "a task": "async def test_it():\n    _keep.append(asyncio.create_task(asyncio.sleep(60)))",
    "a socket": "def test_it():\n    _keep.append(socket.socket())",
    "a socket on a loop": "async def test_it():\n    _keep.append(socket.socket())",
}


@pytest.mark.parametrize("what", LEAKS)
def test_a_test_that_leaves_something_behind_fails(what: str, tmp_path: Path) -> None:
    conftest = Path(__file__).with_name("conftest.py").read_text()
    config = Path(__file__).parents[1] / "pyproject.toml"
    (tmp_path / "conftest.py").write_text(conftest.replace("LEAK_GRACE = 2.0", "LEAK_GRACE = 0.1"))
    (tmp_path / "test_leak.py").write_text(
        f"import asyncio, socket\n_keep: list[object] = []\n{LEAKS[what]}\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", config, "--rootdir", tmp_path, "-p",
         "no:cacheprovider", tmp_path],
        cwd=config.parent, capture_output=True, text=True, check=False, timeout=15,
    )  # fmt: skip
    assert run.returncode == 1, run.stdout
    assert "the test left a" in run.stdout
