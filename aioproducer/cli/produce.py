"""`aioproducer produce`: the lines of files or of standard input into a topic.

Called by `main`. Reads the arguments, whose letters and habits are kcat's; line_sender.py does the
work.
"""

from __future__ import annotations

import argparse
import os
import re

from aioproducer.cli.arguments import add_broker_arguments, config_from
from aioproducer.cli.line_sender import LineOptions, send_lines
from aioproducer.cli.report import say
from aioproducer.errors import ConfigError
from aioproducer.records import Header

__all__ = ["add_arguments", "line_options_from"]

_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|([nrt0\\]))")
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand, and what runs it."""
    parser.description = "Send the lines of files, or of standard input, to a topic."
    parser.epilog = (
        r"Delimiters may hold \n, \r, \t, \0, \\ and \xHH. Unless -b, -F or -X names the brokers, "
        "options come from the environment as well: KAFKA_BOOTSTRAP_SERVERS, KAFKA_LINGER_MS, ... "
        "Exit code: 0 all acknowledged, 1 some failed, 2 wrong usage, 130 after Ctrl-C, which "
        "flushes first."
    )
    add = parser.add_argument
    add_broker_arguments(parser)
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
    add(
        "-z",
        dest="properties",
        metavar="CODEC",
        type=_codec,
        action="append",
        help="none, gzip, snappy, lz4 or zstd",
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


def _run(arguments: argparse.Namespace) -> int:
    try:
        config = config_from(arguments, os.environ)
    except ConfigError as error:
        say(f"aioproducer: {error}")
        return 2
    return send_lines(line_options_from(arguments), config)


def _codec(text: str) -> tuple[str, str]:
    return "compression.type", text


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
