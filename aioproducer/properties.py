"""The names that options have in Java's and librdkafka's properties, and what stands for what.

    a property                           becomes
    a name of ours, dotted or not        that option
    another name for an option           that option (`sasl.mechanisms`)
    a store of certificates or keys      the option for PEM, if the store is PEM
    sasl.jaas.config                     the options that its login module holds
    what we do in any case               nothing (`sasl.oauthbearer.method=oidc`)
    an option of consumers only          nothing, with a line in the log (`session.timeout.ms`)
    a class of Java that we cannot run   a ConfigError that says what to do instead

Keeps no state. Secrets stay unseen: errors show neither a JAAS text nor a password.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Final, NamedTuple

from aioproducer.errors import ConfigError

__all__ = ["Property", "how_to_convert", "option_name", "read_properties"]


logger = logging.getLogger(__name__)


class Property(NamedTuple):
    """An option: its name, the name that the user wrote, and the value."""

    name: str
    label: str
    value: object


_OTHER_NAMES: Final[Mapping[str, str]] = {
    "compression_codec": "compression_type",
    "max_in_flight": "max_in_flight_requests_per_connection",
    "message_send_max_retries": "retries",
    "message_timeout_ms": "delivery_timeout_ms",
    "metadata_broker_list": "bootstrap_servers",
    "partitioner_class": "partitioner",
    "queue_buffering_max_kbytes": "buffer_memory",
    "queue_buffering_max_ms": "linger_ms",
    "request_required_acks": "acks",
    "sasl_mechanisms": "sasl_mechanism",
    "sasl_oauthbearer_assertion_jwt_template_file": "sasl_oauthbearer_assertion_template_file",
    "sasl_oauthbearer_client_id": "sasl_oauthbearer_client_credentials_client_id",
    "sasl_oauthbearer_client_secret": "sasl_oauthbearer_client_credentials_client_secret",
    "sasl_oauthbearer_grant_type": "sasl_oauthbearer_jwt_retriever_class",
    "ssl_keystore_certificate_chain": "ssl_certificate_pem",
    "ssl_keystore_key": "ssl_key_pem",
    "ssl_truststore_certificates": "ssl_ca_pem",
}

_STORES: Final[Mapping[str, str]] = {
    "ssl_truststore": "ssl_ca_location",
    "ssl_keystore": "ssl_certificate_location",
}
"""A PEM keystore of Java has the key and the certificates in one file."""

_KBYTES: Final = "queue_buffering_max_kbytes"

_CONSUMERS_ONLY: Final = ("session_timeout_ms",)
"""Options of consumers in files that are for both: the one of Confluent Cloud has it."""

_NOTHING_TO_DO: Final[Mapping[str, tuple[str, ...]]] = {
    "client_dns_lookup": ("use_all_dns_ips", "default"),
    "enable_ssl_certificate_verification": ("true",),
    "sasl_client_callback_handler_class": (
        "software.amazon.msk.auth.iam.IAMClientCallbackHandler",
    ),
    "sasl_login_callback_handler_class": (
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
        "org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerLoginCallbackHandler",
    ),
    "sasl_oauthbearer_method": ("oidc", "default"),
}
"""Properties whose values, in any case, say what is done here anyway."""

_INSTEAD: Final[Mapping[str, str]] = {
    "client_dns_lookup": "Leave it out: every address of a host name is tried.",
    "enable_ssl_certificate_verification": "Name the broker's authority in ssl_ca_location; or, for"
    " a test, pass an ssl.SSLContext as ssl_context.",
    "sasl_client_callback_handler_class": "A class of Java cannot be run here. For Amazon MSK set"
    " sasl_mechanism to AWS_MSK_IAM.",
    "sasl_login_callback_handler_class": "A class of Java cannot be run here. Pass a function as"
    " sasl_oauth_token_provider. For Amazon MSK set sasl_mechanism to AWS_MSK_IAM.",
    "sasl_oauthbearer_method": "Pass a function as sasl_oauth_token_provider.",
}

_PASSWORD_MODULES: Final = {"username": "sasl_username", "password": "sasl_password"}
_MODULES: Final[Mapping[str, Mapping[str, str]]] = {
    "org.apache.kafka.common.security.plain.PlainLoginModule": _PASSWORD_MODULES,
    "org.apache.kafka.common.security.scram.ScramLoginModule": _PASSWORD_MODULES,
    "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule": {
        "clientId": "sasl_oauthbearer_client_credentials_client_id",
        "clientSecret": "sasl_oauthbearer_client_credentials_client_secret",
        "scope": "sasl_oauthbearer_scope",
    },
    "com.sun.security.auth.module.Krb5LoginModule": {
        "serviceName": "sasl_kerberos_service_name",
        "principal": "sasl_kerberos_principal",
        "keyTab": "sasl_kerberos_keytab",
    },
    "software.amazon.msk.auth.iam.IAMLoginModule": {
        "awsProfileName": "sasl_aws_profile",
    },
}
"""The login modules of Java, and the options that theirs are."""

_HANDLED: Final = frozenset(
    (
        "awsDebugCreds",
        "awsMaxBackOffTimeMs",
        "awsMaxRetries",
        "debug",
        "doNotPrompt",
        "refreshKrb5Config",
        "renewTGT",
        "storeKey",
        "useKeyTab",
        "useTicketCache",
    )
)
"""Options of login modules that say what is done here anyway, or concern only Java."""

_ROLE: Final = (
    "Give the role to a profile in AWS's configuration files (role_arn, source_profile), and name"
    " that in sasl_aws_profile."
)
_ELSEWHERE: Final[Mapping[str, str]] = {
    "awsProfileName": "Set sasl_mechanism to AWS_MSK_IAM, and sasl_aws_profile.",
    "awsRoleArn": _ROLE,
    "awsRoleExternalId": _ROLE,
    "awsRoleSessionName": _ROLE,
    # Not sasl_aws_region: that is the cluster's.
    "awsStsRegion": _ROLE,
    "ticketCache": "Name it in the environment variable KRB5CCNAME.",
    "tokenauth": "Delegation tokens cannot be used; set the user's own name and password.",
}
"""Options of login modules that are set in another place here."""

_EXTENSION: Final = "extension_"
_JAAS: Final = "sasl_jaas_config"
_JAAS_PART: Final = re.compile(
    r"""\s*(?:([\w.$]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([^\s"';]+))|(;))"""
)
_JAAS_HEAD: Final = re.compile(
    r"\s*([\w.$]+)\s+(?:required|requisite|sufficient|optional)\b", re.IGNORECASE
)
_ESCAPE: Final = re.compile(r"\\([0-3][0-7]{2}|[0-7]{1,2}|.)", re.DOTALL)
_ESCAPED: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
"""The escapes of a quoted text, as Java's StreamTokenizer reads them."""


def option_name(label: str) -> str:
    """Return the option that a property's name stands for, whether there is such an option or not.

    Args:
        label: The name, dotted or not.
    """
    name = label.replace(".", "_")
    return _OTHER_NAMES.get(name, name)


def how_to_convert(kind: str, path: str, option: str) -> str:
    """Return the commands that make a PEM file of a store, as a hint.

    Args:
        kind: `"PKCS12"`, or else a type that only Java reads.
        path: The store's file; its suffix may tell that it is PKCS12 as well.
        option: The option that the PEM file is for.
    """
    source = PurePath(path)
    pem = source.with_suffix(".pem").name
    parts = {"ssl_ca_location": "-nokeys ", "ssl_key_location": "-nocerts "}.get(option, "")
    if kind == "PKCS12" or source.suffix.lower() in (".p12", ".pfx"):
        steps = f"openssl pkcs12 -in {source.name} {parts}-out {pem}"
    else:
        steps = (
            f"keytool -importkeystore -srckeystore {source.name} -destkeystore store.p12"
            f" -deststoretype PKCS12 && openssl pkcs12 -in store.p12 {parts}-out {pem}"
        )
    return f"Convert it: {steps}; then set {option} to {pem}."


def read_properties(properties: Mapping[str, object]) -> Iterator[Property]:
    """Turn properties into options.

    Raises:
        ConfigError: A property asks for what only Java or librdkafka can do, is malformed, or
            stands beside another one for the same option.
    """
    labels = {label.replace(".", "_"): label for label in properties}
    jaas = labels.get(_JAAS)
    seen: dict[str, Property] = {}
    for found in _read(properties, labels):
        other = seen.get(found.name)
        if other is None:
            seen[found.name] = found
            yield found
        elif jaas not in (found.label, other.label) or str(found.value) != str(other.value):
            label = other.label
            raise ConfigError(
                "given twice" if label == found.label else f"given twice, as {label} as well",
                option=found.label,
            )


def _read(properties: Mapping[str, object], labels: Mapping[str, str]) -> Iterator[Property]:
    for label, value in properties.items():
        name = label.replace(".", "_")
        store, _, part = name.rpartition("_")
        if name == _JAAS:
            yield from _read_jaas(label, value)
        elif store in _STORES and part in ("location", "password"):
            yield from _read_store(store, part, label, properties, labels)
        elif store in _STORES and part == "type":
            pass  # Read with the store's file.
        elif name in _NOTHING_TO_DO:
            _check_nothing_to_do(name, label, value)
        elif name == "ssl_ca_location" and value == "probe":
            pass  # librdkafka then looks for the system's authorities.
        elif name == "partitioner" and value == "murmur2_random":
            pass  # librdkafka's name for what is done anyway: as Java does it.
        elif name == _KBYTES:
            yield Property(option_name(label), label, _bytes_of(label, value))
        elif name in _CONSUMERS_ONLY:
            logger.info("%s is an option of consumers, and is ignored", label)
        else:
            yield Property(option_name(label), label, value)


def _read_store(
    store: str,
    part: str,
    label: str,
    properties: Mapping[str, object],
    labels: Mapping[str, str],
) -> Iterator[Property]:
    """Take the file of a store, if it is PEM; its type and password come with it."""
    type_label = labels.get(f"{store}_type")
    kind = "JKS" if type_label is None else str(properties[type_label]).upper()
    if kind != "PEM":
        location = labels.get(f"{store}_location")
        path = "store.jks" if location is None else str(properties[location])
        raise ConfigError(
            f"a store of type {kind[:20]} cannot be read, only PEM"
            + (" (JKS is what Java takes where no type is set)" if type_label is None else ""),
            option=label,
            hint=how_to_convert(kind, path, _STORES[store]),
        )
    if part == "password":
        raise ConfigError(
            "a PEM file has no password of its own",
            option=label,
            hint="Leave it out; the password of an encrypted key is ssl.key.password.",
        )
    if part == "location":
        yield Property(_STORES[store], label, properties[label])


def _bytes_of(label: str, value: object) -> int:
    try:
        return int(str(value)) * 1_024
    except ValueError:
        raise ConfigError(
            option=label,
            value=value,
            allowed="a whole number of KiB",
            hint="Or set buffer.memory, in bytes.",
        ) from None


def _check_nothing_to_do(name: str, label: str, value: object) -> None:
    if str(value).strip().lower() not in [one.lower() for one in _NOTHING_TO_DO[name]]:
        raise ConfigError(option=label, value=value, hint=_INSTEAD[name])


def _read_jaas(label: str, value: object) -> Iterator[Property]:
    """Read `Module required name="value" ...;` as Java's client does."""
    module, options = _parse_jaas(label, str(value))
    names = _MODULES.get(module)
    if names is None:
        raise ConfigError(
            f"the login module {module[:200]} is not known",
            option=label,
            allowed=", ".join(one.rpartition(".")[2] for one in _MODULES),
            hint="Set sasl_mechanism and the options of that mechanism.",
        )
    extensions: list[str] = []
    for name, text in options.items():
        if name in names:
            yield Property(names[name], label, text)
        elif name.startswith(_EXTENSION) and "scope" in names:
            extensions.append(f"{name.removeprefix(_EXTENSION)}={text}")
        elif name in _ELSEWHERE:
            raise ConfigError(
                f"the option {name} of {module.rpartition('.')[2]} cannot be used",
                option=label,
                hint=_ELSEWHERE[name],
            )
        elif name not in _HANDLED:
            # Unnamed: it may be a piece of a password that was not quoted.
            raise ConfigError(
                f"holds an option that is none of {module.rpartition('.')[2]}",
                option=label,
                allowed=", ".join(names),
                hint="A value with spaces or quotes stands in quotes.",
            )
    if extensions:
        yield Property("sasl_oauthbearer_extensions", label, ",".join(extensions))


def _parse_jaas(label: str, text: str) -> tuple[str, dict[str, str]]:
    head = _JAAS_HEAD.match(text)
    if head is None:
        raise _malformed(label)
    options: dict[str, str] = {}
    at = head.end()
    while True:
        part = _JAAS_PART.match(text, at)
        if part is None:
            raise _malformed(label)
        at = part.end()
        name, double, single, bare, end = part.groups()
        if end:
            break
        quoted = single if double is None else double
        options[name] = bare if quoted is None else _ESCAPE.sub(_unescaped, quoted)
    if text[at:].strip():
        raise ConfigError("holds more than one login module", option=label)
    return head[1], options


def _unescaped(escape: re.Match[str]) -> str:
    code = escape[1]
    return chr(int(code, 8)) if code[0] in "01234567" else _ESCAPED.get(code, code)


def _malformed(label: str) -> ConfigError:
    return ConfigError(
        "cannot be read",
        option=label,
        hint='It is one line: <module> required username="..." password="...";',
    )
