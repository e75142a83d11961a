"""PostgreSQL of this machine, started as its container image is: a fresh PGDATA is initialised from the environment.

    run.py postgres [postgres] ARGUMENT…      POSTGRES_PASSWORD, _USER, _DB, _HOST_AUTH_METHOD, _INITDB_ARGS, PGDATA

In: an environment. Out: a server on port 5432 at all addresses, in this process; as root it becomes the machine's user
`postgres` first. Scripts in /docker-entrypoint-initdb.d (*.sh, *.sql) run once.
"""

from __future__ import annotations

import glob
import os
import pwd
import subprocess
import sys
import tempfile
from pathlib import Path


def binaries() -> Path:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: float(path.split("/")[4]))
    if not found:
        raise SystemExit("postgres: not on this machine: apt-get install postgresql")
    return Path(found[-1])


def become_postgres(data: Path) -> None:
    """A database server refuses to be root."""
    account = pwd.getpwnam("postgres")
    for directory in (data, Path("/var/run/postgresql")):
        directory.mkdir(parents=True, exist_ok=True)
        os.chown(directory, account.pw_uid, account.pw_gid)
    os.setgroups([account.pw_gid])
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    os.environ["HOME"] = account.pw_dir


def initialise(data: Path, tools: Path) -> None:
    """Makes the cluster of databases. Ends the process when no password was given."""
    environment = os.environ
    user, method = environment.get("POSTGRES_USER") or "postgres", environment.get("POSTGRES_HOST_AUTH_METHOD", "")
    password = environment.get("POSTGRES_PASSWORD", "")
    if file := environment.get("POSTGRES_PASSWORD_FILE"):
        password = Path(file).read_text().rstrip("\n")
    if not password and method != "trust":
        raise SystemExit("Error: Database is uninitialized and superuser password is not specified.\n"
                         "       Set POSTGRES_PASSWORD to a non-empty value.")  # fmt: skip
    extra = environment.get("POSTGRES_INITDB_ARGS", "").split()
    with tempfile.NamedTemporaryFile("w") as secret:
        secret.write(password + "\n")
        secret.flush()
        words = [f"--username={user}", f"--pwfile={secret.name}"] if password else [f"--username={user}"]
        subprocess.run([str(tools / "initdb"), "-D", str(data), *words, *extra], check=True)
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write(f"\nhost all all all {method or 'scram-sha-256'}\n")
    _prepare(data, tools, user)


def _prepare(data: Path, tools: Path, user: str) -> None:
    """The database that was wanted, and scripts, on a server that nobody reaches yet."""
    database = os.environ.get("POSTGRES_DB") or user
    scripts = sorted(glob.glob("/docker-entrypoint-initdb.d/*"))
    if database == "postgres" and not scripts:
        return
    sockets = tempfile.mkdtemp()
    control, options = str(tools / "pg_ctl"), f"-c listen_addresses='' -k {sockets}"
    subprocess.run([control, "-D", str(data), "-o", options, "-w", "start"], check=True)
    psql = [str(tools / "psql"), "-v", "ON_ERROR_STOP=1", "-h", sockets, "-U", user, "--no-password", "--no-psqlrc"]
    try:
        if database != "postgres":
            quoted = database.replace('"', '""')
            subprocess.run([*psql, "-d", "postgres", "-c", f'CREATE DATABASE "{quoted}"'], check=True)
        for script in scripts:
            if script.endswith(".sql"):
                subprocess.run([*psql, "-d", database, "-f", script], check=True)
            elif script.endswith(".sh"):
                variables = {**os.environ, "PGHOST": sockets, "PGUSER": user, "PGDATABASE": database}
                subprocess.run(["bash", script], check=True, env=variables)
    finally:
        subprocess.run([control, "-D", str(data), "-m", "fast", "-w", "stop"], check=True)


def main(arguments: list[str]) -> None:
    words = arguments[1:] if arguments[:1] == ["postgres"] else arguments
    if words and not words[0].startswith("-"):
        os.execvp(words[0], words)
    tools = binaries()
    data = Path(os.environ.get("PGDATA") or "/var/lib/postgresql/data")
    if os.getuid() == 0:
        become_postgres(data)
    data.mkdir(parents=True, exist_ok=True)
    data.chmod(0o700)
    if not (data / "PG_VERSION").exists():
        try:
            initialise(data, tools)
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)
    sockets = "/var/run/postgresql" if os.access("/var/run/postgresql", os.W_OK) else "/tmp"
    server = str(tools / "postgres")
    os.execv(server, [server, "-D", str(data), "-c", "listen_addresses=*", "-k", sockets, *words])
