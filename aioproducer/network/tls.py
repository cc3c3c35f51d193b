"""The TLS context of a producer's connections, made from its options and kept up to date.

    before a new connection          what happens
    nothing was read yet             the files are read; what cannot be used is a ConfigError
    no file has changed since        the last context is used again
    a file has changed               the files are read again
    they cannot be used any more     the last context goes on, with one WARNING for that state of
                                     the files: they may be half written

Invariants
* Files are looked at in a thread: a slow volume holds neither the loop nor another broker.
* A private key that is given as a file is never copied; one that is given as text never gets a
  name in the file system that outlives the call.
* Nobody is asked for a password on the terminal, and no message shows a key or a password.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import tempfile
from collections.abc import Generator
from contextvars import Context
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

from aioproducer.background import in_thread
from aioproducer.config import ProducerConfig
from aioproducer.errors import ConfigError

__all__ = ["Tls"]

logger = logging.getLogger(__name__)

_Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Of each file the time of its last change, its size and its inode; None where it is missing."""

_JKS: Final = b"\xfe\xed\xfe\xed"
_DER: Final = b"\x30"
"""How a PKCS12 file begins, and a certificate or key that is not PEM."""


class _NoPasswordError(Exception):
    """The key is encrypted, and there is no password."""


class Tls:
    """Makes the TLS context for the next connection.

    Args:
        config: The producer's options.
    """

    def __init__(self, config: ProducerConfig) -> None:
        self._config = config
        self._context: ssl.SSLContext | None = None
        self._read_at: _Stamp = ()
        """The files as they were when `_context` was made, or could not be made anew."""
        self._reading: asyncio.Task[ssl.SSLContext] | None = None

    async def context(self) -> ssl.SSLContext:
        """Return the context for a new connection.

        Raises:
            ConfigError: A file or text is missing, unreadable or does not fit; names the option.
        """
        if self._config.ssl_context is not None:
            return self._config.ssl_context
        if self._reading is None or self._reading.done():
            self._reading = asyncio.Task(
                in_thread(self._newest, name="aioproducer-tls"),
                name="aioproducer-tls",
                context=Context(),
            )
        # All who come meanwhile wait for it, so that none of them ends it by being cancelled.
        return await asyncio.shield(self._reading)

    def _newest(self) -> ssl.SSLContext:
        # Before the files are read: a change in between is seen the next time.
        now = self._stamp()
        if self._context is not None and now == self._read_at:
            return self._context
        try:
            self._context = self._make()
        except ConfigError as error:
            if self._context is None:
                raise
            logger.warning("TLS goes on with the files as they were read before: %s", error)
        self._read_at = now
        return self._context

    def _stamp(self) -> _Stamp:
        config = self._config
        paths = (config.ssl_ca_location, config.ssl_certificate_location, config.ssl_key_location)
        return tuple(_stamp_of(path) for path in paths if path is not None)

    def _make(self) -> ssl.SSLContext:
        config = self._config
        context = self._trusting()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.ssl_endpoint_identification_algorithm == "":
            context.check_hostname = False
        self._load_certificate(context)
        return context

    def _trusting(self) -> ssl.SSLContext:
        """Return a context that trusts the authorities that the options name."""
        config = self._config
        path, text = config.ssl_ca_location, config.ssl_ca_pem
        if path is None and text is None:
            return ssl.create_default_context()
        option = "ssl_ca_pem" if path is None else "ssl_ca_location"
        if path is not None and not Path(path).is_dir():
            _check_readable("ssl_ca_location", path)
        try:
            if path is not None and Path(path).is_dir():
                return ssl.create_default_context(capath=path)
            return ssl.create_default_context(cafile=path, cadata=text)
        except ssl.SSLError:
            raise ConfigError(
                "holds no certificate in PEM", option=option, hint=_convert(path, "-nokeys")
            ) from None

    def _load_certificate(self, context: ssl.SSLContext) -> None:
        """Load the client's certificate and key, if there is one."""
        config = self._config
        if config.ssl_certificate_location is None and config.ssl_certificate_pem is None:
            return
        certificate = _Source("ssl_certificate", config.ssl_certificate_location)
        key = _Source("ssl_key", config.ssl_key_location)
        asked = False

        def password() -> str:
            nonlocal asked
            asked = True
            if config.ssl_key_password is None:
                raise _NoPasswordError
            return config.ssl_key_password

        with (
            certificate.path(config.ssl_certificate_pem) as certificate_path,
            key.path(config.ssl_key_pem) as key_path,
        ):
            assert certificate_path is not None
            try:
                context.load_cert_chain(certificate_path, key_path, password)
            except _NoPasswordError:
                raise ConfigError(
                    "not set, and the private key is encrypted", option="ssl_key_password"
                ) from None
            except (ssl.SSLError, ValueError) as error:
                _refuse(certificate, key, error, asked_for_password=asked)


class _Source:
    """A file, or a text in its place: the option that gives it, and a path to read it from."""

    def __init__(self, options: str, location: str | None) -> None:
        self.option = f"{options}_{'pem' if location is None else 'location'}"
        self._location = location

    @contextlib.contextmanager
    def path(self, text: str | None) -> Generator[str | None]:
        """A path that can be read while the context lasts; None when there is neither."""
        if self._location is not None:
            _check_readable(self.option, self._location)
            yield self._location
        elif text is None:
            yield None
        else:
            with _unnamed_file(text.encode()) as path:
                yield path


@contextlib.contextmanager
def _unnamed_file(content: bytes) -> Generator[str]:
    """A file for OpenSSL, which takes only paths: in memory where the system has such files."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        with open(os.memfd_create("aioproducer-pem"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile(prefix="aioproducer-") as file:
            file.write(content)
            file.flush()
            yield file.name


def _stamp_of(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _check_readable(option: str, path: str) -> None:
    """Refuse a file that cannot be read, or is a keystore in another form than PEM."""
    try:
        with open(path, "rb") as file:
            begin = file.read(4)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"cannot be read: {reason}", option=option, value=path) from None
    if begin == _JKS or begin.startswith(_DER):
        parts = {"ssl_ca_location": "-nokeys", "ssl_key_location": "-nocerts"}.get(option, "")
        raise ConfigError("is not PEM", option=option, value=path, hint=_convert(path, parts))


def _convert(path: str | None, parts: str) -> str:
    """How to make a PEM file of a Java keystore."""
    if path is None:
        return "A certificate in PEM begins with -----BEGIN CERTIFICATE-----."
    target = Path(path).with_suffix(".pem").name
    return (
        f"If it is a Java keystore: keytool -importkeystore -srckeystore {Path(path).name}"
        " -destkeystore store.p12 -deststoretype PKCS12, and then: openssl pkcs12 -in store.p12"
        f" {parts}{' ' if parts else ''}-out {target}."
    )


def _refuse(
    certificate: _Source, key: _Source, error: Exception, *, asked_for_password: bool
) -> NoReturn:
    if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
        raise ConfigError(
            "the private key is not that of the certificate", option=key.option
        ) from None
    if asked_for_password:
        raise ConfigError("does not decrypt the private key", option="ssl_key_password") from None
    raise ConfigError(
        "no certificate with its private key is found in PEM",
        option=certificate.option,
        hint="The certificate begins with -----BEGIN CERTIFICATE-----, the key with -----BEGIN"
        " PRIVATE KEY----- or the like, in the same file or in that of ssl_key_location.",
    ) from None
