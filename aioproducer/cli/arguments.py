"""The arguments that every subcommand has: which brokers, and the producer's options.

Options come from `-F` files, `-X` and the letters of a subcommand, the later ones before the
earlier ones; and, unless one of these names the brokers, from the environment before all of them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from aioproducer.config import ProducerConfig, options_in_environment
from aioproducer.errors import ConfigError
from aioproducer.properties import option_name

__all__ = ["add_broker_arguments", "config_from", "read_property_file"]

_Given: TypeAlias = dict[str, tuple[str, object]]
"""By the option: the name that the user wrote, and the value."""

_MAX_BLOCK_MS = "10000"
_SERIALIZERS = ("key_serializer", "value_serializer")
_TRANSACTIONAL_ID = "transactional_id"
_PREFIX = "KAFKA_"
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|.)")
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}


def add_broker_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which brokers, and how to speak to them."""
    add = parser.add_argument
    add("-b", dest="brokers", metavar="BROKERS", help="brokers to ask first, host:port,...")
    add(
        "-F",
        dest="property_files",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="a properties file with Java's or librdkafka's names; repeatable",
    )
    add(
        "-X",
        dest="properties",
        metavar="NAME=VALUE",
        type=_property,
        action="append",
        default=[],
        help="an option of the producer, such as linger.ms=5; repeatable",
    )


def config_from(
    arguments: argparse.Namespace,
    environ: Mapping[str, str],
    *,
    takes_transactional_id: bool = False,
) -> ProducerConfig:
    """Return the producer's options.

    The environment counts unless the arguments or their files name the brokers: it is that of one
    cluster. They complete it and win over it. `max.block.ms` is 10 s by default: somebody waits for
    the cluster to be found.

    Args:
        arguments: The arguments, parsed.
        environ: The environment.
        takes_transactional_id: Whether there may be a transactional_id. A producer that starts with
            it fences the application whose id it is.

    Raises:
        ConfigError: An option is unknown, impossible, given twice, or of no use for lines.
    """
    given: _Given = {}
    for path in arguments.property_files:
        given |= _by_option(read_property_file(path).items())
    properties: list[tuple[str, str]] = [*arguments.properties]
    if arguments.brokers is not None:
        properties.append(("bootstrap.servers", arguments.brokers))
    given |= _by_option(properties)
    for name in _SERIALIZERS:
        if name in given:
            raise ConfigError("of no use here: lines are sent as they are", option=given[name][0])
    if "bootstrap_servers" not in given:
        given = _in_environment(environ, given) | given
    if "bootstrap_servers" not in given:
        raise ConfigError("no brokers: give -b host:port, or set KAFKA_BOOTSTRAP_SERVERS")
    if _TRANSACTIONAL_ID in given and not takes_transactional_id:
        raise ConfigError(
            "of no use here: lines are sent without transactions, and a start with it would fence"
            " the application whose id it is",
            option=given[_TRANSACTIONAL_ID][0],
            hint="Leave it out, also of the environment.",
        )
    given.setdefault("max_block_ms", ("max.block.ms", _MAX_BLOCK_MS))
    return ProducerConfig.from_properties(dict(given.values()))


def read_property_file(path: Path) -> dict[str, str]:
    r"""Read a file of Java's properties: `name=value` or `name: value`, `#` comments, `\` escapes.

    Raises:
        ConfigError: It cannot be read; its text is not shown, for it may hold secrets.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(f"{path} cannot be read: {reason.lower()}") from None
    found: dict[str, str] = {}
    for line in _logical_lines(text):
        name, _, value = _separated(line)
        found[_unescaped(name)] = _unescaped(value)
    return found


def _logical_lines(text: str) -> Iterator[str]:
    """Join what is continued: a line with an odd number of backslashes at its end, but no comment.

    As java.util.Properties does; two backslashes are an escaped one.
    """
    begun: str | None = None
    for line in text.split("\n"):
        part = line.lstrip()
        if begun is None and (not part or part[0] in "#!"):
            continue
        begun = (begun or "") + part
        if (len(begun) - len(begun.rstrip("\\"))) % 2:
            begun = begun[:-1]
        else:
            yield begun.rstrip()
            begun = None
    if begun:
        yield begun.rstrip()


def _separated(line: str) -> tuple[str, str, str]:
    match = re.match(r"((?:\\.|[^=:\s\\])*)\s*([=:]?)\s*(.*)", line, re.DOTALL)
    assert match is not None
    return match[1], match[2], match[3]


def _unescaped(text: str) -> str:
    def unescape(match: re.Match[str]) -> str:
        code = match[1]
        return chr(int(code[1:], 16)) if len(code) == 5 else _ESCAPED.get(code, code)

    return _ESCAPE.sub(unescape, text)


def _by_option(properties: Iterable[tuple[str, str]]) -> _Given:
    """Sort properties of one source by the options that they stand for."""
    found: _Given = {}
    for label, value in properties:
        name = option_name(label)
        if name in found:
            other = found[name][0]
            also = "" if other == label else f", as {other} as well"
            raise ConfigError(f"given twice{also}", option=label)
        found[name] = (label, value)
    return found


def _in_environment(environ: Mapping[str, str], given: _Given) -> _Given:
    """Read what the environment adds: not what is given, nor what is of no use for lines."""
    left_out = {f"{_PREFIX}{name.upper()}" for name in (*given, *_SERIALIZERS)}
    variables = {name: text for name, text in environ.items() if name not in left_out}
    # Read by themselves, so that errors name the variables; checked with the others.
    options = options_in_environment(variables, _PREFIX)
    return {name: (name, value) for name, value in options.items()}


def _property(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not name or not found:
        raise argparse.ArgumentTypeError("an option is NAME=VALUE")
    return name.strip(), value
