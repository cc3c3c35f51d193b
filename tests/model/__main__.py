"""`python -m tests.model --minutes 5`: the model test, with programs never seen before.

Called by `make soak`. Ends with 1 as soon as a program breaks a promise, and shows the shortest
one that does.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.model.player import play
from tests.model.program import Program, programs
from tests.model.promises import broken_promises

_ROUND = 1_000
"""Programs of one seed: hypothesis learns nothing from one round to the next."""
_PROGRESS = 10.0


class _Progress:
    def __init__(self) -> None:
        self.count = 0
        self._started = self._shown = time.monotonic()

    def one_more(self) -> None:
        self.count += 1
        now = time.monotonic()
        if now - self._shown >= _PROGRESS:
            self._shown = now
            self.tell()

    def tell(self) -> None:
        seconds = time.monotonic() - self._started
        print(f"{self.count} programs, {self.count / seconds:.0f}/s", flush=True)


def main() -> int:
    """Run programs; return 1 if one of them broke a promise."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, help="begin with this seed, to run the same again")
    arguments = parser.parse_args()
    ends_at = time.monotonic() + arguments.minutes * 60
    number: int = random.SystemRandom().randrange(2**32)
    if arguments.seed is not None:
        number = arguments.seed
    progress = _Progress()
    while time.monotonic() < ends_at:
        try:
            _round(number, progress, ends_at)
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):
                print(f"seed {number}: {error}", *error.__notes__, sep="\n", flush=True)
            progress.tell()
            return 1
        number += 1
    progress.tell()
    print("every program kept the promises")
    return 0


def _round(number: int, progress: _Progress, ends_at: float) -> None:
    found = False

    @seed(number)
    @settings(
        max_examples=_ROUND,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        phases=(Phase.generate, Phase.shrink),
    )
    @given(program=programs())
    def keeps_the_promises(program: Program) -> None:
        nonlocal found
        if not found and time.monotonic() > ends_at:
            return
        progress.one_more()
        broken = broken_promises(play(program))
        found = found or bool(broken)
        assert not broken, "\n".join(broken)

    keeps_the_promises()


if __name__ == "__main__":
    sys.exit(main())
