"""Kafka's own producer in transactions at FakeCluster: v2, and v1 where brokers have no v2."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from aioproducer.testing import FakeCluster
from tools.kafka import DEFAULT_VERSION, Kafka
from tools.kafka_cluster import HOME

LIBS = HOME / DEFAULT_VERSION / "libs"
"""Where a Kafka that runs as Java processes has its jars, once one was started."""
COUNT = 1000


async def produce(servers: str) -> str:
    """Send records in transactions of 50 ms; return what the program prints."""
    if not LIBS.is_dir() or shutil.which("java") is None:
        pytest.skip("the jars of Kafka are not here: it runs elsewhere")
    process = await asyncio.create_subprocess_exec(
        *("java", "-Xmx256m", "-cp", str(LIBS / "*"), "org.apache.kafka.tools.ProducerPerformance"),
        *("--topic", "t", "--num-records", str(COUNT), "--record-size", "100"),
        *("--throughput", "2000", "--bootstrap-server", servers),
        *("--transactional-id", "tx", "--transaction-duration-ms", "50"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return output.decode()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("level", [1, 2])
async def test_the_java_producer_commits_every_record(level: int, kafka: Kafka) -> None:
    features = {"transaction.version": level}
    async with FakeCluster(brokers=2, topics={"t": 4}, features=features) as cluster:
        cluster.fail_next("end_txn", "NOT_COORDINATOR")
        cluster.cut_next("end_txn", when="after")
        output = await produce(cluster.bootstrap_servers)
        assert f"{COUNT} records sent" in output, output
        assert len(cluster.records("t", isolation="read_committed")) == COUNT
        assert len(cluster.records("t")) == COUNT
        commits = [request for request in cluster.requests_of("end_txn") if request.commit]
        assert {request.version for request in commits} == {5 if level == 2 else 4}
        transaction = cluster.transaction("tx")
        assert transaction is not None and transaction.state == "CompleteCommit"
        # In v2 each transaction ends an epoch; the first two requests were asked again.
        assert transaction.producer_epoch == (len(commits) - 2 if level == 2 else 0)
        cluster.expect_clean()
