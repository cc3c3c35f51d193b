"""What may go wrong with a request, and the list of what shall. No I/O, no clock.

FakeCluster's fault methods and a test's own `on_request` functions make actions; `broker.py` asks
`FaultPlan.for_request` once per request, when its turn on the connection has come, and does what
the `Treatment` says. A rule is used up by the requests it was applied to, never by those it
merely matched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from aioproducer.testing.observed import ApiName, FakeRequest

__all__ = [
    "Action",
    "Cut",
    "Delay",
    "Edit",
    "Fail",
    "FakeResponse",
    "FaultPlan",
    "Hang",
    "Hook",
    "Mutate",
    "Rule",
    "Treatment",
]


@dataclass(frozen=True, slots=True)
class Fail:
    """Respond with an error code."""

    code: int
    stored: bool = False
    """Whether the request is carried out first (Produce, and what changes a transaction)."""
    message: str | None = None
    topic: str | None = None
    partition: int | None = None
    record_errors: Mapping[int, str | None] = field(default_factory=dict[int, str | None])
    """By index in the batch, what is wrong with single records (KIP-467)."""
    current_leader: tuple[int, int] | None = None
    """The leader's id and epoch to claim in the response (KIP-951); None for the true ones."""

    def concerns(self, topic: str | None, partition: int | None = None) -> bool:
        """Return whether a topic, or a partition of it, gets the error."""
        return self.topic in (None, topic) and self.partition in (None, partition)


@dataclass(frozen=True, slots=True)
class Cut:
    """Reset the connection instead of responding."""

    when: Literal["before", "after"] = "before"
    """Before the request is carried out, or after."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Take the request and do not respond until `FakeCluster.release`.

    Requests behind it on the same connection wait too, as they do at a broker.
    """

    stored: bool = False
    """Whether the request is carried out at once; else it is when released."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Respond late. Requests behind it on the same connection wait too."""

    seconds: float
    when: Literal["before", "after"] = "after"
    """Whether the request is carried out after the delay or before it."""


@dataclass(frozen=True, slots=True)
class Edit:
    """Change the response before it is encoded; `edit` gets the API's, e.g. ProduceResponse."""

    edit: Callable[[object], object]


@dataclass(frozen=True, slots=True)
class Mutate:
    """Change the bytes of the response.

    `mutate` gets what follows the 4-byte size: correlation id and all. What it returns is sent
    with a size that fits. With `framed`, it gets and returns the size as well.
    """

    mutate: Callable[[bytes], bytes]
    framed: bool = False


@dataclass(frozen=True, slots=True)
class FakeResponse:
    """Respond with these bytes in place of the API's own; the request is not carried out.

    The bytes are the response's body; correlation id and size are put before them.
    """

    body: bytes


Action: TypeAlias = Fail | Cut | Hang | Delay | Edit | Mutate | FakeResponse
"""What an `on_request` function may return."""

Hook: TypeAlias = Callable[[FakeRequest], Action | None]
"""Called with each request when its turn has come; returns what to do with it, or None."""


@dataclass(slots=True)
class Rule:
    """An action for the requests that match, as long as `left` is not 0; None for ever."""

    api: ApiName | Literal["any"]
    action: Action
    left: int | None = 1
    node_id: int | None = None
    topic: str | None = None
    partition: int | None = None

    def matches(self, request: FakeRequest) -> bool:
        """Return whether the rule is about this request."""
        return (
            self.api in ("any", request.api)
            and self.node_id in (None, request.node_id)
            and request.concerns(self.topic, self.partition)
        )


@dataclass(slots=True)
class Treatment:
    """All that is to be done to one request."""

    delay_before: float = 0.0
    delay_after: float = 0.0
    failures: list[Fail] = field(default_factory=list[Fail])
    cut: Cut | None = None
    hang: Hang | None = None
    response: FakeResponse | None = None
    edits: list[Edit] = field(default_factory=list[Edit])
    mutations: list[Mutate] = field(default_factory=list[Mutate])

    def take(self, action: Action) -> bool:
        """Add an action; return False if it excludes what is there already."""
        match action:
            case Delay(seconds=seconds, when="before"):
                self.delay_before += seconds
            case Delay(seconds=seconds):
                self.delay_after += seconds
            case Edit():
                self.edits.append(action)
            case Mutate():
                self.mutations.append(action)
            case Fail() if not self._ends and self._beside(action):
                self.failures.append(action)
            case Cut() if not self._ends and not self.failures:
                self.cut = action
            case Hang() if not self._ends and not self.failures:
                self.hang = action
            case FakeResponse() if not self._ends and not self.failures:
                self.response = action
            case _:
                return False
        return True

    @property
    def _ends(self) -> bool:
        return not (self.cut is None and self.hang is None and self.response is None)

    def _beside(self, new: Fail) -> bool:
        """Return whether `new` is about another partition than each failure so far."""
        return all(
            None not in (new.partition, old.partition)
            and (new.topic, new.partition) != (old.topic, old.partition)
            for old in self.failures
        )


class FaultPlan:
    """The rules in the order in which they were made, and the functions that see each request."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []
        self._hooks: list[Hook] = []

    def add(self, rule: Rule) -> None:
        """Add a rule behind the others."""
        if rule.left is not None and rule.left < 1:
            raise ValueError(f"count must be at least 1, or None for ever; {rule.left} is not")
        self._rules.append(rule)

    def add_hook(self, hook: Hook) -> Callable[[], None]:
        """Add a function that sees each request; return one that removes it."""
        self._hooks.append(hook)

        def remove() -> None:
            if hook in self._hooks:
                self._hooks.remove(hook)

        return remove

    def remove_hangs(self) -> None:
        """Remove the rules that make requests hang."""
        self._rules = [rule for rule in self._rules if not isinstance(rule.action, Hang)]

    def clear(self) -> None:
        """Remove all rules; the functions stay."""
        self._rules.clear()

    def clear_all(self) -> None:
        """Remove all rules and all functions."""
        self._rules.clear()
        self._hooks.clear()

    def for_request(self, request: FakeRequest) -> Treatment:
        """Return what is to be done to a request, and count it."""
        treatment = Treatment()
        for hook in tuple(self._hooks):
            action = hook(request)
            if action is not None and not treatment.take(action):
                raise ValueError(f"two on_request functions disagree: {action!r} comes too late")
        for rule in self._rules:
            if rule.matches(request) and treatment.take(rule.action) and rule.left is not None:
                rule.left -= 1
        self._rules = [rule for rule in self._rules if rule.left != 0]
        return treatment
