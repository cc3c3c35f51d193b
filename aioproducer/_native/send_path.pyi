from collections.abc import Callable, Coroutine
from typing import Any, Generic, overload

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.record_batch import Delivery
from aioproducer.hooks import OnDelivery
from aioproducer.records import Headers, K, ProducerRecord, RecordMetadata, V

class SendPath(Generic[K, V]):
    def _open_path(
        self,
        accumulator: RecordAccumulator,
        serialize_key: Callable[[str, Any], bytes | bytearray | memoryview] | None,
        serialize_value: Callable[[str, Any], bytes | bytearray | memoryview] | None,
        fails_fast: bool,
    ) -> None: ...
    def _close_path(self) -> None: ...
    def _accept_many(
        self,
        topic: str,
        values: list[V | ProducerRecord[K, V]],
        start: int,
        deliveries: list[Delivery],
        deadline: float | None = None,
    ) -> int: ...
    @overload
    def send(
        self,
        topic: str,
        value: V | None = None,
        *,
        key: K | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
        on_delivery: OnDelivery | None = None,
        deadline: float | None = None,
    ) -> Coroutine[Any, Any, Delivery]: ...
    @overload
    def send(
        self,
        topic: ProducerRecord[K, V],
        *,
        on_delivery: OnDelivery | None = None,
        deadline: float | None = None,
    ) -> Coroutine[Any, Any, Delivery]: ...
    @overload
    def send_nowait(
        self,
        topic: str,
        value: V | None = None,
        *,
        key: K | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
        on_delivery: OnDelivery | None = None,
        deadline: float | None = None,
    ) -> Delivery: ...
    @overload
    def send_nowait(
        self,
        topic: ProducerRecord[K, V],
        *,
        on_delivery: OnDelivery | None = None,
        deadline: float | None = None,
    ) -> Delivery: ...
    @overload
    def send_and_wait(
        self,
        topic: str,
        value: V | None = None,
        *,
        key: K | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> Coroutine[Any, Any, RecordMetadata]: ...
    @overload
    def send_and_wait(
        self,
        topic: ProducerRecord[K, V],
        *,
        timeout: float | None = None,
        deadline: float | None = None,
    ) -> Coroutine[Any, Any, RecordMetadata]: ...
