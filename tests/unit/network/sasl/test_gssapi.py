"""GSSAPI: the exchange with a broker of MIT's library, attacks, and what errors are explained as.

The tests that ask for a `realm` need Kerberos's programs; the others need no KDC.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from aioproducer import AuthenticationError, ConfigError, ProducerConfig
from aioproducer.errors import SaslAuthenticationFailedError
from aioproducer.network.sasl.exchange import Exchange
from aioproducer.network.sasl.gssapi import Gssapi, mechanism
from tests.support.kerberos import BROKER, REALM, Realm, missing_programs
from tests.unit.network.sasl.driving import advance

HOST = "127.0.0.1"
NO_LAYER = bytes((1, 0, 0, 0))
ALL_LAYERS = bytes((7, 0, 255, 255))
ANSWER_OF_JAVA = bytes((1, 1, 0, 0))

CONFIG = ProducerConfig(
    bootstrap_servers="a:1,b:1", security_protocol="SASL_SSL", sasl_mechanism="GSSAPI"
)


@pytest.fixture(scope="module")
def library() -> Any:
    return pytest.importorskip("gssapi", reason="needs the package gssapi")


@pytest.fixture(scope="module")
def made_realm(library: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    if missing := missing_programs():
        pytest.skip(f"needs Kerberos: {', '.join(missing)}")
    with Realm(tmp_path_factory.mktemp("realm")) as realm:
        realm.principal(BROKER)
        realm.principal("alice")
        yield realm


@pytest.fixture
def realm(made_realm: Realm, monkeypatch: pytest.MonkeyPatch) -> Realm:
    """The realm of this process, where alice is logged in."""
    for name, value in made_realm.environ.items():
        monkeypatch.setenv(name, value)
    made_realm.log_in("alice")
    return made_realm


@pytest.fixture
def nowhere(library: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ticket, no keytab, no KDC."""
    config = tmp_path / "krb5.conf"
    config.write_text(f"[libdefaults]\ndefault_realm = {REALM}\ndns_lookup_kdc = false\n")
    monkeypatch.setenv("KRB5_CONFIG", str(config))
    monkeypatch.setenv("KRB5CCNAME", f"FILE:{tmp_path / 'tickets'}")
    monkeypatch.setenv("KRB5_CLIENT_KTNAME", str(tmp_path / "client.keytab"))


class Broker:
    """The broker's side of an exchange, by the same library with the broker's keytab.

    Attributes:
        client: The context; its principal once it is established.
    """

    def __init__(self, library: Any, realm: Realm) -> None:
        keytab = {"keytab": str(realm.keytab(BROKER))}
        self.client = library.SecurityContext(
            usage="accept", creds=library.Credentials(usage="accept", store=keytab)
        )

    def accept(self, exchange: Exchange) -> bytes:
        """Take the client's first token; return what proves that this is the broker."""
        first = advance(exchange)
        assert first is not None
        token: bytes = self.client.step(first)
        return token

    def establish(self, exchange: Exchange) -> None:
        """Go on until layers are to be offered."""
        assert advance(exchange, self.accept(exchange)) == b""
        assert self.client.complete

    def seal(self, message: bytes) -> bytes:
        return bytes(self.client.wrap(message, False).message)

    def unseal(self, message: bytes | None) -> bytes:
        assert message is not None
        return bytes(self.client.unwrap(message).message)


@pytest.fixture
def broker(library: Any, realm: Realm) -> Broker:
    return Broker(library, realm)


def refusal(gssapi: Gssapi, host: str = HOST) -> AuthenticationError:
    """Begin an exchange that cannot be begun; return why."""
    with pytest.raises(AuthenticationError) as caught:
        advance(gssapi.exchange(host))
    return caught.value


# ---- the exchange


@pytest.mark.parametrize("offer", [NO_LAYER, ALL_LAYERS, ANSWER_OF_JAVA])
def test_no_security_layer_is_taken_and_nobody_but_the_tickets_principal_named(
    broker: Broker, offer: bytes
) -> None:
    exchange = Gssapi("kafka").exchange(HOST)
    broker.establish(exchange)
    assert broker.unseal(advance(exchange, broker.seal(offer))) == NO_LAYER
    assert str(broker.client.initiator_name) == f"alice@{REALM}"
    assert advance(exchange, b"") is None


def test_a_principal_is_logged_in_by_its_keytab_while_another_has_a_ticket(
    broker: Broker, realm: Realm
) -> None:
    realm.principal("dora")
    keytab = str(realm.keytab("dora"))
    broker.establish(Gssapi("kafka", keytab=keytab).exchange(HOST))
    assert str(broker.client.initiator_name) == f"dora@{REALM}"


def test_the_ticket_of_a_keytab_serves_all_exchanges_until_it_is_about_to_end(realm: Realm) -> None:
    realm.principal("long")
    realm.principal("short", ticket_life="2 seconds")
    for name in ("long", "short"):
        keytab = str(realm.keytab(name))
        for _ in range(3):
            advance(Gssapi("kafka", keytab=keytab).exchange(HOST))
    assert realm.logins("long") == 1
    assert realm.logins("short") > 1


def test_the_host_of_the_address_is_asked_for(realm: Realm) -> None:
    said = str(refusal(Gssapi("broker"), "kafka7.test.invalid"))
    assert f"the KDC does not know the broker as broker/kafka7.test.invalid@{REALM}" in said


def test_the_brokers_refusal_says_what_to_compare(realm: Realm) -> None:
    exchange = Gssapi("kafka").exchange(HOST)
    advance(exchange)
    with pytest.raises(SaslAuthenticationFailedError, match="Compare its clock with this machine"):
        exchange.throw(SaslAuthenticationFailedError("no"))


# ---- a broker that is none


@pytest.mark.parametrize("token", [b"", b"x", bytes(200_000), b"`\x82\xff\xff" + bytes(100)])
def test_a_token_that_is_none_ends_the_exchange(realm: Realm, token: bytes) -> None:
    exchange = Gssapi("kafka").exchange(HOST)
    advance(exchange)
    with pytest.raises(AuthenticationError, match="no message of this Kerberos exchange"):
        advance(exchange, token)


def test_the_proof_of_a_broker_of_another_exchange_is_refused(broker: Broker) -> None:
    proof = broker.accept(Gssapi("kafka").exchange(HOST))
    exchange = Gssapi("kafka").exchange(HOST)
    advance(exchange)
    with pytest.raises(AuthenticationError, match="Mutual authentication failed"):
        advance(exchange, proof)


def tampered(message: bytes) -> bytes:
    return message[:-1] + bytes((message[-1] ^ 1,))


def unsealed(_: bytes) -> bytes:
    return NO_LAYER


def empty(_: bytes) -> bytes:
    return b""


def large(message: bytes) -> bytes:
    return message + bytes(200_000)


@pytest.mark.parametrize("forged", [tampered, unsealed, empty, large])
def test_an_offer_that_the_broker_has_not_sealed_is_refused(
    broker: Broker, forged: Callable[[bytes], bytes]
) -> None:
    exchange = Gssapi("kafka").exchange(HOST)
    broker.establish(exchange)
    with pytest.raises(AuthenticationError, match="no message of this Kerberos exchange"):
        advance(exchange, forged(broker.seal(NO_LAYER)))


@pytest.mark.parametrize("offer", [b"", b"\x01", bytes(5), bytes(4), bytes((6, 0, 255, 255))])
def test_an_offer_without_plain_messages_is_refused(broker: Broker, offer: bytes) -> None:
    exchange = Gssapi("kafka").exchange(HOST)
    broker.establish(exchange)
    with pytest.raises(AuthenticationError, match="without a security layer"):
        advance(exchange, broker.seal(offer))


class EstablishedAtOnce:
    """Stands in for a context of the library, where there is no KDC."""

    def __init__(self) -> None:
        self.complete = False

    def step(self, token: bytes | None = None) -> bytes | None:
        self.complete = token is not None
        return None if self.complete else b"ticket"

    def unwrap(self, message: bytes) -> Any:
        return SimpleNamespace(message=message.removeprefix(b"sealed "))

    def wrap(self, message: bytes, encrypt: bool) -> Any:
        assert not encrypt
        return SimpleNamespace(message=b"sealed " + message)


def test_the_steps_without_a_kdc(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(_self: Gssapi, _host: str) -> EstablishedAtOnce:
        return EstablishedAtOnce()

    monkeypatch.setattr(Gssapi, "_begin", begin)
    exchange = Gssapi("kafka").exchange("broker.example")
    assert advance(exchange) == b"ticket"
    assert advance(exchange, b"the broker's token") == b""
    assert advance(exchange, b"sealed " + ALL_LAYERS) == b"sealed " + NO_LAYER
    assert advance(exchange, b"") is None


# ---- errors explained


def test_a_missing_ticket_is_said(nowhere: None) -> None:
    error = refusal(Gssapi("kafka"))
    assert "there is no Kerberos ticket" in str(error)
    assert error.hint == "Run kinit, or set sasl_kerberos_keytab."


def test_a_missing_ticket_of_a_principal_is_said(realm: Realm) -> None:
    error = refusal(Gssapi("kafka", principal=f"bob@{REALM}"))
    assert f"there is no ticket of bob@{REALM}" in str(error)
    assert error.hint is not None and f"Run kinit bob@{REALM}" in error.hint


def test_a_name_that_is_no_principal_is_said(nowhere: None) -> None:
    said = str(refusal(Gssapi("kafka", principal="@@")))
    assert "sasl_kerberos_principal is no principal" in said


@pytest.mark.parametrize("content", [None, b"", b"no keytab"])
@pytest.mark.parametrize("principal", [None, f"bob@{REALM}"])
def test_a_keytab_that_cannot_be_read_is_said(
    nowhere: None, tmp_path: Path, content: bytes | None, principal: str | None
) -> None:
    keytab = tmp_path / "some.keytab"
    if content is not None:
        keytab.write_bytes(content)
    error = refusal(Gssapi("kafka", keytab=str(keytab), principal=principal))
    assert "the keytab cannot be used" in str(error)
    assert error.hint is not None and "sasl_kerberos_keytab" in error.hint


def test_a_keytab_without_the_principals_key_is_said(realm: Realm) -> None:
    keytab = str(realm.keytab("alice"))
    said = str(refusal(Gssapi("kafka", keytab=keytab, principal=f"bob@{REALM}")))
    assert f"the keytab cannot be used (No key table entry found for bob@{REALM})" in said


@pytest.mark.parametrize("preauthentication", ["+requires_preauth", "-requires_preauth"])
def test_a_keytab_whose_key_was_changed_is_said(realm: Realm, preauthentication: str) -> None:
    name = f"changed{preauthentication[0]}"
    realm.principal(name)
    realm.change(name, preauthentication)
    keytab = str(realm.keytab(name))
    realm.change_key(name)
    assert "the KDC does not take the client's key" in str(refusal(Gssapi("kafka", keytab=keytab)))


def test_a_locked_principal_is_said(realm: Realm) -> None:
    realm.principal("locked")
    realm.change("locked", "-allow_tix")
    keytab = str(realm.keytab("locked"))
    said = str(refusal(Gssapi("kafka", keytab=keytab)))
    assert "the KDC has locked the client's principal" in said


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (2 * 3_600, "the Kerberos ticket has expired"),
        (1_200, "this machine's clock and the KDC's or the broker's differ too much"),
        (-1_200, "this machine's clock and the KDC's or the broker's differ too much"),
    ],
)
def test_a_ticket_that_does_not_fit_the_clock_is_said(realm: Realm, ahead: int, said: str) -> None:
    realm.set_clock(ahead)
    assert said in str(refusal(Gssapi("kafka")))


def test_a_realm_that_the_kdc_does_not_know_is_said(realm: Realm) -> None:
    said = str(refusal(Gssapi("kafka"), "broker.elsewhere.example"))
    assert f"the KDC of {REALM} does not know ELSEWHERE.EXAMPLE" in said
    assert "domain_realm" in said


def test_a_name_that_dns_has_changed_is_said(
    realm: Realm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "krb5.conf"
    text = realm.config.read_text()
    config.write_text(
        text.replace("canonicalize_hostname = false", "canonicalize_hostname = true").replace(
            "rdns = false", "rdns = true"
        )
    )
    monkeypatch.setenv("KRB5_CONFIG", str(config))
    said = str(refusal(Gssapi("other"), "127.0.0.1"))
    if "other/127.0.0.1@" in said:
        pytest.skip("127.0.0.1 has no other name on this machine")
    assert "That name was made of other/127.0.0.1 by DNS" in said


def test_a_kdc_that_is_not_configured_is_said(made_realm: Realm, nowhere: None) -> None:
    made_realm.principal("erin")
    keytab = str(made_realm.keytab("erin"))
    said = str(refusal(Gssapi("kafka", keytab=keytab)))
    assert "no KDC of the realm can be reached" in said


# ---- what it needs


def test_a_missing_package_is_said_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gssapi", None)
    with pytest.raises(ConfigError, match=r'pip install "aioproducer\[gssapi\]"') as caught:
        mechanism(CONFIG)
    assert "apt-get install gcc libkrb5-dev" in str(caught.value)


def test_a_package_that_does_not_find_kerberos_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gssapi", None)
    assert "apt-get install libgssapi-krb5-2" in str(refusal(Gssapi("kafka")))


def test_the_package_is_loaded_only_in_the_thread_of_an_exchange(
    library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "gssapi")
    assert mechanism(CONFIG).name == "GSSAPI"
    assert "gssapi" not in sys.modules
