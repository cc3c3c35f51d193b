"""The names that options have in Java's and librdkafka's properties, and what stands for what.

    a property                           becomes
    a name of ours, dotted or not        that option
    another name for an option           that option (`sasl.mechanisms`)
    a store of certificates or keys      the option for PEM, if the store is PEM
    sasl.jaas.config                     the options that its login module holds
    what we do in any case               nothing (`sasl.oauthbearer.method=oidc`)
    a class of Java that we cannot run   a ConfigError that says what to do instead

Pure functions. Secrets stay unseen: errors show neither a JAAS text nor a password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Final, NamedTuple

from aioproducer.errors import ConfigError

__all__ = ["Property", "option_name", "read_properties"]


class Property(NamedTuple):
    """An option: its name, the name that the user wrote, and the value."""

    name: str
    label: str
    value: object


_OTHER_NAMES: Final[Mapping[str, str]] = {
    "metadata_broker_list": "bootstrap_servers",
    "partitioner_class": "partitioner",
    "sasl_mechanisms": "sasl_mechanism",
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

_NOTHING_TO_DO: Final[Mapping[str, tuple[str, ...]]] = {
    "enable_ssl_certificate_verification": ("true",),
    "sasl_client_callback_handler_class": (
        "software.amazon.msk.auth.iam.IAMClientCallbackHandler",
        "software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler",
    ),
    "sasl_login_callback_handler_class": (
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
        "org.apache.kafka.common.security.oauthbearer.secured.OAuthBearerLoginCallbackHandler",
    ),
    "sasl_oauthbearer_method": ("oidc", "default"),
}
"""Properties whose values, in any case, say what is done here anyway."""

_INSTEAD: Final[Mapping[str, str]] = {
    "enable_ssl_certificate_verification": "Name the broker's authority in ssl_ca_location; or, for"
    " a test, pass an ssl.SSLContext as ssl_context.",
    "sasl_client_callback_handler_class": "A class of Java cannot be run here. For Amazon MSK set"
    " sasl_mechanism to AWS_MSK_IAM.",
    "sasl_login_callback_handler_class": "A class of Java cannot be run here. Pass a function as"
    " sasl_oauth_token_provider.",
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
        "awsStsRegion": "sasl_aws_region",
    },
}
"""The login modules of Java, and the options that theirs are."""

_HANDLED: Final = frozenset(
    ("awsDebugCreds", "doNotPrompt", "renewTGT", "storeKey", "useKeyTab", "useTicketCache")
)
"""Options of login modules that say what is done here anyway."""

_EXTENSION: Final = "extension_"
_JAAS: Final = "sasl_jaas_config"
_JAAS_PART: Final = re.compile(r'\s*(?:([\w.$]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s";]+))|(;))')


def option_name(label: str) -> str:
    """Return the option that a property's name stands for, whether there is such an option or not.

    Args:
        label: The name, dotted or not.
    """
    name = label.replace(".", "_")
    return _OTHER_NAMES.get(name, name)


def read_properties(properties: Mapping[str, object]) -> Iterator[Property]:
    """Turn properties into options.

    Raises:
        ConfigError: A property asks for what only Java or librdkafka can do, is malformed, or
            stands beside another one for the same option.
    """
    labels = {label.replace(".", "_"): label for label in properties}
    seen: dict[str, str] = {}
    for found in _read(properties, labels):
        if found.name in seen:
            other = seen[found.name]
            raise ConfigError(
                "given twice" if other == found.label else f"given twice, as {other} as well",
                option=found.label,
            )
        seen[found.name] = found.label
        yield found


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
        path = "" if location is None else str(properties[location])
        raise ConfigError(
            f"a store of type {kind[:20]} cannot be read, only PEM"
            + (" (JKS is what Java takes where no type is set)" if type_label is None else ""),
            option=label,
            hint=_conversion(store, kind, path),
        )
    if part == "password":
        raise ConfigError(
            "a PEM file has no password of its own",
            option=label,
            hint="Leave it out; the password of an encrypted key is ssl.key.password.",
        )
    if part == "location":
        yield Property(_STORES[store], label, properties[label])


def _conversion(store: str, kind: str, path: str) -> str:
    """The commands that make a PEM file of a store."""
    source = PurePath(path).name or "store.jks"
    pem = PurePath(source).with_suffix(".pem")
    if kind == "PKCS12":
        steps = []
        pkcs12 = source
    else:
        pkcs12 = "store.p12"
        steps = [
            f"keytool -importkeystore -srckeystore {source} -destkeystore {pkcs12}"
            " -deststoretype PKCS12"
        ]
    parts = "-nokeys " if store == "ssl_truststore" else ""
    steps.append(f"openssl pkcs12 -in {pkcs12} {parts}-out {pem}")
    return f"Convert it: {' && '.join(steps)}; then set {_STORES[store]} to {pem}."


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
        elif name not in _HANDLED:
            raise ConfigError(
                f"the option {name} of {module.rpartition('.')[2]} is not known", option=label
            )
    if extensions:
        yield Property("sasl_oauthbearer_extensions", label, ",".join(extensions))


def _parse_jaas(label: str, text: str) -> tuple[str, dict[str, str]]:
    head = re.match(r"\s*([\w.$]+)\s+(?:required|requisite|sufficient|optional)\b", text)
    if head is None:
        raise _malformed(label)
    options: dict[str, str] = {}
    at = head.end()
    while True:
        part = _JAAS_PART.match(text, at)
        if part is None:
            raise _malformed(label)
        at = part.end()
        name, quoted, bare, end = part.groups()
        if end:
            break
        options[name] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
    if text[at:].strip():
        raise ConfigError("holds more than one login module", option=label)
    return head[1], options


def _malformed(label: str) -> ConfigError:
    return ConfigError(
        "cannot be read",
        option=label,
        hint='It is one line: <module> required username="..." password="...";',
    )
