"""The arguments of `aioproducer produce`, and the options they and the environment make."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from aioproducer.cli import main
from aioproducer.cli.arguments import config_from
from aioproducer.cli.line_sender import LineOptions
from aioproducer.cli.produce import add_arguments, line_options_from
from aioproducer.config import ProducerConfig
from aioproducer.errors import ConfigError


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["-t", "lines", *arguments])


def options(*arguments: str) -> LineOptions:
    return line_options_from(parse(*arguments))


def config(*arguments: str, **environ: str) -> ProducerConfig:
    return config_from(parse(*arguments), environ)


def refused(*arguments: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config(*arguments, **environ)
    return str(caught.value)


def test_lines_of_standard_input_are_the_default() -> None:
    assert options() == LineOptions(topic="lines")


def test_a_topic_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["produce", "-b", "localhost"])
    assert caught.value.code == 2
    assert "-t" in capsys.readouterr().err


def test_files_are_read_with_and_without_l() -> None:
    assert options("-l", "one", "-l", "two", "three").files == ("one", "two", "three")


def test_a_key_is_taken_as_the_bytes_it_was_typed_in() -> None:
    assert options("-k", "\u00e9 \udcff").key == "\u00e9 ".encode() + b"\xff"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (":", b":"),
        (r"\t", b"\t"),
        (r"\x1F", b"\x1f"),
        (r"\xff||", b"\xff||"),
        (r"\\n", rb"\n"),
        (r"\0", b"\0"),
        (r"\q", rb"\q"),
    ],
)
def test_delimiters_may_be_escaped(typed: str, meant: bytes) -> None:
    assert options("-D", typed, "-K", typed) == LineOptions(
        topic="lines", delimiter=meant, key_delimiter=meant
    )


def test_headers_keep_their_order_and_may_be_null_or_empty() -> None:
    assert options("-H", "b=1=2", "-H", "a", "-H", "c=").headers == (
        ("b", b"1=2"),
        ("a", None),
        ("c", b""),
    )


@pytest.mark.parametrize(
    "wrong", [["-H", "=value"], ["-K", ""], ["-X", "linger.ms"], ["-p", "first"]]
)
def test_an_argument_that_makes_no_sense_is_wrong_usage(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(*wrong)
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_partition_minus_one_leaves_it_to_the_partitioner() -> None:
    assert options("-p", "-1").partition is None
    assert options("-p", "0").partition == 0


def test_brokers_and_codec_are_options_of_the_producer() -> None:
    made = config("-b", "one:1,two", "-z", "zstd")
    assert made.bootstrap_servers == ("one:1", "two:9092")
    assert made.compression_type == "zstd"


@pytest.mark.parametrize("name", ["linger.ms", "linger_ms"])
def test_any_option_goes_by_both_of_its_names(name: str) -> None:
    assert config("-b", "localhost", "-X", f"{name}=5").linger_ms == 5


def test_somebody_who_watches_waits_ten_seconds_at_most() -> None:
    assert config("-b", "localhost").max_block_ms == 10_000
    assert config("-b", "localhost", "-X", "max.block.ms=500").max_block_ms == 500
    environment = config(KAFKA_BOOTSTRAP_SERVERS="localhost", KAFKA_MAX_BLOCK_MS="400")
    assert environment.max_block_ms == 400


def test_an_unknown_option_is_refused_by_name() -> None:
    assert "lingr.ms" in refused("-b", "localhost", "-X", "lingr.ms=5")


def test_an_option_given_twice_is_refused() -> None:
    assert "compression.type" in refused(
        "-b", "localhost", "-X", "compression_type=gzip", "-X", "compression.type=lz4"
    )
    assert "given twice" in refused("-b", "localhost", "-X", "compression.type=gzip", "-z", "lz4")


def test_a_serializer_is_of_no_use_for_lines() -> None:
    assert "value.serializer" in refused("-b", "localhost", "-X", "value.serializer=json")


def test_a_transactional_id_is_refused_wherever_it_comes_from() -> None:
    assert "transactional.id" in refused("-b", "localhost", "-X", "transactional.id=transfers")
    assert "transactional_id" in refused(
        KAFKA_BOOTSTRAP_SERVERS="localhost", KAFKA_TRANSACTIONAL_ID="transfers"
    )


def test_without_brokers_the_environment_counts() -> None:
    made = config(KAFKA_BOOTSTRAP_SERVERS="elsewhere:1", KAFKA_ACKS="1")
    assert made.bootstrap_servers == ("elsewhere:1",)
    assert made.acks == 1


def test_with_brokers_the_environment_does_not_count() -> None:
    made = config("-b", "here:1", KAFKA_BOOTSTRAP_SERVERS="elsewhere:1", KAFKA_ACKS="1")
    assert made.bootstrap_servers == ("here:1",)
    assert made.acks == -1


def test_arguments_win_over_the_environment() -> None:
    made = config("-z", "lz4", KAFKA_BOOTSTRAP_SERVERS="here", KAFKA_COMPRESSION_TYPE="gzip")
    assert made.compression_type == "lz4"


def test_serializers_of_the_environment_are_not_for_lines() -> None:
    made = config(KAFKA_BOOTSTRAP_SERVERS="here", KAFKA_VALUE_SERIALIZER="json")
    assert made.value_serializer is None


def test_the_environment_is_complained_about_by_the_name_of_its_variable() -> None:
    assert "KAFKA_ACKS" in refused(KAFKA_BOOTSTRAP_SERVERS="here", KAFKA_ACKS="some")


def test_no_brokers_at_all_says_where_to_name_them() -> None:
    said = refused()
    assert "-b" in said
    assert "KAFKA_BOOTSTRAP_SERVERS" in said


def test_an_impossible_option_ends_with_2_and_one_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["produce", "-b", "localhost", "-t", "lines", "-z", "rar"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "rar" in line


@pytest.mark.parametrize("name", ["missing", "."])
def test_a_file_that_cannot_be_opened_ends_with_2_before_anything_is_sent(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    assert main(["produce", "-b", "localhost:1", "-t", "lines", "/dev/null", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith("aioproducer 0.")


def test_the_package_runs_as_a_module() -> None:
    # Not by runpy: what pytest loads the packages of its plugins with, it cannot use.
    done = subprocess.run(
        [sys.executable, "-m", "aioproducer", "--version"],
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    assert "aioproducer" in done.stdout
