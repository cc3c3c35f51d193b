"""The options of a producer: defaults, conflicts as in Java 4.3, and where they are read from."""

from __future__ import annotations

import copy
import dataclasses
import logging
import pickle
import ssl
from typing import Any, cast, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioproducer.config import ProducerConfig, ProducerOptions
from aioproducer.errors import ConfigError, KafkaError

SERVERS = "a.example:9092,b.example:9092"


def config(**options: Any) -> ProducerConfig:
    """Make a config, also with options that the types forbid."""
    options.setdefault("bootstrap_servers", SERVERS)
    return ProducerConfig(**options)


def option_names() -> list[str]:
    return [
        field.name for field in dataclasses.fields(ProducerConfig) if not field.name.startswith("_")
    ]


# What an option is.


def test_the_defaults_are_those_we_promise() -> None:
    made = config()
    assert {name: getattr(made, name) for name in option_names()} == {
        "bootstrap_servers": ("a.example:9092", "b.example:9092"),
        "client_id": "aioproducer",
        "acks": -1,
        "enable_idempotence": True,
        "transactional_id": None,
        "transaction_timeout_ms": 60000,
        "linger_ms": 0,
        "batch_size": 1000000,
        "max_request_size": 4194304,
        "buffer_memory": 33554432,
        "max_block_ms": 60000,
        "fail_fast": False,
        "delivery_timeout_ms": 120000,
        "request_timeout_ms": 30000,
        "retries": 2147483647,
        "retry_backoff_ms": 100,
        "retry_backoff_max_ms": 1000,
        "reconnect_backoff_ms": 50,
        "reconnect_backoff_max_ms": 1000,
        "socket_connection_setup_timeout_ms": 10000,
        "socket_connection_setup_timeout_max_ms": 30000,
        "max_in_flight_requests_per_connection": 5,
        "compression_type": "none",
        "compression_gzip_level": -1,
        "compression_lz4_level": 9,
        "compression_zstd_level": 3,
        "send_buffer_bytes": -1,
        "receive_buffer_bytes": -1,
        "key_serializer": None,
        "value_serializer": None,
        "partitioner": None,
        "partitioner_ignore_keys": False,
        "partitioner_adaptive_partitioning_enable": True,
        "partitioner_availability_timeout_ms": 0,
        "metadata_max_age_ms": 300000,
        "metadata_max_idle_ms": 300000,
        "metadata_recovery_strategy": "rebootstrap",
        "metadata_recovery_rebootstrap_trigger_ms": 300000,
        "connections_max_idle_ms": 540000,
        "allow_auto_create_topics": True,
        "security_protocol": "PLAINTEXT",
        "ssl_context": None,
        "ssl_ca_location": None,
        "ssl_ca_pem": None,
        "ssl_certificate_location": None,
        "ssl_certificate_pem": None,
        "ssl_key_location": None,
        "ssl_key_pem": None,
        "ssl_key_password": None,
        "ssl_endpoint_identification_algorithm": "https",
        "sasl_mechanism": None,
        "sasl_username": None,
        "sasl_password": None,
        "sasl_oauth_token_provider": None,
        "sasl_oauthbearer_extensions": (),
        "sasl_oauthbearer_token_endpoint_url": None,
        "sasl_oauthbearer_client_credentials_client_id": None,
        "sasl_oauthbearer_client_credentials_client_secret": None,
        "sasl_oauthbearer_scope": None,
        "sasl_oauthbearer_header_urlencode": False,
        "sasl_oauthbearer_jwt_retriever_class": "client_credentials",
        "sasl_oauthbearer_assertion_algorithm": "RS256",
        "sasl_oauthbearer_assertion_claim_aud": None,
        "sasl_oauthbearer_assertion_claim_iss": None,
        "sasl_oauthbearer_assertion_claim_sub": None,
        "sasl_oauthbearer_assertion_claim_exp_seconds": 300,
        "sasl_oauthbearer_assertion_claim_nbf_seconds": 60,
        "sasl_oauthbearer_assertion_claim_jti_include": False,
        "sasl_oauthbearer_assertion_file": None,
        "sasl_oauthbearer_assertion_private_key_file": None,
        "sasl_oauthbearer_assertion_private_key_passphrase": None,
        "sasl_oauthbearer_assertion_template_file": None,
        "sasl_login_connect_timeout_ms": 10_000,
        "sasl_login_read_timeout_ms": 10_000,
        "sasl_login_retry_backoff_ms": 100,
        "sasl_login_retry_backoff_max_ms": 5_000,
        "sasl_login_refresh_window_factor": 0.8,
        "sasl_login_refresh_window_jitter": 0.05,
        "sasl_login_refresh_min_period_seconds": 60,
        "sasl_login_refresh_buffer_seconds": 300,
        "sasl_kerberos_service_name": "kafka",
        "sasl_kerberos_principal": None,
        "sasl_kerberos_keytab": None,
        "sasl_aws_region": None,
        "sasl_aws_profile": None,
        "close_timeout_ms": 25000,
        "on_error": None,
        "on_undelivered": None,
    }


def test_every_option_can_be_given_by_a_typed_keyword() -> None:
    assert ["bootstrap_servers", *get_type_hints(ProducerOptions)] == option_names()


def test_every_default_is_a_value_that_is_allowed() -> None:
    made = config()
    defaults = {name: getattr(made, name) for name in option_names()}
    assert config(**defaults) == made


def test_an_option_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config().acks = 1  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_bootstrap_servers_are_required() -> None:
    with pytest.raises(TypeError, match="bootstrap_servers"):
        ProducerConfig()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_an_unknown_option_is_named_with_the_closest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"lingerms: no such option\. Did you mean linger_ms\?"):
        config(lingerms=5)


def test_an_option_like_no_other_is_refused_without_a_guess() -> None:
    with pytest.raises(ConfigError, match=r"zzz: no such option\. ProducerConfig documents"):
        config(zzz=5)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("acks", 2),
        ("acks", "most"),
        ("acks", True),
        ("linger_ms", -1),
        ("batch_size", -1),
        ("max_request_size", 0),
        ("buffer_memory", 0),
        ("request_timeout_ms", 0),
        ("request_timeout_ms", 2**31),
        ("retries", -1),
        ("max_in_flight_requests_per_connection", 0),
        ("compression_type", "brotli"),
        ("compression_gzip_level", 0),
        ("compression_gzip_level", 10),
        ("compression_lz4_level", 18),
        ("compression_zstd_level", 23),
        ("send_buffer_bytes", -2),
        ("metadata_max_idle_ms", 4999),
        ("metadata_recovery_strategy", "hope"),
        ("value_serializer", "jsn"),
        ("partitioner", "murmur3"),
        ("security_protocol", "TLS"),
        ("client_id", None),
        ("on_error", "print"),
    ],
)
def test_an_impossible_value_is_refused_with_the_name_of_its_option(
    option: str, value: object
) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**{option: value})
    assert caught.value.option == option
    assert caught.value.value == value
    assert caught.value.allowed


def test_a_config_error_is_a_kafka_error_and_a_value_error() -> None:
    with pytest.raises(KafkaError):
        config(linger_ms=-1)
    with pytest.raises(ValueError, match="linger_ms"):
        config(linger_ms=-1)


@pytest.mark.parametrize(
    ("value", "read"), [("all", -1), ("ALL", -1), (-1, -1), ("-1", -1), ("1", 1), (0, 0), ("0", 0)]
)
def test_acks_has_one_form_however_it_is_written(value: object, read: int) -> None:
    assert config(acks=value).acks == read


def test_compression_none_is_the_name_or_the_value() -> None:
    assert config(compression_type=None).compression_type == "none"
    assert config(compression_type="LZ4").compression_type == "lz4"


@pytest.mark.parametrize(
    ("compression_type", "level"),
    [("none", None), ("snappy", None), ("gzip", -1), ("lz4", 9), ("zstd", 3)],
)
def test_the_compression_level_is_that_of_the_type_in_use(
    compression_type: str, level: int | None
) -> None:
    assert config(compression_type=compression_type).compression_level == level


def test_bootstrap_addresses_are_hosts_and_ports() -> None:
    made = config(bootstrap_servers=["a", "[::1]:9093"])
    assert made.bootstrap_addresses == (("a", 9092), ("::1", 9093))


# What options ask of each other.


@pytest.mark.parametrize(("option", "value"), [("acks", 1), ("acks", 0), ("retries", 0)])
def test_idempotence_asked_for_conflicts_with_what_excludes_it(option: str, value: int) -> None:
    with pytest.raises(ConfigError, match="enable_idempotence") as caught:
        config(enable_idempotence=True, **{option: value})
    assert (caught.value.option, caught.value.value) == (option, value)


@pytest.mark.parametrize(("option", "value"), [("acks", 1), ("acks", 0), ("retries", 0)])
def test_idempotence_not_asked_for_is_switched_off_with_one_line_in_the_log(
    option: str, value: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "aioproducer.config"):
        made = config(**{option: value})
    assert made.enable_idempotence is False
    assert caplog.messages == [f"Idempotence is switched off because {option} is {value}"]


@pytest.mark.parametrize(
    ("option", "value", "advice"),
    [
        ("acks", 1, "Leave acks at its default."),
        ("retries", 0, "Leave retries at its default."),
        ("max_in_flight_requests_per_connection", 6, "Lower it."),
    ],
)
def test_with_a_transactional_id_there_is_no_way_out_of_idempotence(
    option: str, value: int, advice: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config(transactional_id="transfers", **{option: value})
    assert (caught.value.option, caught.value.hint) == (option, advice)
    with pytest.raises(ConfigError) as caught:
        config(enable_idempotence=True, **{option: value})
    assert caught.value.hint == f"{advice.rstrip('.')}, or set enable_idempotence=False."


def test_six_requests_in_flight_conflict_with_idempotence() -> None:
    with pytest.raises(ConfigError, match=r"in_flight_requests_per_connection=6: .* at most 5"):
        config(max_in_flight_requests_per_connection=6)


def test_six_requests_in_flight_conflict_even_where_acks_switch_idempotence_off() -> None:
    with pytest.raises(ConfigError, match="in_flight"):
        config(max_in_flight_requests_per_connection=6, acks=1)


def test_without_idempotence_everything_goes(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aioproducer.config"):
        made = config(
            enable_idempotence=False, max_in_flight_requests_per_connection=6, acks=0, retries=0
        )
    assert not made.enable_idempotence
    assert not caplog.messages


def test_a_delivery_timeout_below_linger_and_request_timeout_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"delivery_timeout_ms=30004: .* is 5 \+ 30000"):
        config(delivery_timeout_ms=30_004, linger_ms=5)
    assert config(delivery_timeout_ms=30_005, linger_ms=5).delivery_timeout_ms == 30_005


def test_a_delivery_timeout_that_was_not_given_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    made = config(request_timeout_ms=200_000, linger_ms=0.5)
    assert made.delivery_timeout_ms == 200_001
    assert "raised" in caplog.text


def test_one_distant_bootstrap_server_is_worth_a_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "aioproducer.config"):
        config(bootstrap_servers="kafka.example")
    assert len(caplog.messages) == 1
    assert "kafka.example:9092" in caplog.text


@pytest.mark.parametrize(
    "servers", ["localhost", "kafka.localhost:1", "127.0.0.2:1", "[::1]:1", "a.example,b.example"]
)
def test_local_or_several_bootstrap_servers_are_not(
    servers: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "aioproducer.config"):
        config(bootstrap_servers=servers)
    assert not caplog.messages


# Where options come from.


def test_properties_have_javas_names_and_texts() -> None:
    made = ProducerConfig.from_properties(
        {
            "bootstrap.servers": SERVERS,
            "linger.ms": " 5 ",
            "enable.idempotence": "false",
            "max.in.flight.requests.per.connection": "6",
            "compression.type": "zstd",
            "partitioner.class": "org.apache.kafka.clients.producer.RoundRobinPartitioner",
            "key.serializer": "org.apache.kafka.common.serialization.StringSerializer",
            "value.serializer": "org.apache.kafka.common.serialization.ByteArraySerializer",
        }
    )
    assert made == config(
        linger_ms=5,
        enable_idempotence=False,
        max_in_flight_requests_per_connection=6,
        compression_type="zstd",
        partitioner="round_robin",
        key_serializer="string",
        value_serializer="bytes",
    )


def test_properties_may_have_our_names_and_real_values() -> None:
    made = ProducerConfig.from_properties(
        {"bootstrap_servers": ["a.example", "b.example"], "linger.ms": 5, "value_serializer": repr}
    )
    assert made == config(linger_ms=5, value_serializer=repr)


def test_an_unknown_property_is_named_with_the_closest_known_one() -> None:
    with pytest.raises(ConfigError, match=r"lingr\.ms: no such option\. Did you mean linger\.ms\?"):
        ProducerConfig.from_properties({"bootstrap.servers": SERVERS, "lingr.ms": "5"})


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ssl.provider", "no such option"),
    ],
)
def test_a_property_we_do_not_have_is_refused_without_its_value(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        ProducerConfig.from_properties({"bootstrap.servers": SERVERS, name: "secret"})
    assert "secret" not in str(caught.value)


def test_a_property_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"linger_ms: given twice"):
        ProducerConfig.from_properties(
            {"bootstrap.servers": SERVERS, "linger.ms": "5", "linger_ms": 5}
        )


def test_a_bad_property_is_named_as_it_was_written() -> None:
    with pytest.raises(ConfigError, match=r"linger\.ms='soon': not allowed"):
        ProducerConfig.from_properties({"bootstrap.servers": SERVERS, "linger.ms": "soon"})


def test_properties_without_servers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"bootstrap\.servers: not set"):
        ProducerConfig.from_properties({})


def test_environment_variables_are_options_in_upper_case() -> None:
    environ = {"KAFKA_BOOTSTRAP_SERVERS": SERVERS, "KAFKA_ACKS": "1", "KAFKA_LINGER_MS": "2.5"}
    assert ProducerConfig.from_env(environ=environ) == config(acks=1, linger_ms=2.5)


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKS_BOOTSTRAP_SERVERS", SERVERS)
    monkeypatch.setenv("CLICKS_CLIENT_ID", "shop")
    assert ProducerConfig.from_env("CLICKS_") == config(client_id="shop")


def test_variables_that_are_no_options_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    environ = {
        "KAFKA_BOOTSTRAP_SERVERS": SERVERS,
        "KAFKA_HOME": "/opt/kafka",
        "KAFKA_HEAP_OPTS": "-Xmx1g",
        "kafka_acks": "1",
        "KAFKA_acks": "1",
        "ACKS": "1",
    }
    assert ProducerConfig.from_env(environ=environ) == config()
    assert not [message for message in caplog.messages if "HOME" in message or "HEAP" in message]


def test_a_misspelt_variable_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    environ = {"KAFKA_BOOTSTRAP_SERVERS": SERVERS, "KAFKA_LINGERMS": "5"}
    assert ProducerConfig.from_env(environ=environ).linger_ms == 0
    assert caplog.messages == ["KAFKA_LINGERMS is no option; did you mean KAFKA_LINGER_MS?"]


@pytest.mark.parametrize(("text"), ["many", "-1", ""])
def test_a_bad_variable_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=f"KAFKA_RETRIES='{text}': not allowed"):
        ProducerConfig.from_env(environ={"KAFKA_BOOTSTRAP_SERVERS": SERVERS, "KAFKA_RETRIES": text})


def test_an_environment_without_servers_is_refused_by_the_name_of_the_variable() -> None:
    with pytest.raises(ConfigError, match="KAFKA_BOOTSTRAP_SERVERS: not set"):
        ProducerConfig.from_env(environ={})


@given(st.dictionaries(st.sampled_from(option_names()), st.text(max_size=20)))
def test_any_texts_give_a_config_or_a_config_error(texts: dict[str, str]) -> None:
    try:
        made = ProducerConfig.from_properties({"bootstrap_servers": "localhost"} | texts)
    except ConfigError:
        return
    assert made.replace() == made


def test_the_preset_for_page_clicks_never_waits_long() -> None:
    made = ProducerConfig.page_clicks(SERVERS)
    assert (made.acks, made.enable_idempotence) == (1, False)
    assert made.max_block_ms <= 1_000
    assert made.delivery_timeout_ms <= 10_000


def test_options_win_over_the_preset_for_page_clicks() -> None:
    made = ProducerConfig.page_clicks(SERVERS, acks=0, client_id="shop")
    assert (made.acks, made.client_id, made.compression_type) == (0, "shop", "lz4")


# A config as a value.


def test_replace_changes_what_is_given_and_nothing_else() -> None:
    made = config(linger_ms=5, client_id="shop")
    assert made.replace(linger_ms=7) == config(linger_ms=7, client_id="shop")
    assert made.linger_ms == 5


def test_replace_can_name_other_servers() -> None:
    assert config(acks=1).replace(bootstrap_servers="c,d") == config(
        bootstrap_servers="c,d", acks=1
    )


def test_replace_does_not_take_a_consequence_for_a_wish() -> None:
    switched_off = config(acks=1)
    assert switched_off.replace(acks="all").enable_idempotence is True
    raised = config(request_timeout_ms=200_000)
    assert raised.replace(request_timeout_ms=30_000).delivery_timeout_ms == 120_000


def test_replace_checks_as_well() -> None:
    with pytest.raises(ConfigError, match="linger_ms"):
        config().replace(linger_ms=-1)


def test_equal_options_make_equal_configs_however_they_were_given() -> None:
    one, other = config(acks="all"), config(bootstrap_servers=SERVERS.split(","))
    assert one == other
    assert hash(one) == hash(other)
    assert one != config(linger_ms=1)


def test_a_config_can_be_copied_and_pickled() -> None:
    made = config(acks=1, linger_ms=5)
    assert copy.deepcopy(made) == made
    assert cast("object", pickle.loads(pickle.dumps(made))) == made


def test_the_repr_shows_what_differs_from_the_defaults() -> None:
    assert repr(config(acks=1, retries=3)) == (
        f"ProducerConfig(bootstrap_servers='{SERVERS}', acks=1, enable_idempotence=False, "
        "retries=3)"
    )


def test_the_repr_shows_plugged_in_things_by_name_only() -> None:
    class Signing:
        def __init__(self) -> None:
            self.key = "secret"

        def __repr__(self) -> str:
            return self.key

        def serialize(self, topic: str, value: str, /) -> bytes:
            return b""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made = config(security_protocol="SSL", ssl_context=context, value_serializer=Signing())
    assert "secret" not in repr(made)
    assert "Signing>" in repr(made)
    assert "ssl_context=<SSLContext>" in repr(made)
