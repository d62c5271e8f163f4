"""A real PostgreSQL, beside the tests."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from programs import installed

OWNER, READER, PASSWORD = "owner", "reader", "s3cr3t-of-the-reader"


class PostgresServer(NamedTuple):
    """It listens on a socket in `folder` and, where there is one, at an `address`."""

    folder: Path
    psql: str
    address: str = ""
    port: int = 5432

    def url(self, user: str = READER, password: str = PASSWORD, database: str = "postgres") -> str:
        """By which it is reached on this machine."""
        return f"postgresql://{user}:{password}@/{database}?host={self.folder}&port={self.port}"

    def url_of_others(self, user: str = READER, password: str = PASSWORD, database: str = "postgres") -> str:
        """By which it is reached at its address."""
        return f"postgresql://{user}:{password}@{self.address}:{self.port}/{database}"

    def run(self, sql: str) -> None:
        """Run statements as the owner."""
        command = [self.psql, "--quiet", "--no-psqlrc", "-v", "ON_ERROR_STOP=1", self.url(OWNER), "-c", sql]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def running(address: str = "", pem: bytes = b"") -> Iterator[PostgresServer]:
    """A new, empty PostgreSQL with a user who may read; it refuses root, which then lends it to nobody.

    `pem`: the key and the certificates of one that speaks TLS at its address.
    """
    programs = Path(installed("postgres")).resolve().parent  # it may be a link to where the others are
    # Not pytest's folder, which only its owner may enter; and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="mmill-pg-"))
    secret = folder / "password"
    secret.write_text(PASSWORD)
    identity = folder / "identity.pem"
    identity.write_bytes(pem)
    identity.chmod(0o600)
    user: dict[str, object] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        for path in (folder, secret, identity):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), "-D", str(folder / "data"), *arguments]
        variables = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        subprocess.run(command, check=True, cwd=folder, env=variables, stdout=subprocess.DEVNULL, **user)

    try:
        run("initdb", "-A", "scram-sha-256", "-U", OWNER, f"--pwfile={secret}", "--no-sync")
        port = _free_port(address) if address else 5432
        with (folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet scram-sha-256\n")
        options = f"-c listen_addresses='{address}' -p {port} -c fsync=off -k {folder}"
        if pem:
            options += f" -c ssl=on -c ssl_key_file={identity} -c ssl_cert_file={identity}"
        run("pg_ctl", "--wait", "-l", str(folder / "log"), "-o", options, "start")
        try:
            server = PostgresServer(folder, str(programs / "psql"), address, port)
            server.run(f"CREATE ROLE {READER} LOGIN PASSWORD '{PASSWORD}'")
            server.run(f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {READER}")
            yield server
        finally:
            run("pg_ctl", "--wait", "--mode=immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_port(address: str) -> int:
    with socket.socket() as free:
        free.bind((address, 0))
        return int(free.getsockname()[1])
