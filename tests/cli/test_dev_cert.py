"""`mta dev-cert`: writes once, renews its own, touches nobody else's."""

from __future__ import annotations

import stat
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

from click.testing import CliRunner, Result
from cryptography import x509
from twisted.trial.unittest import SynchronousTestCase

from mta.cli import dev_cert as module
from mta.cli.main import main
from mta.config.settings import Tls
from mta.testing.pki import Authority
from mta.tls.context import ServerTls


class DevCertTests(SynchronousTestCase):
    """In a directory that is not there yet."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()) / "var" / "tls"
        self.certificate, self.key = self.directory / "cert.pem", self.directory / "key.pem"

    def run_it(self) -> Result:
        return CliRunner().invoke(main, ["dev-cert", str(self.directory)])

    def pair(self) -> tuple[bytes, bytes]:
        return self.certificate.read_bytes(), self.key.read_bytes()

    def test_written(self) -> None:
        """A pair that serves, for the loopback names, the key for its owner only, and no other file."""
        result = self.run_it()
        self.assertEqual((0, ""), (result.exit_code, result.stderr))
        self.assertTrue(ServerTls.load(Tls(self.certificate, self.key)).offered)
        leaf = x509.load_pem_x509_certificates(self.certificate.read_bytes())[0]
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(["localhost"], names.get_values_for_type(x509.DNSName))
        self.assertEqual([ip_address("127.0.0.1"), ip_address("::1")], names.get_values_for_type(x509.IPAddress))
        self.assertEqual(0o600, stat.S_IMODE(self.key.stat().st_mode))
        self.assertEqual(["cert.pem", "key.pem"], sorted(path.name for path in self.directory.iterdir()))

    def test_left_alone(self) -> None:
        """A valid pair stays as it is."""
        self.run_it()
        before = self.pair()
        result = self.run_it()
        self.assertIn("valid, left as it is", result.stdout)
        self.assertEqual(before, self.pair())

    def test_renewed(self) -> None:
        """Near its end, without its key, or with another key: a new pair."""
        self.run_it()
        for spoil in (
            lambda: self.patch(module, "_SPARE", timedelta(days=31)),
            lambda: (self.patch(module, "_SPARE", timedelta(days=1)), self.key.unlink()),
            lambda: self.key.write_bytes(Authority.create().issue("localhost").key_pem),
            lambda: self.key.write_bytes(b"half a ke"),
        ):
            before = self.certificate.read_bytes()
            spoil()
            self.assertIn("written", self.run_it().stdout)
            self.assertNotEqual(before, self.certificate.read_bytes())
            ServerTls.load(Tls(self.certificate, self.key))

    def test_not_ours(self) -> None:
        """A certificate of somebody else, a key that waits for its certificate, a file that is neither: never touched."""
        self.directory.mkdir(parents=True)
        issued = Authority.create("Real CA").issue("mx1.example.org", expired=True)
        for certificate, key in ((issued.certificate_pem, issued.key_pem), (b"?", b"??"), (None, issued.key_pem)):
            self.certificate.unlink(missing_ok=True)
            if certificate is not None:
                self.certificate.write_bytes(certificate)
            self.key.write_bytes(key)
            result = self.run_it()
            self.assertEqual(0, result.exit_code)
            self.assertIn("dev-cert did not make; left as it is", result.stderr)
            self.assertEqual(key, self.key.read_bytes())
            self.assertEqual(certificate, self.certificate.read_bytes() if self.certificate.exists() else None)

    def test_no_room(self) -> None:
        """A directory that cannot be made: one line, status 1."""
        self.directory.parent.parent.mkdir()
        self.directory.parent.write_text("a file")
        result = self.run_it()
        self.assertEqual(1, result.exit_code)
        self.assertIn("Not a directory", result.output)
        self.assertNotIn("Traceback", result.output)
