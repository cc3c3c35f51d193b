"""A Kerberos realm for tests: a KDC on 127.0.0.1, principals, keytabs and tickets.

The programs are MIT's, from Debian's packages krb5-kdc, krb5-admin-server and krb5-user. Everything
they write is in one folder; the system's own configuration is not touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.kafka_cluster import free_ports, wait_until
from tools.kafka_java import Listener, LocalKafka

__all__ = ["BROKER", "REALM", "SESSION_MS", "Realm", "kerberos_kafka", "missing_programs"]

REALM = "TEST.INVALID"
BROKER = "kafka/127.0.0.1"
"""The principal of the broker that `kerberos_kafka` makes."""
SESSION_MS = 2_000
"""How long one of its listeners lets a client go on before it has to log in again."""
_PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


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
        self._tickets = directory / "tickets"
        self._kdc: subprocess.Popen[bytes] | None = None
        self.config = directory / "krb5.conf"
        self.environ = {
            "KRB5_CONFIG": str(self.config),
            "KRB5CCNAME": f"FILE:{self._tickets}",
        }

    def __enter__(self) -> Self:
        """Make the realm and start its KDC."""
        self._write_config()
        self._run("kdb5_util", "create", "-s", "-r", REALM, "-P", "master")
        self._kdc = subprocess.Popen(
            [self._program("krb5kdc"), "-n", "-r", REALM],
            env=self._environ(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if not wait_until(self._answers, timeout=10):
            self.stop()
            raise AssertionError("the KDC does not answer")
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

    def pause(self) -> None:
        """Freeze the KDC: it takes connections and answers nothing."""
        assert self._kdc is not None
        self._kdc.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._kdc.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused KDC go on."""
        assert self._kdc is not None
        self._kdc.send_signal(signal.SIGCONT)

    def logins(self, name: str) -> int:
        """Count how often a principal has got its first ticket from the KDC."""
        log = (self._directory / "kdc.log").read_text()
        return sum(
            "AS_REQ" in line and "ISSUE" in line and f" {name}@{REALM} for " in line
            for line in log.splitlines()
        )

    def principal(self, name: str, *, ticket_life: str = "1h") -> None:
        """Make a principal with a random key."""
        self._administer("addprinc", "-randkey", "-maxlife", ticket_life, name)

    def change(self, name: str, *attributes: str) -> None:
        """Change attributes of a principal, as kadmin's `modprinc` names them."""
        self._administer("modprinc", *attributes, name)

    def change_key(self, name: str) -> None:
        """Give a principal a new key, which no keytab has."""
        self._administer("cpw", "-randkey", name)

    def keytab(self, name: str) -> Path:
        """Write the key of a principal into a keytab."""
        path = self._directory / f"{name.replace('/', '-')}.keytab"
        path.unlink(missing_ok=True)
        self._administer("ktadd", "-norandkey", "-k", str(path), name)
        return path

    def log_in(self, name: str, *, life: str = "1h") -> None:
        """Get a ticket for a principal into the ticket cache of `environ`."""
        self._run("kinit", "-l", life, "-k", "-t", str(self.keytab(name)), name)

    def log_out(self) -> None:
        """Throw the tickets away."""
        self._tickets.unlink(missing_ok=True)

    def set_clock(self, seconds: int) -> None:
        """Make the clock of who uses the ticket cache wrong, by so many seconds ahead.

        The cache says in its header how far the KDC's clock is from the client's, and MIT's
        library adds that to the time: after the version, two bytes of the header's length, and the
        fields, here one: its tag, its length, seconds and microseconds.
        """
        cache = self._tickets.read_bytes()
        (length,) = struct.unpack_from(">H", cache, 2)
        header = struct.pack(">HHii", 1, 8, seconds, 0)
        size = struct.pack(">H", len(header))
        self._tickets.write_bytes(cache[:2] + size + header + cache[4 + length :])

    def _write_config(self) -> None:
        self.config.write_text(
            f"""\
[libdefaults]
    default_realm = {REALM}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
[realms]
    {REALM} = {{
        kdc = 127.0.0.1:{self._port}
    }}
[domain_realm]
    127.0.0.1 = {REALM}
"""
        )
        (self._directory / "kdc.conf").write_text(
            f"""\
[realms]
    {REALM} = {{
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

    def _administer(self, *arguments: str) -> None:
        self._run("kadmin.local", "-r", REALM, *arguments)

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


def kerberos_kafka(realm: Realm, *, super_users: Sequence[str]) -> LocalKafka:
    """Return a Kafka, not started, with the listeners GSSAPI and GSSAPI_FORWARDED.

    The second is for a `Forwarder`, and its sessions last `SESSION_MS`.

    Args:
        realm: Where its principal is made, `BROKER`.
        super_users: Which principals may do anything; others may do nothing.
    """
    realm.principal(BROKER)
    login = (
        "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true"
        f' keyTab="{realm.keytab(BROKER)}" principal="{BROKER}@{REALM}";'
    )
    kerberos = {
        "sasl.enabled.mechanisms": "GSSAPI",
        "gssapi.sasl.jaas.config": login,
        "sasl.kerberos.service.name": "kafka",
    }
    sessions = {**kerberos, "connections.max.reauth.ms": SESSION_MS}
    trusted = ["ANONYMOUS", *super_users]  # The first is the PLAINTEXT listener's.
    return LocalKafka(
        config={
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": ";".join(f"User:{name}" for name in trusted),
        },
        listeners={
            "GSSAPI": Listener("SASL_PLAINTEXT", kerberos),
            "GSSAPI_FORWARDED": Listener("SASL_PLAINTEXT", sessions, is_forwarded=True),
        },
        jvm_options=[f"-Djava.security.krb5.conf={realm.config}"],
    )
