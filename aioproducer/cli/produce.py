"""`aioproducer produce`: the lines of files or of standard input into a topic.

Called by `main`. Reads the arguments, whose letters and habits are kcat's; line_sender.py does the
work.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
from collections.abc import Mapping

from aioproducer.cli.line_sender import LineOptions, send_lines
from aioproducer.cli.report import say
from aioproducer.config import ProducerConfig
from aioproducer.errors import ConfigError
from aioproducer.records import Header

__all__ = ["add_arguments", "config_from", "line_options_from"]

_MAX_BLOCK_MS = "10000"
_SERIALIZERS = ("key_serializer", "value_serializer")
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|([nrt0\\]))")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand, and what runs it."""
    parser.description = "Send the lines of files, or of standard input, to a topic."
    parser.epilog = (
        r"Delimiters may hold \n, \r, \t, \0, \\ and \xHH. Without -b, options come from the "
        "environment: KAFKA_BOOTSTRAP_SERVERS, KAFKA_LINGER_MS, ... Exit code: 0 all acknowledged, "
        "1 some failed, 2 wrong usage, 130 after Ctrl-C, which flushes first."
    )
    add = parser.add_argument
    add("-b", dest="brokers", metavar="BROKERS", help="brokers to ask first, host:port,...")
    add("-t", dest="topic", metavar="TOPIC", required=True, help="where to")
    add("-k", dest="key", metavar="KEY", type=os.fsencode, help="the key of every record")
    add(
        "-K",
        dest="key_delimiter",
        metavar="DELIM",
        type=_delimiter,
        help="what ends the key at the start of a line; without it the line has the key of -k",
    )
    add(
        "-H",
        dest="headers",
        metavar="NAME=VALUE",
        type=_header,
        action="append",
        help="a header of every record, null without =VALUE; repeatable",
    )
    add(
        "-p",
        dest="partition",
        metavar="PARTITION",
        type=int,
        help="the partition of every record; -1, the default, leaves it to the partitioner",
    )
    add("-z", dest="codec", metavar="CODEC", help="none, gzip, snappy, lz4 or zstd")
    add(
        "-X",
        dest="properties",
        metavar="NAME=VALUE",
        type=_property,
        action="append",
        default=[],
        help="an option of the producer, such as linger.ms=5; repeatable",
    )
    add(
        "-D",
        dest="delimiter",
        metavar="DELIM",
        type=_delimiter,
        default=b"\n",
        help="what ends a record, instead of the end of the line",
    )
    add("-Z", dest="empty_is_null", action="store_true", help="send empty values and keys as null")
    add("-q", dest="is_quiet", action="store_true", help="say nothing unless something fails")
    add(
        "-l",
        dest="files",
        metavar="FILE",
        action="append",
        default=[],
        help="read this file; repeatable, - is standard input",
    )
    add("more_files", metavar="FILE", nargs="*", help="the same as -l FILE")
    parser.set_defaults(run=_run)


def line_options_from(arguments: argparse.Namespace) -> LineOptions:
    """Return what the parsed arguments ask for, apart from the producer's own options."""
    return LineOptions(
        topic=arguments.topic,
        files=(*arguments.files, *arguments.more_files),
        key=arguments.key,
        key_delimiter=arguments.key_delimiter,
        delimiter=arguments.delimiter,
        headers=tuple(arguments.headers) if arguments.headers else None,
        partition=None if arguments.partition == -1 else arguments.partition,
        empty_is_null=arguments.empty_is_null,
        is_quiet=arguments.is_quiet,
    )


def config_from(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ProducerConfig:
    """Return the producer's options.

    The environment counts only without `-b`, and arguments win over it. `max.block.ms` is 10 s
    by default: somebody waits for the cluster to be found.

    Raises:
        ConfigError: An option is unknown, impossible, given twice, or of no use for lines.
    """
    properties: list[tuple[str, str]] = list(arguments.properties)
    if arguments.brokers is not None:
        properties.append(("bootstrap.servers", arguments.brokers))
    if arguments.codec is not None:
        properties.append(("compression.type", arguments.codec))
    given: dict[str, tuple[str, str]] = {}
    for label, value in properties:
        name = "partitioner" if label == "partitioner.class" else label.replace(".", "_")
        if name in given:
            raise ConfigError("given twice", option=label)
        if name in _SERIALIZERS:
            raise ConfigError("of no use here: lines are sent as they are", option=label)
        given[name] = (label, value)
    if "bootstrap_servers" not in given:
        given = _from_environment(environ) | given
    given.setdefault("max_block_ms", ("max.block.ms", _MAX_BLOCK_MS))
    return ProducerConfig.from_properties(dict(given.values()))


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    try:
        ProducerConfig.from_env(environ=environ)  # its errors name the variables
    except ConfigError as error:
        if error.option == "KAFKA_BOOTSTRAP_SERVERS" and error.value is None:
            raise ConfigError(
                "no brokers: give -b host:port, or set KAFKA_BOOTSTRAP_SERVERS"
            ) from None
        raise
    variables = {
        option.name: f"KAFKA_{option.name.upper()}"
        for option in dataclasses.fields(ProducerConfig)
        if option.name not in _SERIALIZERS
    }
    return {
        name: (name, environ[variable])
        for name, variable in variables.items()
        if variable in environ
    }


def _run(arguments: argparse.Namespace) -> int:
    try:
        config = config_from(arguments, os.environ)
    except ConfigError as error:
        say(f"aioproducer: {error}")
        return 2
    return send_lines(line_options_from(arguments), config)


def _delimiter(text: str) -> bytes:
    def unescape(match: re.Match[bytes]) -> bytes:
        digits, letter = match.groups()
        return bytes.fromhex(digits.decode()) if digits else _ESCAPED[letter]

    delimiter = _ESCAPE.sub(unescape, os.fsencode(text))
    if not delimiter:
        raise argparse.ArgumentTypeError("a delimiter cannot be empty")
    return delimiter


def _header(text: str) -> Header:
    name, found, value = text.partition("=")
    if not name or not name.isprintable():
        raise argparse.ArgumentTypeError("a header is NAME=VALUE")
    return name, os.fsencode(value) if found else None


def _property(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not name or not found:
        raise argparse.ArgumentTypeError("an option is NAME=VALUE")
    return name.strip(), value
