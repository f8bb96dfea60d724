"""What the scripts that need a roverd of their own share."""

import contextlib
import os
import socket
import ssl
import subprocess
import tempfile

BIN = os.environ["ROVERD_BIN"]


def equal(what, got, want):
    if got != want:
        raise SystemExit(f"{what}: got {got!r:.200}, want {want!r:.200}")


@contextlib.contextmanager
def running(args, **options):
    """A process, until the block ends; then it must end well."""
    process = subprocess.Popen(args, **options)
    try:
        yield process
    finally:
        process.terminate()
        code = process.wait(20)
    equal(f"the exit code of {args[0]}", code, 0)


@contextlib.contextmanager
def roverd(*flags):
    """A roverd's URL."""
    args = [BIN, "-sim", "-open", "-echo", "-addr", "127.0.0.1:0", "-log-level", "error", *flags]
    with running(args, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().split()[1]


@contextlib.contextmanager
def certificate():
    """The files of a new certificate for this computer and of its key, and who trusts it."""
    with tempfile.TemporaryDirectory() as at:
        cert, key = f"{at}/cert.pem", f"{at}/key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=rover", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-out", cert, "-keyout", key],
            check=True, stderr=subprocess.DEVNULL)  # fmt: skip
        yield cert, key, ssl.create_default_context(cafile=cert)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
