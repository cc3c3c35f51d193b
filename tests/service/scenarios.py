"""What happens to a service while clients use it, scenario by scenario.

Called by the runner. A scenario breaks one thing and mends it; what it needs of server and clients
stands beside it. Its waits are shares of a length that the command line gives, but for those that
must be longer than the routes' deadline of two seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tools.kafka import NodeControl

__all__ = ["SCENARIOS", "Scenario", "Stage"]

_NODE = 1
_LONGER_THAN_THE_DEADLINE = 5.0
_TO_COME_BACK = 4.0
"""Seconds in which every client of a service that works again has been answered."""


@dataclass(slots=True)
class Stage:
    """Where a scenario plays.

    Attributes:
        kafka: One broker.
        seconds: How long the scenario is, about.
        terminate: Sends SIGTERM to the server and returns when it has ended.
        say: Gets a line of progress for each step.
        began_at: When the fault began, by the monotonic clock; 0 before.
        ended_at: When it ended; 0 before, and where the server ends with it.
    """

    kafka: NodeControl
    seconds: float
    terminate: Callable[[], None]
    say: Callable[[str], None]
    began_at: float = 0.0
    ended_at: float = 0.0

    def wait(self, share: float, *, at_least: float = 0.0) -> None:
        """Let the clients go on for a share of the length, in seconds at least."""
        time.sleep(max(share * self.seconds, at_least))

    def begin(self, what: str) -> None:
        """Begin the fault."""
        self.say(what)
        self.began_at = time.monotonic()

    def end(self, what: str) -> None:
        """End it."""
        self.ended_at = time.monotonic()
        self.say(what)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One scenario.

    Attributes:
        name: For tables and the command line.
        what: What happens, for a reader.
        play: Does it.
        impatient: The share of clients that hang up on each of their requests.
        clicks: The share of requests that are answered before their record is stored.
        environ: Options of the server, by environment variables.
        ends_server: The server ends in it.
    """

    name: str
    what: str
    play: Callable[[Stage], None]
    impatient: float = 0.0
    clicks: float = 0.0
    environ: Mapping[str, str] = field(default_factory=dict[str, str])
    ends_server: bool = False


def _steady(stage: Stage) -> None:
    stage.wait(1)


def _sigterm(stage: Stage) -> None:
    stage.wait(0.5)
    stage.begin("SIGTERM")
    stage.terminate()
    stage.say("the server has ended")


def _sigterm_while_frozen(stage: Stage) -> None:
    stage.wait(0.3)
    stage.begin("the broker is frozen")
    stage.kafka.pause(_NODE)
    stage.wait(0.1, at_least=0.5)
    stage.say("SIGTERM")
    stage.terminate()
    stage.kafka.resume(_NODE)
    stage.say("the server has ended, the broker goes on")


def _killed(stage: Stage) -> None:
    stage.wait(0.25)
    stage.begin("the broker is killed")
    stage.kafka.kill(_NODE)
    stage.wait(0.1)
    stage.say("the broker is started again")
    stage.kafka.start_node(_NODE)
    stage.end("the broker serves")
    stage.wait(0.4, at_least=_TO_COME_BACK)


def _frozen(stage: Stage) -> None:
    stage.wait(0.25)
    stage.begin("the broker is frozen")
    stage.kafka.pause(_NODE)
    stage.wait(0.35, at_least=_LONGER_THAN_THE_DEADLINE)
    stage.kafka.resume(_NODE)
    stage.end("the broker goes on")
    stage.wait(0.4, at_least=_TO_COME_BACK)


SCENARIOS: Sequence[Scenario] = (
    Scenario("steady", "nothing", _steady),
    Scenario(
        "hang-ups",
        "half of the clients close their connection within 100 ms, again and again",
        _steady,
        impatient=0.5,
    ),
    Scenario("sigterm", "SIGTERM under load", _sigterm, clicks=0.1, ends_server=True),
    Scenario(
        "sigterm-frozen",
        "SIGTERM while the broker is frozen (SIGSTOP)",
        _sigterm_while_frozen,
        clicks=0.1,
        ends_server=True,
    ),
    Scenario("killed", "kill -9 of the only broker, which is started again", _killed),
    Scenario("frozen", "the broker is frozen for longer than the requests' deadline", _frozen),
    Scenario(
        "buffer-full",
        "the same with buffers of 16 KiB, which hold fewer records than there are clients",
        _frozen,
        # At most a quarter of a second for space: more callers than the buffer holds come again.
        environ={"KAFKA_BUFFER_MEMORY": "16384", "KAFKA_MAX_BLOCK_MS": "250"},
    ),
)
