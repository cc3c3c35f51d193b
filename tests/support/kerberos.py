"""A Kerberos realm for tests: a KDC on 127.0.0.1, principals, keytabs and tickets.

The programs are MIT's, from Debian's packages krb5-kdc, krb5-admin-server and krb5-user. Everything
they write is in one folder; the system's own configuration is not touched.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.kafka_cluster import free_ports, wait_until
from tools.kafka_java import Listener, LocalKafka

__all__ = ["Realm", "kerberos_kafka", "missing_programs"]

_REALM = "TEST.INVALID"
_PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
BROKER = f"kafka/127.0.0.1@{_REALM}"


def missing_programs() -> list[str]:
    """Return the programs of Kerberos that are not installed."""
    return [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]


class Realm:
    """A realm, while its KDC runs.

    Args:
        directory: Where all of its files go.

    Attributes:
        environ: What a client has to have in its environment.
        config: The client's krb5.conf.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        (self._port,) = free_ports(1)
        self._kdc: subprocess.Popen[bytes] | None = None
        self.config = directory / "krb5.conf"
        self.environ = {
            "KRB5_CONFIG": str(self.config),
            "KRB5CCNAME": f"FILE:{directory / 'tickets'}",
        }

    def __enter__(self) -> Self:
        """Make the realm and start its KDC."""
        self._write_config()
        self._run("kdb5_util", "create", "-s", "-r", _REALM, "-P", "master")
        self._kdc = subprocess.Popen(
            [self._program("krb5kdc"), "-n", "-r", _REALM],
            env=self._environ(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        assert wait_until(self._answers, timeout=10), "the KDC does not answer"
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the KDC."""
        self.stop()

    def stop(self) -> None:
        """Stop the KDC; what has a ticket goes on."""
        if self._kdc is not None:
            self._kdc.kill()
            self._kdc.wait()
            self._kdc = None

    def principal(self, name: str, *, ticket_life: str = "1h") -> str:
        """Make a principal with a random key, and return its full name."""
        self._run(
            "kadmin.local", "-r", _REALM, "addprinc", "-randkey", "-maxlife", ticket_life, name
        )
        return f"{name}@{_REALM}" if "@" not in name else name

    def keytab(self, name: str) -> Path:
        """Write the key of a principal into a keytab."""
        path = self._directory / f"{name.replace('/', '-').partition('@')[0]}.keytab"
        path.unlink(missing_ok=True)
        self._run("kadmin.local", "-r", _REALM, "ktadd", "-norandkey", "-k", str(path), name)
        return path

    def log_in(self, name: str, *, life: str = "1h") -> None:
        """Get a ticket for a principal into the ticket cache of `environ`."""
        self._run("kinit", "-l", life, "-k", "-t", str(self.keytab(name)), name)

    def log_out(self) -> None:
        """Throw the tickets away."""
        (self._directory / "tickets").unlink(missing_ok=True)

    def _write_config(self) -> None:
        self.config.write_text(
            f"""\
[libdefaults]
    default_realm = {_REALM}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
[realms]
    {_REALM} = {{
        kdc = 127.0.0.1:{self._port}
    }}
[domain_realm]
    127.0.0.1 = {_REALM}
"""
        )
        (self._directory / "kdc.conf").write_text(
            f"""\
[realms]
    {_REALM} = {{
        database_name = {self._directory / "principals"}
        key_stash_file = {self._directory / "stash"}
        acl_file = {self._directory / "acl"}
        kdc_listen = 127.0.0.1:{self._port}
        kdc_tcp_listen = 127.0.0.1:{self._port}
    }}
[logging]
    kdc = FILE:{self._directory / "kdc.log"}
"""
        )

    def _environ(self) -> Mapping[str, str]:
        profile = {"KRB5_KDC_PROFILE": str(self._directory / "kdc.conf")}
        return {**os.environ, **self.environ, **profile}

    def _program(self, name: str) -> str:
        found = shutil.which(name, path=_PATH)
        assert found is not None, name
        return found

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._program(program), *arguments]
        done = subprocess.run(
            command, env=self._environ(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True


def kerberos_kafka(realm: Realm) -> LocalKafka:
    """Return a Kafka, not started, with a listener named GSSAPI."""
    realm.principal(BROKER.partition("@")[0])
    keytab = realm.keytab(BROKER.partition("@")[0])
    login = (
        "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true"
        f' keyTab="{keytab}" principal="{BROKER}";'
    )
    return LocalKafka(
        listeners={
            "GSSAPI": Listener(
                "SASL_PLAINTEXT",
                {
                    "sasl.enabled.mechanisms": "GSSAPI",
                    "gssapi.sasl.jaas.config": login,
                    "sasl.kerberos.service.name": "kafka",
                },
            )
        },
        jvm_options=[f"-Djava.security.krb5.conf={realm.config}"],
    )
