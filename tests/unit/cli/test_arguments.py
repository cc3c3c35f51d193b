"""Properties files, and how they and the other arguments make options."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from aioproducer.cli.arguments import add_broker_arguments, config_from, read_property_file
from aioproducer.config import ProducerConfig
from aioproducer.errors import ConfigError


def config(*arguments: str, **environ: str) -> ProducerConfig:
    parser = argparse.ArgumentParser()
    add_broker_arguments(parser)
    return config_from(parser.parse_args(arguments), environ)


def test_a_properties_file_is_read_as_java_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "client.properties"
    path.write_text(
        "# a comment\n"
        "! another\n"
        "\n"
        "bootstrap.servers = a:1,\\\n"
        "    b:2\n"
        "client.id: me\n"
        "sasl.password=p\\=a\\u0041 \\\\ #x\n"
        "acks all\n"
    )
    assert read_property_file(path) == {
        "bootstrap.servers": "a:1,b:2",
        "client.id": "me",
        "sasl.password": "p=aA \\ #x",
        "acks": "all",
    }


@pytest.mark.parametrize(
    ("text", "read"),
    [
        # A path of Windows in a comment, which continues no line.
        ("# the keys are in C:\\keys\\\nacks=1", {"acks": "1"}),
        # An escaped backslash at the end, and one more after it.
        ("client.id=abc\\\\\nacks=1", {"client.id": "abc\\", "acks": "1"}),
        ("client.id=abc\\\\\\\n  d\nacks=1", {"client.id": "abc\\d", "acks": "1"}),
        # What is continued is no comment, and may be continued again.
        ("client.id=a\\\n#b\\\n\nacks=1", {"client.id": "a#b", "acks": "1"}),
        ("client.id=a\\\r\n b\r\nacks=1\\", {"client.id": "ab", "acks": "1"}),
    ],
)
def test_lines_are_continued_as_java_does_it(
    tmp_path: Path, text: str, read: dict[str, str]
) -> None:
    path = tmp_path / "client.properties"
    path.write_bytes(text.encode())
    assert read_property_file(path) == read


def test_arguments_win_over_files_and_later_files_over_earlier_ones(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_text("bootstrap.servers=a:1\nlinger.ms=1\nbatch.size=1\nclient.id=first")
    second.write_text("linger_ms=2\nbatch.size=2")
    made = config("-F", str(first), "-F", str(second), "-X", "batch.size=3")
    assert (made.client_id, made.linger_ms, made.batch_size) == ("first", 2, 3)


def test_the_environment_fills_in_what_a_file_leaves_out(tmp_path: Path) -> None:
    path = tmp_path / "client.properties"
    path.write_text("linger.ms=7")
    made = config("-F", str(path), KAFKA_BOOTSTRAP_SERVERS="a:1", KAFKA_LINGER_MS="3")
    assert made.bootstrap_servers == ("a:1",)
    assert made.linger_ms == 7


def test_a_file_that_names_the_brokers_leaves_the_environment_out(tmp_path: Path) -> None:
    path = tmp_path / "client.properties"
    path.write_text("metadata.broker.list=a:1")
    made = config("-F", str(path), KAFKA_BOOTSTRAP_SERVERS="b:1", KAFKA_LINGER_MS="3")
    assert (made.bootstrap_servers, made.linger_ms) == (("a:1",), 0)


def test_what_the_environment_has_is_checked_with_the_arguments_that_complete_it() -> None:
    made = config(
        *("-X", "security.protocol=SASL_SSL", "-X", "sasl.mechanism=PLAIN", "-X", "acks=all"),
        KAFKA_BOOTSTRAP_SERVERS="a:1,b:1",
        KAFKA_SASL_USERNAME="somebody",
        KAFKA_SASL_PASSWORD="something",
        KAFKA_ENABLE_IDEMPOTENCE="true",
        KAFKA_ACKS="1",
    )
    assert (made.sasl_mechanism, made.sasl_username, made.acks) == ("PLAIN", "somebody", -1)


def test_a_variable_that_an_argument_replaces_is_not_read() -> None:
    made = config("-X", "linger.ms=5", KAFKA_BOOTSTRAP_SERVERS="a:1", KAFKA_LINGER_MS="soon")
    assert made.linger_ms == 5


def test_one_option_under_two_names_in_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "client.properties"
    path.write_text("bootstrap.servers=a:1\nmetadata.broker.list=b:1")
    with pytest.raises(
        ConfigError, match=r"metadata\.broker\.list: given twice, as bootstrap\.servers as well"
    ):
        config("-F", str(path))


def test_a_later_file_wins_under_another_name_of_the_option(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("first", "second", "third")]
    for path, line in zip(paths, ("linger_ms=1", "linger.ms=2", "linger_ms=3"), strict=True):
        path.write_text(line)
    made = config(*(part for path in paths for part in ("-F", str(path))), "-b", "a:1")
    assert made.linger_ms == 3


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "client.properties"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"client\.properties cannot be read"):
        config("-F", str(path), "-b", "a:1")
