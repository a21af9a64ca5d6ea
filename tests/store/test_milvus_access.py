"""A Milvus that asks for a token, and one that speaks TLS."""

import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.milvus_server import MilvusServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def guarded() -> Generator[tuple[str, Path]]:
    """The URL of a server with both, and the certificate that it has."""
    with TemporaryDirectory(prefix="milvus-") as folder:
        certificate, key = Path(folder, "server.pem"), Path(folder, "server.key")
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "2",
             "-keyout", key, "-out", certificate],
            check=True, capture_output=True,
        )  # fmt: skip
        server = MilvusServer(
            Path(folder, "milvus"),
            authorization_enabled=True,
            tls_mode=1,
            server_pem_path=str(certificate),
            server_key_path=str(key),
        )
        server.start()
        yield server.url.replace("http:", "https:"), certificate
        server.close()


ASK = """
import sys
from app.store.milvus.client import Milvus
milvus = Milvus(sys.argv[1], token=sys.argv[2])
milvus.create("made", 2)
print(milvus.count("made"))
milvus.drop("made")
"""


def ask(url: str, token: str, trusted: Path | None) -> subprocess.CompletedProcess[str]:
    """Use it in a process of its own: gRPC reads the certificates that it trusts once."""
    environment = dict(os.environ)
    if trusted is not None:
        environment["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(trusted)
    return subprocess.run(
        [sys.executable, "-c", ASK, url, token],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_milvus_is_asked_with_a_token_by_tls_if_its_certificate_is_trusted(
    guarded: tuple[str, Path],
) -> None:
    url, certificate = guarded
    answer = ask(url, "root:Milvus", certificate)
    assert answer.stdout == "0\n", answer.stderr
    refused = ask(url, "root:Milvus", None)
    assert refused.returncode == 1
    assert "MilvusUnavailable" in refused.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("token", "said"), [("", "missing authorization"), ("root:other", "auth check failure")]
)
def test_what_is_wrong_with_a_token_is_said(
    guarded: tuple[str, Path], token: str, said: str
) -> None:
    answer = ask(guarded[0], token, guarded[1])
    assert answer.returncode == 1
    assert said in answer.stderr.splitlines()[-1]
