"""The `aioproducer` command: picks the subcommand and runs it.

One module per subcommand, with `add_arguments` and a function that runs them and returns the exit
code: 0 all well, 1 something failed, 2 wrong usage or configuration, 128 + n ended by signal n
(130: Ctrl-C).
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from aioproducer.cli import check, produce
from aioproducer.version import __version__

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: What follows the command's name; None takes those of the process.
    """
    parser = argparse.ArgumentParser(prog="aioproducer", description="Kafka from the command line.")
    parser.add_argument("--version", action="version", version=f"aioproducer {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    produce.add_arguments(commands.add_parser("produce", help="send lines to a topic"))
    check.add_arguments(commands.add_parser("check", help="walk the way to the brokers"))
    options = parser.parse_args(arguments)
    logging.basicConfig(format="aioproducer: %(message)s")
    exit_code: int = options.run(options)
    return exit_code
