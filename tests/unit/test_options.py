"""One option's rule: the values it takes, the texts it reads, the errors it makes."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioproducer.errors import ConfigError
from aioproducer.options import (
    INT32_MAX,
    Rule,
    choice,
    file_path,
    flag,
    function,
    header_text,
    number,
    secret,
    servers,
    split_host_port,
    tls_settings,
    whole_number,
)


def refused(rule: Rule, value: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        rule.check("some_option", value)
    return caught.value


def test_an_error_names_option_value_and_what_is_allowed() -> None:
    error = refused(whole_number(1, 9, unit="bytes"), 10)
    assert error.option == "some_option"
    assert error.value == 10
    assert (
        str(error) == "some_option=10: not allowed; allowed: a whole number of bytes from 1 to 9."
    )


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 0, 10, -2])
def test_a_whole_number_is_an_int_within_its_bounds(value: object) -> None:
    refused(whole_number(1, 9), value)


def test_a_whole_number_may_have_special_values_outside_its_bounds() -> None:
    rule = whole_number(1, 9, special={-1: "the default"})
    assert [rule.check("x", value) for value in (-1, 1, 9)] == [-1, 1, 9]
    assert rule.allowed == "a whole number from 1 to 9, or -1 for the default"


def test_a_path_is_no_text_in_pem_and_that_is_not_shown() -> None:
    rule = file_path()
    assert (rule.check("x", None), rule.check("x", "/a@b.pem")) == (None, "/a@b.pem")
    for value in ("", "/a\0b", 1):
        refused(rule, value)
    error = refused(rule, "-----BEGIN PRIVATE KEY-----\nabc")
    assert error.value == "<hidden>"
    assert "abc" not in str(error)


def test_spaces_around_a_text_count_only_in_a_secret() -> None:
    assert file_path().parse("x", " /a b \n") == "/a b"
    assert secret("a password").parse("x", " a b \r\n") == " a b "


def test_a_whole_number_is_read_from_text() -> None:
    assert whole_number(0).parse("x", "12") == 12
    for text in ("", "many", "1.5"):
        with pytest.raises(ConfigError, match=r"x='.*': not allowed"):
            whole_number(0).parse("x", text)


def test_a_text_out_of_bounds_is_refused_as_it_was_written() -> None:
    with pytest.raises(ConfigError, match="KAFKA_X='99': not allowed"):
        whole_number(0, 9).parse("KAFKA_X", "99")


@pytest.mark.parametrize(
    "value", [-0.1, float("nan"), float("inf"), INT32_MAX + 1, True, "1", None]
)
def test_a_number_is_finite_and_not_below_its_bound(value: object) -> None:
    refused(number(0, unit="milliseconds"), value)


def test_a_number_may_have_a_fraction() -> None:
    rule = number(0, unit="milliseconds")
    assert (rule.check("x", 0.5), rule.parse("x", "0.5"), rule.check("x", 3)) == (0.5, 0.5, 3)


@pytest.mark.parametrize("value", ["true", 1, 0, None])
def test_a_flag_is_a_bool(value: object) -> None:
    refused(flag(), value)


def test_a_flag_is_read_in_any_case() -> None:
    assert flag().parse("x", "True") is True
    assert flag().parse("x", "FALSE") is False
    with pytest.raises(ConfigError, match="x='yes'"):
        flag().parse("x", "yes")


def test_a_choice_takes_texts_in_any_case_and_gives_its_own_spelling() -> None:
    assert choice("PLAINTEXT", "SSL").check("x", "ssl") == "SSL"


def test_a_choice_takes_aliases_for_what_they_stand_for() -> None:
    rule = choice("none", aliases={None: "none", 0: "none"})
    assert [rule.check("x", value) for value in (None, 0, "NONE")] == ["none"] * 3


@pytest.mark.parametrize("value", ["c", True, False, 1.0, b"a", ["a"]])
def test_a_choice_refuses_everything_else(value: object) -> None:
    error = refused(choice("a", "b", aliases={0: "a", 1: "b"}), value)
    assert error.allowed == "'a', 'b'"


def test_a_choice_may_be_none_where_it_is_optional() -> None:
    assert choice("a", is_optional=True).check("n", None) is None


@pytest.mark.parametrize("value", [None, 3, "two\nlines", "\r", "\ud800", "\N{EURO SIGN}" * 10_923])
def test_a_header_text_is_one_line_that_fits_its_length(value: object) -> None:
    refused(header_text(), value)


def test_a_header_text_may_be_empty_or_long() -> None:
    assert header_text().check("x", "") == ""
    assert header_text().check("x", "a" * 32_767) == "a" * 32_767


def test_a_function_may_be_none_a_name_or_callable() -> None:
    rule = function("a function", {"ready": "ready", "java.Ready": "ready"})
    assert [rule.check("x", value) for value in (None, "java.Ready", len)] == [None, "ready", len]
    assert rule.allowed == "None, 'ready', or a function"


class WithMethod:
    def serialize(self) -> None: ...


def test_a_function_may_be_an_object_with_a_method() -> None:
    plugged = WithMethod()
    assert function("f", method="serialize").check("x", plugged) is plugged


def test_a_class_in_place_of_its_instance_is_refused_with_what_to_write() -> None:
    assert refused(function("f", method="serialize"), WithMethod).hint == (
        "Pass an instance: WithMethod(...)."
    )


async def a_coroutine_function() -> None: ...


class WithCoroutineFunction:
    async def __call__(self) -> None: ...

    async def serialize(self) -> None: ...


@pytest.mark.parametrize("value", ["unknown", 3, a_coroutine_function, WithCoroutineFunction()])
def test_what_cannot_be_called_without_await_is_no_function(value: object) -> None:
    refused(function("f"), value)
    refused(function("f", method="serialize"), value)


@pytest.mark.parametrize("value", [a_coroutine_function, WithCoroutineFunction()])
def test_a_function_that_is_awaited_may_be_a_coroutine_function(value: object) -> None:
    assert function("f", is_awaited=True).check("x", value) is value


def test_tls_settings_are_a_context_and_have_no_text_form() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    assert tls_settings().check("x", context) is context
    assert tls_settings().check("x", None) is None
    refused(tls_settings(), True)
    with pytest.raises(ConfigError, match="set it in code"):
        tls_settings().parse("x", "ca.pem")


@pytest.mark.parametrize(
    ("value", "normal"),
    [
        ("kafka", ("kafka:9092",)),
        ("a:1,b:2", ("a:1", "b:2")),
        (" a:1 , ,b , ", ("a:1", "b:9092")),
        (["a:01", "a:1"], ("a:1",)),
        (("10.0.0.1", "host_1.example.org.:65535"), ("10.0.0.1:9092", "host_1.example.org.:65535")),
        ("[::1],[fe80::1%eth0]:9093", ("[::1]:9092", "[fe80::1%eth0]:9093")),
    ],
)
def test_servers_have_one_normal_form(value: object, normal: tuple[str, ...]) -> None:
    assert servers().check("x", value) == normal


@pytest.mark.parametrize(
    "value",
    [
        "",
        " , ",
        [],
        None,
        9092,
        b"a:1",
        ["a", 3],
        "a:",
        "a:0",
        "a:65536",
        "a:" + "9" * 5000,
        "a:b",
        "a:\N{ARABIC-INDIC DIGIT ONE}",
        ":9092",
        "a b:1",
        "-a:1",
        "::1",
        "[::1",
        "[a]:1",
        "[::1]9092",
        "a/b:1",
    ],
)
def test_what_is_no_address_is_refused(value: object) -> None:
    refused(servers(), value)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("SASL_SSL://a:1", "Leave out what stands before '://', and set security_protocol."),
        ("2001:db8::1:9092", "Put an IPv6 address in brackets: '[::1]:9092'."),
        ("a:70000", "A port is a number from 1 to 65535."),
        (",", "Name at least one broker."),
    ],
)
def test_a_usual_mistake_in_an_address_is_explained(value: str, hint: str) -> None:
    assert refused(servers(), value).hint == hint


@pytest.mark.parametrize("value", ["PLAINTEXT://me:secret@a:1", ["b", "me:secret@a:1"]])
def test_an_address_with_a_password_is_not_repeated(value: object) -> None:
    error = refused(servers(), value)
    assert "secret" not in str(error)
    assert "secret" not in repr(error)
    assert error.value == "<hidden>"


@given(st.text())
def test_any_text_is_addresses_or_refused(text: str) -> None:
    try:
        found = servers().check("x", text)
    except ConfigError:
        return
    assert servers().check("x", found) == found


@pytest.mark.parametrize(
    ("server", "pair"), [("a:1", ("a", 1)), ("[fe80::1%e]:9092", ("fe80::1%e", 9092))]
)
def test_an_address_is_split_into_host_and_port(server: str, pair: tuple[str, int]) -> None:
    assert split_host_port(server) == pair


@pytest.mark.parametrize(
    "rule",
    [
        whole_number(0),
        number(0, unit="ms"),
        flag(),
        choice("a"),
        header_text(),
        function("f"),
        tls_settings(),
        servers(),
    ],
)
@given(
    value=st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.binary(), st.text())
)
def test_a_rule_accepts_its_own_normal_form_and_raises_nothing_but_config_errors(
    rule: Rule, value: object
) -> None:
    attempts: list[Callable[[], object]] = [lambda: rule.check("x", value)]
    if isinstance(value, str):
        attempts.append(lambda: rule.parse("x", value))
    for attempt in attempts:
        try:
            normal = attempt()
        except ConfigError:
            continue
        assert rule.check("x", normal) == normal
