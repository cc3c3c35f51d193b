"""kafka-python, an independent implementation to compare with; it ships no types."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

__all__ = ["partitioner", "records", "structs"]

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what kafka-python imports is not ours to mend
    records: Any = importlib.import_module("kafka.record.default_records")
    structs: Any = importlib.import_module("kafka.structs")
    partitioner: Any = importlib.import_module("kafka.partitioner.default")
