"""The TLS context of a producer's connections, made from its options and kept up to date.

    before a new connection          what happens
    nothing was read yet             the files are read; what cannot be used is a ConfigError
    no file has changed since        the last context is used again
    a file has changed               the files are read again
    they cannot be used any more     the last context goes on, with one WARNING for that state of
                                     the files: they may be half written

Invariants
* Files are read in a thread, those of a folder too: a slow volume holds neither the loop nor
  another broker.
* A private key that is given as a file is never copied; one that is given as text never gets a
  name in the file system that outlives the call.
* Nobody is asked for a password on the terminal, and no message shows a key or a password.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import ssl
import tempfile
import textwrap
from collections.abc import Generator
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from aioproducer.background import in_thread
from aioproducer.config import ProducerConfig
from aioproducer.errors import ConfigError
from aioproducer.properties import how_to_convert

__all__ = ["Tls"]

logger = logging.getLogger(__name__)

_Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]
"""Of each file the time of its last change, its size and its inode; None where it is missing."""

_JKS: Final = b"\xfe\xed\xfe\xed"
_DER: Final = b"\x30"
"""How a certificate, a key or a PKCS12 file begins that is not PEM."""

_PKCS12: Final = re.compile(
    rb"\x30(?:[\x01-\x80]|\x81.|\x82.{2}|\x83.{3}|\x84.{4})\x02\x01\x03", re.DOTALL
)
"""A PKCS12 file has its version, 3, at once."""

_BLOCK: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_BASE64_WIDTH: Final = 64

_MISMATCHES: Final = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH")
"""OpenSSL's reasons for a key that is not that of the certificate."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What a file or text has to hold: how a reader knows it, and how we do."""

    name: str
    begin: str
    mark: bytes


_CERTIFICATE: Final = _Part("certificate", "-----BEGIN CERTIFICATE-----", b"CERTIFICATE-----")
_KEY: Final = _Part("private key", "-----BEGIN PRIVATE KEY----- or the like", b"PRIVATE KEY-----")


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
        files: list[str] = []
        for path in paths:
            if path is not None:
                files.append(path)
                with contextlib.suppress(OSError):  # It is no folder, or missing.
                    files += _files_in(path)
        return tuple(_stamp_of(file) for file in files)

    def _make(self) -> ssl.SSLContext:
        config = self._config
        context = self._trusting()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if config.ssl_endpoint_identification_algorithm == "":
            context.check_hostname = False
        certificate = _source(
            "ssl_certificate", config.ssl_certificate_location, config.ssl_certificate_pem
        )
        if certificate is not None:
            key = _source("ssl_key", config.ssl_key_location, config.ssl_key_pem) or certificate
            _load_certificate(context, certificate, key, config.ssl_key_password)
        return context

    def _trusting(self) -> ssl.SSLContext:
        """Return a context that trusts the authorities that the options name, and no others."""
        config = self._config
        source = _source("ssl_ca", config.ssl_ca_location, config.ssl_ca_pem)
        if source is None:
            return ssl.create_default_context()
        first, *others = _authorities(source)
        with first.explained(_CERTIFICATE):
            context = ssl.create_default_context(cafile=first.location, cadata=first.text)
        # Not as `capath`: OpenSSL would read the folder in the handshake, on the loop.
        for other in others:
            with other.explained(_CERTIFICATE):
                context.load_verify_locations(cafile=other.location)
        return context


@dataclass(frozen=True, slots=True)
class _Source:
    """A file, or a text in its place: the option that gives it, and what is wrong with it."""

    option: str
    location: str | None
    text: str | None = field(repr=False)

    @contextlib.contextmanager
    def path(self) -> Generator[str]:
        """A path that can be read while the context lasts."""
        if self.location is not None:
            yield self.location
        else:
            with _unnamed_file(self._content()) as path:
                yield path

    @contextlib.contextmanager
    def explained(self, *parts: _Part) -> Generator[None]:
        """Turn OpenSSL's errors into ConfigErrors."""
        try:
            yield
        except OSError as error:
            self.check(*parts)
            raise self.unusable(error) from None

    def check(self, *parts: _Part) -> None:
        """Raise a ConfigError if it cannot be read, or lacks a part."""
        try:
            wrong = self._lacks(parts)
        except OSError as error:
            raise self.unreadable(error) from None
        if wrong is not None:
            raise wrong

    def unreadable(self, error: OSError) -> ConfigError:
        """Return the error for what the system does not let us read."""
        return self.refused(f"cannot be read: {(error.strerror or str(error)).lower()}")

    def unusable(self, error: Exception) -> ConfigError:
        """Return the error for what has all parts, and that OpenSSL refuses all the same."""
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        return self.refused(f"cannot be used: {reason}")

    def refused(self, message: str, *, hint: str | None = None) -> ConfigError:
        """Return an error that names the option, and the path where there is one."""
        if self.location is None:
            return ConfigError(message, option=self.option, hint=hint)
        return ConfigError(message, option=self.option, value=self.location, hint=hint)

    def _lacks(self, parts: tuple[_Part, ...]) -> ConfigError | None:
        # Returned and not raised: a traceback may show the locals of its frames, so the content.
        content = self._content()
        for part in parts:
            if part.mark not in content:
                hint = self._how_to_convert(content, part)
                return self.refused(f"holds no {part.name} in PEM", hint=hint)
        return None

    def _content(self) -> bytes:
        if self.location is not None:
            return Path(self.location).read_bytes()
        assert self.text is not None
        return self.text.encode()

    def _how_to_convert(self, content: bytes, part: _Part) -> str:
        form = f"A {part.name} in PEM begins with {part.begin}."
        if self.location is None or not content.startswith((_JKS, _DER)):
            return form
        if content.startswith(_JKS):
            return how_to_convert("JKS", self.location, self.option)
        if _PKCS12.match(content):
            return how_to_convert("PKCS12", self.location, self.option)
        command = "pkey" if part is _KEY else "x509"
        source = Path(self.location)
        target = source.with_suffix(".pem").name
        return f"If it is DER: openssl {command} -inform DER -in {source.name} -out {target}."


def _source(option: str, location: str | None, text: str | None) -> _Source | None:
    """Return what the options for a file and for a text give; None where neither is set."""
    if location is not None:
        return _Source(f"{option}_location", location, None)
    return None if text is None else _Source(f"{option}_pem", None, _tidied(text))


def _tidied(text: str) -> str:
    r"""Return a PEM text with the line breaks that it needs.

    A properties file or a variable may hold it in one line, with spaces or `\n` in their place;
    a source file may indent it.
    """
    whole = text.replace("\\r", "").replace("\\n", "\n")
    found = _BLOCK.findall(whole)
    if len(found) != whole.count("-----BEGIN "):
        return _ascii(whole)  # A block has no end: OpenSSL shall see that.
    parts: list[str] = []
    for name, body in found:
        lines = [line.strip() for line in body.strip().splitlines()]
        if len(lines) == 1:
            lines = textwrap.wrap("".join(lines[0].split()), _BASE64_WIDTH)
        parts += (f"-----BEGIN {name}-----", *lines, f"-----END {name}-----")
    return _ascii("\n".join((*parts, "")))


def _ascii(text: str) -> str:
    """OpenSSL takes nothing else; what it was makes a block unusable, as it should."""
    return text.encode("ascii", "replace").decode()


def _authorities(source: _Source) -> list[_Source]:
    """Return the files of certificates in a folder, or the source itself; at least one.

    Raises:
        ConfigError: There is no certificate.
    """
    if source.location is None or not os.path.isdir(source.location):
        if source.text is not None:
            source.check(_CERTIFICATE)  # Without one, the system's authorities would be trusted.
        return [source]
    try:
        files = _files_in(source.location)
    except OSError as error:
        raise source.unreadable(error) from None
    found: list[_Source] = []
    for file in files:
        with contextlib.suppress(OSError):  # It is not for us, or gone.
            if _CERTIFICATE.mark in Path(file).read_bytes():
                found.append(_Source(source.option, file, None))
    if not found:
        raise source.refused("no file in this folder holds a certificate in PEM")
    return found


def _load_certificate(
    context: ssl.SSLContext, certificate: _Source, key: _Source, key_password: str | None
) -> None:
    """Load the client's certificate and its key.

    Raises:
        ConfigError: They cannot be used.
    """
    asked = False

    def password() -> str:
        nonlocal asked
        asked = True
        if key_password is None:
            raise _NoPasswordError
        return key_password

    try:
        with certificate.path() as certificate_path, key.path() as key_path:
            context.load_cert_chain(certificate_path, key_path, password)
    except _NoPasswordError:
        raise ConfigError(
            "not set, and the private key is encrypted", option="ssl_key_password"
        ) from None
    except (OSError, ValueError) as error:
        certificate.check(_CERTIFICATE)
        key.check(_KEY)
        if getattr(error, "reason", None) in _MISMATCHES:
            raise key.refused("the private key is not that of the certificate") from None
        if asked:
            raise ConfigError(
                "does not decrypt the private key", option="ssl_key_password"
            ) from None
        raise certificate.unusable(error) from None


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


def _files_in(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.path for entry in entries if entry.is_file())


def _stamp_of(path: str) -> tuple[int, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
