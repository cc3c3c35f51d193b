"""Programs of the model test: what a user, the brokers and the network do, step by step.

Values and the strategies that make them; player.py plays a program. A program prints as the
Python that makes it, so what hypothesis shows of a finding can be pasted into a test.

Steps do not wait: whatever they begin goes on while the next ones run, until `Turns` lets the
loop go round a few times, or `Wait` lets time pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any, Literal, TypeAlias, cast

from hypothesis import strategies as st

from aioproducer.config import CompressionType

__all__ = [
    "SEQUENCE_CODES",
    "AddPartitions",
    "Cancel",
    "CancelDelivery",
    "Close",
    "Cut",
    "CutNext",
    "Delay",
    "EditAnswer",
    "Fail",
    "FailSome",
    "Flush",
    "ForgetProducers",
    "Hang",
    "Health",
    "MoveLeader",
    "Program",
    "Recreate",
    "Refuse",
    "Release",
    "Send",
    "SendMany",
    "Setup",
    "StartBroker",
    "Step",
    "StopBroker",
    "Throttle",
    "Turns",
    "Wait",
    "programs",
]

FaultyApi: TypeAlias = Literal["produce", "metadata", "init_producer_id", "any"]

# Codes that a broker may send for records it has stored: a leader that lost its leadership, or
# its disk, while it waited for the replicas says so too (kafka.server.DelayedProduce).
STORED_CODES = (-1, 6, 7, 20, 46, 56, 999)
# Codes for records that it has not stored.
REFUSED_CODES = (-1, 2, 3, 5, 6, 7, 10, 13, 19, 29, 42, 44, 56, 74, 87, 89, 100, 103, 999)
# A broker that knows the producer says these only of numbers it never stored: of a first attempt.
SEQUENCE_CODES = (45, 47, 59)
METADATA_CODES = (-1, 3, 5, 17, 29, 129)
IDENTITY_CODES = (-1, 7, 14, 15, 16, 31, 41, 53)


class _Shown:
    """Prints as the Python that makes it, without what is at its default."""

    __slots__ = ()

    def __repr__(self) -> str:
        given = [
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(cast(Any, self))
            if getattr(self, each.name) != each.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"


# ---- the user's steps


@dataclass(frozen=True, slots=True, repr=False)
class Send(_Shown):
    """One record, by one of the ways to send one."""

    how: Literal["nowait", "send", "and_wait"] = "nowait"
    partition: int | None = 0
    key: int | None = None
    size: int = 0
    on_delivery: bool = False
    timeout: float | None = None
    timestamp_ms: int | None = None
    deadline: float | None = None


@dataclass(frozen=True, slots=True, repr=False)
class SendMany(_Shown):
    """Several records by `send_many`."""

    count: int = 2
    partition: int | None = 0
    size: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Cancel(_Shown):
    """Cancel a task that sends, waits or flushes; counted from the newest."""

    back: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class CancelDelivery(_Shown):
    """Cancel a delivery; counted from the newest."""

    back: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Flush(_Shown):
    """Begin to flush."""


@dataclass(frozen=True, slots=True, repr=False)
class Close(_Shown):
    """Begin to close; the steps behind it go on."""

    timeout: float | None = None


# ---- time


@dataclass(frozen=True, slots=True, repr=False)
class Turns(_Shown):
    """Let the loop go round."""

    count: int = 1


@dataclass(frozen=True, slots=True, repr=False)
class Wait(_Shown):
    """Let time pass."""

    seconds: float = 0.001


# ---- what goes wrong


@dataclass(frozen=True, slots=True, repr=False)
class Fail(_Shown):
    """Answer the next requests with an error."""

    api: FaultyApi = "produce"
    code: int = 6
    count: int = 1
    stored: bool = False
    partition: int | None = None


@dataclass(frozen=True, slots=True, repr=False)
class FailSome(_Shown):
    """Answer some of the next Produce requests with an error: bit n of `which` for the n-th."""

    code: int = 7
    stored: bool = False
    which: int = 2


@dataclass(frozen=True, slots=True, repr=False)
class CutNext(_Shown):
    """Reset the connection instead of answering."""

    api: FaultyApi = "produce"
    when: Literal["before", "after"] = "before"
    count: int = 1


@dataclass(frozen=True, slots=True, repr=False)
class Cut(_Shown):
    """Reset all connections of a broker now."""

    node: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Hang(_Shown):
    """Do not answer."""

    api: FaultyApi = "produce"
    count: int = 1
    stored: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Release(_Shown):
    """Let go on what hangs."""


@dataclass(frozen=True, slots=True, repr=False)
class Delay(_Shown):
    """Answer late."""

    api: FaultyApi = "produce"
    seconds: float = 0.05
    when: Literal["before", "after"] = "after"
    count: int = 1


@dataclass(frozen=True, slots=True, repr=False)
class EditAnswer(_Shown):
    """Leave the first partition out of a response to Produce, or answer for it twice."""

    how: Literal["leave_out", "twice"] = "leave_out"
    count: int = 1


@dataclass(frozen=True, slots=True, repr=False)
class Throttle(_Shown):
    """Tell a throttle time from now on."""

    ms: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class MoveLeader(_Shown):
    """Another broker leads a partition; -1: none does."""

    partition: int = 0
    node: int = 1


@dataclass(frozen=True, slots=True, repr=False)
class StopBroker(_Shown):
    """Kill a broker."""

    node: int = 0
    move_leaders: bool = True


@dataclass(frozen=True, slots=True, repr=False)
class StartBroker(_Shown):
    """Start a broker again."""

    node: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Refuse(_Shown):
    """Refuse new connections to a broker."""

    node: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class AddPartitions(_Shown):
    """Give the topic one more partition."""


@dataclass(frozen=True, slots=True, repr=False)
class Recreate(_Shown):
    """Delete the topic and make it again."""

    partitions: int = 2


@dataclass(frozen=True, slots=True, repr=False)
class ForgetProducers(_Shown):
    """Have the brokers forget the sequences of a partition."""

    partition: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Health(_Shown):
    """End all faults ordered so far; brokers that are down stay down."""


Step: TypeAlias = (
    Send
    | SendMany
    | Cancel
    | CancelDelivery
    | Flush
    | Close
    | Turns
    | Wait
    | Fail
    | FailSome
    | CutNext
    | Cut
    | Hang
    | Release
    | Delay
    | EditAnswer
    | Throttle
    | MoveLeader
    | StopBroker
    | StartBroker
    | Refuse
    | AddPartitions
    | Recreate
    | ForgetProducers
    | Health
)


@dataclass(frozen=True, slots=True, repr=False)
class Setup(_Shown):
    """The producer's options and the cluster."""

    acks: Literal["all", 1, 0] = "all"
    idempotence: bool = True
    linger_ms: int = 0
    batch_size: int = 1_000_000
    buffer_memory: int = 33_554_432
    max_in_flight: int = 5
    compression: CompressionType = "none"
    retries: int = 2**31 - 1
    delivery_timeout_ms: int = 5_000
    request_timeout_ms: int = 2_000
    max_block_ms: int = 2_000
    brokers: int = 2
    partitions: int = 2
    topic_exists: bool = True
    produce_version: int = 13


@dataclass(frozen=True, slots=True, repr=False)
class Program(_Shown):
    """What happens, and how it ends."""

    setup: Setup = Setup()
    steps: tuple[Step, ...] = ()
    heal: bool = True
    """Whether all faults end before the producer is closed."""
    close_timeout: float | None = None


# ---- strategies


def _any(kind: Callable[..., Step], **choices: Sequence[object]) -> st.SearchStrategy[Step]:
    """Any step of a kind, by one draw: there are many steps, and draws take most of the time.

    The first choices are the simplest; what is to come more often stands there more often.
    """
    names = tuple(choices)
    return st.sampled_from(
        [kind(**dict(zip(names, values, strict=True))) for values in product(*choices.values())]
    )


_NODES = (0, 1)
_SECONDS = (0.001, 0.003, 0.01, 0.1, 0.5, 1.0, 2.5, 6.0)
_SIZES = (0, 0, 10, 100, 300)
_COUNTS = (1, 1, 1, 2, 3, 6)
_ENDS = (None, None, 0, 0.01, 1.0)
_DEADLINES = (0.001, 0.01, 0.1, 0.5, 2.5)
_WHEN = ("before", "after")
_APIS = ("produce", "metadata", "init_producer_id", "any")
_PARTITIONS = (None, None, 0, 1)

_sends = (
    _any(
        Send,
        how=("nowait", "nowait", "send"),
        partition=(0, 0, 0, 1, None),
        size=_SIZES,
        on_delivery=(False, True),
        key=(None, 1, 2),
        timestamp_ms=(None, 1_000, 1_700_000_000_000),
    )
    | _any(
        Send,
        how=("and_wait",),
        partition=(0, 0, 0, 1, None),
        size=_SIZES,
        timeout=(None, None, 0.001, 1.0),
        deadline=(None, None, *_DEADLINES),
    )
    | _any(
        Send,
        how=("nowait", "send"),
        partition=(0, 0, 0, 1, None),
        size=_SIZES,
        on_delivery=(False, True),
        deadline=_DEADLINES,
    )
)
_many = _any(SendMany, count=range(1, 13), partition=(0, 0, 0, 1, None), size=_SIZES)
_time = _any(Turns, count=range(1, 5)) | _any(Wait, seconds=_SECONDS)
_refused = _any(Fail, code=REFUSED_CODES, count=_COUNTS, partition=_PARTITIONS)
_stored = _any(Fail, code=STORED_CODES, count=_COUNTS, partition=_PARTITIONS, stored=(True,))
_some_refused = _any(FailSome, code=REFUSED_CODES, which=range(1, 64))
_some_stored = _any(FailSome, code=STORED_CODES, which=range(1, 64), stored=(True,))
_lies = _any(Fail, code=SEQUENCE_CODES, count=_COUNTS, partition=_PARTITIONS)
_cancels = _any(Cancel, back=range(4)) | _any(CancelDelivery, back=range(4))
_start = _any(StartBroker, node=_NODES)
_release = _any(Release)

# What may go wrong in a program: a few kinds in each, or little would ever be stored.
_kinds: tuple[st.SearchStrategy[Step], ...] = (
    _refused,
    _refused,
    _lies,
    _stored,
    _some_stored,
    _some_refused,
    _some_stored,
    _some_refused,
    _any(Fail, api=("metadata",), code=METADATA_CODES, count=_COUNTS),
    _any(Fail, api=("init_producer_id",), code=IDENTITY_CODES, count=_COUNTS),
    _any(CutNext, api=_APIS, when=_WHEN, count=_COUNTS),
    _any(CutNext, when=_WHEN, count=_COUNTS),
    _any(Cut, node=_NODES),
    _any(Hang, api=_APIS, count=_COUNTS, stored=(False, True)) | _release,
    _any(Hang, count=_COUNTS, stored=(False, True)) | _release,
    _any(Delay, api=_APIS, seconds=_SECONDS, when=_WHEN, count=_COUNTS),
    _any(Delay, seconds=_SECONDS, when=_WHEN, count=_COUNTS),
    _any(EditAnswer, how=("leave_out", "twice"), count=_COUNTS),
    _any(Throttle, ms=(0, 1, 100, 3_000)),
    _any(MoveLeader, partition=(0, 1), node=(1, 1, 0, 0, -1)),
    _any(StopBroker, node=_NODES, move_leaders=(True, False)) | _start,
    _any(Refuse, node=_NODES) | _start,
    _any(AddPartitions),
    _any(Recreate, partitions=(1, 2, 3)),
    _any(ForgetProducers, partition=(0, 1)),
    _any(Health),
    _cancels,
    _cancels,
    _any(Flush),
    _any(Close, timeout=_ENDS),
)
_kind_numbers = st.lists(st.integers(0, len(_kinds) - 1), min_size=2, max_size=6, unique=True)
_bursts = st.lists(_sends, min_size=1, max_size=8)


@st.composite
def _steps(draw: st.DrawFn) -> tuple[Step, ...]:
    faults = [_kinds[kind] for kind in draw(_kind_numbers)]
    step: st.SearchStrategy[Step] = st.one_of(_sends, _many, _time, _time, *faults)
    one = st.lists(step, min_size=1, max_size=1)
    # A list of lists: hypothesis makes both short, and takes whole ones out as it shrinks.
    parts: list[list[Step]] = draw(
        st.lists(st.one_of(one, one, _bursts, st.lists(step, max_size=12)), min_size=3, max_size=16)
    )
    return tuple(step for part in parts for step in part)


@st.composite
def _setups(draw: Callable[[st.SearchStrategy[object]], object]) -> Setup:
    def pick(*values: object) -> object:
        return draw(st.sampled_from(values))

    acks = pick("all", "all", "all", "all", "all", "all", 1, 0)
    return Setup(
        acks=acks,  # type: ignore[arg-type]
        idempotence=acks == "all" and pick(True, True, True, True, False) is True,
        linger_ms=pick(0, 0, 5, 200),  # type: ignore[arg-type]
        batch_size=pick(1_000_000, 0, 0, 0, 200, 1_000),  # type: ignore[arg-type]
        buffer_memory=pick(33_554_432, 33_554_432, 1_000, 400),  # type: ignore[arg-type]
        max_in_flight=pick(5, 5, 1, 2, 3),  # type: ignore[arg-type]
        compression=pick("none", "none", "lz4"),  # type: ignore[arg-type]
        retries=pick(2**31 - 1, 2**31 - 1, 1, 3),  # type: ignore[arg-type]
        delivery_timeout_ms=pick(5_000, 2_200, 60_000),  # type: ignore[arg-type]
        request_timeout_ms=pick(2_000, 500, 50),  # type: ignore[arg-type]
        max_block_ms=pick(2_000, 50, 60_000),  # type: ignore[arg-type]
        brokers=pick(2, 1),  # type: ignore[arg-type]
        partitions=pick(2, 1),  # type: ignore[arg-type]
        topic_exists=pick(True, True, True, False) is True,
        produce_version=pick(13, 13, 12, 8),  # type: ignore[arg-type]
    )


def programs() -> st.SearchStrategy[Program]:
    """Any program."""
    return st.builds(
        Program,
        setup=_setups(),
        steps=_steps(),
        heal=st.sampled_from((True, True, True, False)),
        close_timeout=st.sampled_from(_ENDS),
    )
