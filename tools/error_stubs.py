"""Writes the types of the classes that errors/broker.py makes: `python -m tools.error_stubs`."""

from __future__ import annotations

from pathlib import Path

from aioproducer import errors
from aioproducer.errors import KafkaError, broker

# Beside the module that is imported: in the test of the wheel, what the wheel has.
STUB = Path(errors.__file__).with_name("broker.pyi")

_HEAD = '''\
"""The classes of broker.py; made from its table by `python -m tools.error_stubs`."""

from typing import Unpack

from aioproducer.errors.base import ErrorContext, KafkaError
from aioproducer.errors.client import AuthenticationError, RecordTooLargeError

__all__ = [
'''
_FUNCTIONS = """\
]

def error_for_code(code: int) -> type[KafkaError]: ...
def broker_error(
    code: int, message: str | None = None, **context: Unpack[ErrorContext]
) -> KafkaError: ...
"""


def error_stubs() -> str:
    """Return the text of broker.pyi: each class with its base and its meaning, in Kafka's order."""
    # As ruff sorts `__all__`: classes before functions.
    exported = sorted(broker.__all__, key=lambda name: (name[0].islower(), name))
    names = "".join(f'    "{name}",\n' for name in exported)
    found: list[object] = [getattr(broker, name) for name in broker.__all__]
    classes = [_stub(one) for one in found if isinstance(one, type) and issubclass(one, KafkaError)]
    return _HEAD + names + _FUNCTIONS + "".join(classes)


def _stub(cls: type[KafkaError]) -> str:
    return f'\nclass {cls.__name__}({cls.__mro__[1].__name__}):\n    """{cls.description}"""\n'


if __name__ == "__main__":
    STUB.write_text(error_stubs())
