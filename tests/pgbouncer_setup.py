"""Installs PgBouncer for the slow tests, as root on Debian: `python -m tests.pgbouncer_setup`."""

import os
import shutil
import subprocess


def main() -> None:
    if shutil.which("pgbouncer") or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    print("Installing PgBouncer from the distribution, for the slow tests (once)", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "-y", "--no-install-recommends", "pgbouncer"]):
        subprocess.run(
            ["apt-get", "-qq", *command], check=False, stdout=subprocess.DEVNULL, env=environment
        )


if __name__ == "__main__":
    main()
