"""A real Kafka with TLS, every SASL mechanism and ACLs, and what its administrator does to it.

    listener          what it asks of a client
    PLAINTEXT         nothing: for the administrator, and between brokers
    SSL               TLS
    MTLS              TLS with a certificate; the user is its common name
    SASL_PLAINTEXT    one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER
    SASL_SSL          the same, in TLS
    REAUTH_FORWARDED  the same, in TLS, and again every 3 s

A *_FORWARDED listener tells clients a port where the test runs a `Forwarder`, which counts their
connections and cuts them. SSL, MTLS and SASL_SSL have such twins.

Users: `WRITER` may use the topics whose names begin with "test-"; whoever else is known may do
nothing until it is granted. A client without a name, on PLAINTEXT and SSL, may do everything.

Every secret is in `SECRETS`, and every one but the tokens begins with `CANARY`, so that a test can
look for them wherever they must not be. Calls block: a coroutine calls them in a thread.
"""

# confluent_kafka.admin says neither which of its names are public nor what its futures hold.
# mypy: disable-error-code="attr-defined"
# pyright: reportPrivateImportUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import socket
import ssl
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self, TypeAlias

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.support.certificates import Authority, Certificate
from tests.support.forwarder import Forwarder
from tests.support.token_issuer import TokenIssuer
from tools.kafka_cluster import DEFAULT_VERSION, HOME
from tools.kafka_java import Listener, LocalKafka

__all__ = [
    "CANARY",
    "CLUSTER",
    "MECHANISMS",
    "PASSWORDS",
    "REAUTHENTICATION_MS",
    "SECRETS",
    "WRITER",
    "Mechanism",
    "Operation",
    "Resource",
    "ScramName",
    "SecureKafka",
    "new_secret",
    "topic_resource",
]

Mechanism: TypeAlias = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
ScramName: TypeAlias = Literal["SCRAM-SHA-256", "SCRAM-SHA-512"]
Operation: TypeAlias = Literal[
    "READ", "WRITE", "CREATE", "DESCRIBE", "IDEMPOTENT_WRITE", "CLUSTER_ACTION"
]

MECHANISMS: tuple[Mechanism, ...] = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
WRITER = "writer"
CANARY = "canary-secret"
PASSWORDS: Mapping[Mechanism, str] = {
    "PLAIN": f"{CANARY}-plain-4c1f",
    "SCRAM-SHA-256": f"{CANARY}-scram256-9b07",
    "SCRAM-SHA-512": f"{CANARY}-scram512-e2d8",
}
"""The password of `WRITER`, by mechanism."""
SECRETS: list[str] = [*PASSWORDS.values()]
"""Every secret that this process has used so far."""
REAUTHENTICATION_MS = 3_000

_AUDIENCE = "kafka"
_ISSUER = "https://issuer.invalid"
_SCRAM_MECHANISMS: Mapping[ScramName, ScramMechanism] = {
    "SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256,
    "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512,
}
_SECURITY = "org.apache.kafka.common.security"
_BROKER = "1"


class Resource(NamedTuple):
    """What rights are about; a prefix stands for all whose names begin with it."""

    kind: ResourceType
    name: str
    is_prefix: bool = False


CLUSTER = Resource(ResourceType.BROKER, "kafka-cluster")
_TEST_TOPICS = Resource(ResourceType.TOPIC, "test-", is_prefix=True)


def topic_resource(name: str) -> Resource:
    """Return a topic as a resource."""
    return Resource(ResourceType.TOPIC, name)


def new_secret(kind: str) -> str:
    """Make a secret that a test can look for."""
    secret = f"{CANARY}-{kind}-{uuid.uuid4().hex[:8]}"
    SECRETS.append(secret)
    return secret


class SecureKafka(LocalKafka):
    """One broker with the listeners above, and ACLs.

    Args:
        directory: Where its certificates and keys go.
        version: The Kafka release.
        config: More broker options.
        listeners: More listeners.
        jvm_options: More options of the broker's Java.
        home: The folder that holds jars and records.

    Attributes:
        authority: Signed the certificates of the broker, and is trusted by it.
        ca_location: Its certificate.
    """

    def __init__(
        self,
        directory: Path,
        version: str = DEFAULT_VERSION,
        *,
        config: Mapping[str, str] | None = None,
        listeners: Mapping[str, Listener] | None = None,
        jvm_options: Sequence[str] = (),
        home: Path = HOME,
    ) -> None:
        self.authority = Authority()
        self.ca_location = self.authority.write(directory / "authority.pem")
        self._files = directory
        self._issuer = TokenIssuer(_ISSUER, _AUDIENCE)
        self._iterations = 4_096
        key_set = directory / "keys.json"
        key_set.write_text(self._issuer.key_set())
        super().__init__(
            version,
            config={
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
                "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
                "sasl.oauthbearer.jwks.endpoint.url": key_set.as_uri(),
                "sasl.oauthbearer.expected.audience": _AUDIENCE,
                "sasl.oauthbearer.expected.issuer": _ISSUER,
                **(config or {}),
            },
            listeners={**self._own_listeners(), **(listeners or {})},
            jvm_options=[
                f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={key_set.as_uri()}",
                *jvm_options,
            ],
            format_arguments=[
                argument
                for name in _SCRAM_MECHANISMS
                for argument in (
                    "--add-scram",
                    f"{name}=[name={WRITER},password={PASSWORDS[name]}]",
                )
            ],
            home=home,
        )

    def start(self) -> Self:
        """Start the broker, and let `WRITER` use the topics of tests; harmless twice."""
        if not self.addresses:
            super().start()
            self.grant(WRITER, _TEST_TOPICS, "WRITE", "READ", "DESCRIBE", "CREATE")
        return self

    def protocol(self, listener: str) -> str:
        """Return a listener's security protocol, as clients have to set it."""
        return "PLAINTEXT" if listener == "PLAINTEXT" else self._listeners[listener].protocol

    def keystore(self, listener: str) -> Path:
        """Return the file of a listener's certificate and key."""
        return self._files / f"{listener.lower()}.pem"

    def replace_certificate(self, listener: str, certificate: Certificate) -> None:
        """Give a listener another certificate; returns once new connections get it."""
        name = f"listener.name.{listener.lower()}.ssl.keystore.location"
        path = certificate.write(self._files / f"{listener.lower()}-{uuid.uuid4().hex[:8]}.pem")
        self._change_config({name: str(path)})
        wanted = ssl.PEM_cert_to_DER_cert(certificate.certificate_pem)
        port = _port(self.addresses[listener])
        _wait_until(
            lambda: _certificate_shown_at(port) == wanted,
            f"{listener} goes on with its old certificate",
        )

    def new_user(self, mechanism: ScramName = "SCRAM-SHA-256") -> tuple[str, str]:
        """Make a SCRAM user that may do nothing; return its name and its password."""
        user = f"user-{uuid.uuid4().hex[:8]}"
        return user, self.change_scram_password(user, mechanism=mechanism)

    def change_scram_password(
        self, user: str, password: str | None = None, *, mechanism: ScramName = "SCRAM-SHA-256"
    ) -> str:
        """Make a user, or change its password; return the password once the broker asks for it."""
        password = password or new_secret("scram")
        # The broker shows of a password no more than this, so each one has a number of its own.
        self._iterations += 1
        info = ScramCredentialInfo(_SCRAM_MECHANISMS[mechanism], self._iterations)
        change = UserScramCredentialUpsertion(user, info, password.encode())
        admin = self._admin()
        changed: Mapping[str, Future[None]] = admin.alter_user_scram_credentials([change])
        changed[user].result(timeout=10)

        def is_known() -> bool:
            found: Any = admin.describe_user_scram_credentials([user])
            try:
                infos = found[user].result(timeout=10).scram_credential_infos
            except KafkaException as error:
                if error.args[0].code() == KafkaError.RESOURCE_NOT_FOUND:
                    return False
                raise
            return any(one.iterations == info.iterations for one in infos)

        _wait_until(is_known, f"the broker does not know the password of {user}")
        return password

    def token(
        self, user: str, *, expires_in: float = 300, claims: Mapping[str, object] | None = None
    ) -> str:
        """Return a bearer token that the broker takes; see `TokenIssuer.token`."""
        token = self._issuer.token(user, expires_in=expires_in, claims=claims)
        SECRETS.append(token)
        return token

    def grant(self, user: str, resource: Resource, *operations: Operation) -> None:
        """Allow operations to a user; returns once the broker lets them pass."""
        admin = self._admin()
        bindings = [_binding(user, resource, operation) for operation in operations]
        created: Mapping[AclBinding, Future[None]] = admin.create_acls(bindings)
        for one in created.values():
            one.result(timeout=10)
        _wait_until(
            lambda: len(self._rights(user, resource, *operations)) == len(operations),
            f"the broker does not know the new rights of {user}",
        )

    def revoke(self, user: str, resource: Resource, *operations: Operation) -> None:
        """Take operations from a user; returns once the broker refuses them."""
        filters = [_filter(user, resource, operation) for operation in operations]
        admin = self._admin()
        deleted: Mapping[Any, Future[Any]] = admin.delete_acls(filters)
        for one in deleted.values():
            one.result(timeout=10)
        _wait_until(
            lambda: not self._rights(user, resource, *operations),
            f"the broker still knows the old rights of {user}",
        )

    def forwarder(self, listener: str) -> Forwarder:
        """Return what stands before a *_FORWARDED listener; not started."""
        return Forwarder(
            _port(self.addresses[listener]), port=_port(self.advertised_addresses[listener])
        )

    def _own_listeners(self) -> Mapping[str, Listener]:
        sasl = _sasl_config()
        return {
            "SSL": Listener("SSL", self._tls("SSL")),
            "MTLS": Listener("SSL", self._mutual_tls("MTLS")),
            "SASL_PLAINTEXT": Listener("SASL_PLAINTEXT", sasl),
            "SASL_SSL": Listener("SASL_SSL", {**self._tls("SASL_SSL"), **sasl}),
            "SSL_FORWARDED": Listener("SSL", self._tls("SSL_FORWARDED"), is_forwarded=True),
            "MTLS_FORWARDED": Listener(
                "SSL", self._mutual_tls("MTLS_FORWARDED"), is_forwarded=True
            ),
            "SASL_FORWARDED": Listener(
                "SASL_SSL", {**self._tls("SASL_FORWARDED"), **sasl}, is_forwarded=True
            ),
            "REAUTH_FORWARDED": Listener(
                "SASL_SSL",
                {
                    **self._tls("REAUTH_FORWARDED"),
                    **sasl,
                    "connections.max.reauth.ms": REAUTHENTICATION_MS,
                },
                is_forwarded=True,
            ),
        }

    def _tls(self, listener: str) -> dict[str, object]:
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.authority.server().write(self.keystore(listener)),
        }

    def _mutual_tls(self, listener: str) -> dict[str, object]:
        return {
            **self._tls(listener),
            "ssl.client.auth": "required",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.ca_location,
        }

    def _change_config(self, options: Mapping[str, str]) -> None:
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in options.items()
        ]
        resource = ConfigResource(ResourceType.BROKER, _BROKER, incremental_configs=entries)
        admin = self._admin()
        changed: Mapping[ConfigResource, Future[None]] = admin.incremental_alter_configs([resource])
        changed[resource].result(timeout=10)

    def _rights(self, user: str, resource: Resource, *operations: Operation) -> list[AclBinding]:
        admin = self._admin()
        found: list[AclBinding] = []
        for operation in operations:
            described: Future[Any] = admin.describe_acls(_filter(user, resource, operation))
            found += described.result(timeout=10)
        return found

    def _admin(self) -> AdminClient:
        """Make an admin client: to be kept until its last result is there."""
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 4})


def _sasl_config() -> dict[str, object]:
    passwords = f'user_{WRITER}="{PASSWORDS["PLAIN"]}"'
    return {
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "plain.sasl.jaas.config": f"{_SECURITY}.plain.PlainLoginModule required {passwords};",
        "scram-sha-256.sasl.jaas.config": f"{_SECURITY}.scram.ScramLoginModule required;",
        "scram-sha-512.sasl.jaas.config": f"{_SECURITY}.scram.ScramLoginModule required;",
        "oauthbearer.sasl.jaas.config": (
            f"{_SECURITY}.oauthbearer.OAuthBearerLoginModule required;"
        ),
        "oauthbearer.sasl.server.callback.handler.class": (
            f"{_SECURITY}.oauthbearer.OAuthBearerValidatorCallbackHandler"
        ),
    }


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _certificate_shown_at(port: int) -> bytes | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as connection,
        context.wrap_socket(connection) as tls,
    ):
        return tls.getpeercert(binary_form=True)


def _pattern(resource: Resource) -> ResourcePatternType:
    return ResourcePatternType.PREFIXED if resource.is_prefix else ResourcePatternType.LITERAL


def _binding(user: str, resource: Resource, operation: Operation) -> AclBinding:
    return AclBinding(
        resource.kind,
        resource.name,
        _pattern(resource),
        f"User:{user}",
        "*",
        AclOperation[operation],
        AclPermissionType.ALLOW,
    )


def _filter(user: str, resource: Resource, operation: Operation) -> AclBindingFilter:
    return AclBindingFilter(
        resource.kind,
        resource.name,
        _pattern(resource),
        f"User:{user}",
        "*",
        AclOperation[operation],
        AclPermissionType.ALLOW,
    )


def _wait_until(condition: Callable[[], bool], otherwise: str) -> None:
    give_up_at = time.monotonic() + 10
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError(otherwise)
        time.sleep(0.02)
