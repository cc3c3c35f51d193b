import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Generic, overload

from aioproducer._native.accumulator import RecordAccumulator
from aioproducer._native.record_batch import Delivery
from aioproducer._native.serializer_call import SerializerCall
from aioproducer.hooks import OnDelivery
from aioproducer.records import (
    Headers,
    K,
    ProducerRecord,
    RecordMetadata,
    TopicK,
    TopicV,
    TypedTopic,
    V,
)

class SendPath(Generic[K, V]):
    def _open_path(
        self,
        accumulator: RecordAccumulator,
        serialize_key: SerializerCall | None,
        serialize_value: SerializerCall | None,
        fails_fast: bool,
        is_transactional: bool = False,
    ) -> None: ...
    def _note_given(self, note: Callable[[Any, Any], tuple[Any, Any]]) -> None: ...
    def _close_path(self) -> None: ...
    def _accept_many(
        self,
        topic: str | TypedTopic[Any, Any],
        values: list[Any],
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
        topic: TypedTopic[TopicK, TopicV],
        value: TopicV | None = None,
        *,
        key: TopicK | None = None,
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
        topic: TypedTopic[TopicK, TopicV],
        value: TopicV | None = None,
        *,
        key: TopicK | None = None,
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
        topic: TypedTopic[TopicK, TopicV],
        value: TopicV | None = None,
        *,
        key: TopicK | None = None,
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

class HandedOver:
    @property
    def _path(self) -> Any: ...
    @property
    def _topic(self) -> str: ...
    @property
    def _is_done(self) -> bool: ...
    @property
    def _is_awaited(self) -> bool: ...
    def _begin_awaited(self) -> bool: ...
    def _withdraw(self) -> bool: ...
    @property
    def _is_withdrawn(self) -> bool: ...
    @property
    def _deadline(self) -> tuple[float, float] | None: ...
    def _refusal(self) -> Exception | None: ...
    def _failure(self) -> Exception | None: ...
    def _metadata(self) -> RecordMetadata: ...
    def _give_up(self, error: Exception) -> bool: ...

class ThreadPath(Generic[K, V]):
    def __init__(self, path: SendPath[K, V], future_type: type[HandedOver]) -> None: ...
    @property
    def _is_open(self) -> bool: ...
    @property
    def _thread_id(self) -> int: ...
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
        deadline: float | None = None,
    ) -> Future[RecordMetadata]: ...
    @overload
    def send(
        self,
        topic: TypedTopic[TopicK, TopicV],
        value: TopicV | None = None,
        *,
        key: TopicK | None = None,
        partition: int | None = None,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
        deadline: float | None = None,
    ) -> Future[RecordMetadata]: ...
    @overload
    def send(
        self, topic: ProducerRecord[K, V], *, deadline: float | None = None
    ) -> Future[RecordMetadata]: ...
    def _hand_over_waiting(self, future: HandedOver, admission: threading.Event) -> None: ...
    def _wake_again(self) -> None: ...
    @property
    def _has_handed_over(self) -> bool: ...
    def _take_all(self) -> None: ...
    def _drain(self) -> None: ...
    def _admit(self, future: HandedOver) -> Delivery | None: ...
    def _leave_line(self, future: HandedOver) -> None: ...
    def _reject(self, future: HandedOver, error: Exception) -> None: ...
