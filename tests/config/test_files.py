"""Certificates and keys: missing, unreadable, wrong, not belonging together; and what `offer-nothing` forgives."""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.config.common import LEAST, ConfigCase

TLS = '[tls]\ncertificate = "tls/cert.pem"\nkey = "tls/key.pem"\n'


class FilesTests(ConfigCase):
    """What [tls] and [tls_client] trust name."""

    def test_right(self) -> None:
        """They load, and the paths are absolute."""
        certificate, key = self.identity()
        settings = self.load(LEAST + TLS)
        self.assertEqual((certificate, key), (settings.tls.certificate, settings.tls.key))

    def test_missing(self) -> None:
        """Both are missed at once."""
        self.say(
            TLS,
            "2: tls.certificate: 'DIR/tls/cert.pem' cannot be read: No such file or directory",
            "3: tls.key: 'DIR/tls/key.pem' cannot be read: No such file or directory",
        )

    def test_a_directory(self) -> None:
        """Something is there, and it is no file."""
        certificate, _ = self.identity()
        certificate.unlink()
        certificate.mkdir()
        self.say(TLS, "2: tls.certificate: 'DIR/tls/cert.pem' cannot be read: Is a directory")

    def test_not_what_they_should_be(self) -> None:
        """The two files swapped."""
        self.identity()
        self.say(
            '[tls]\ncertificate = "tls/key.pem"\nkey = "tls/cert.pem"\n',
            "2: tls.certificate: 'DIR/tls/key.pem' is no certificate in PEM",
            "3: tls.key: 'DIR/tls/cert.pem' is no private key in PEM",
        )

    def test_passphrase(self) -> None:
        """A service cannot ask for one."""
        _, key = self.identity()
        encryption = serialization.BestAvailableEncryption(b"secret")
        private = load_pem_private_key(key.read_bytes(), None)
        key.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
        self.say(TLS, "3: tls.key: 'DIR/tls/key.pem' is encrypted; a key without passphrase is wanted")

    def test_not_a_pair(self) -> None:
        """The key of another certificate."""
        self.identity()
        self.identity("other")
        [mistake] = self.mistakes(LEAST + '[tls]\ncertificate = "tls/cert.pem"\nkey = "other/key.pem"\n')
        self.assertIn("DIR/mta.toml:5: tls.key: DIR/other/key.pem does not fit DIR/tls/cert.pem: ", mistake)

    def test_ciphers(self) -> None:
        """A cipher string that OpenSSL does not take is a mistake of that key."""
        self.identity()
        [mistake] = self.mistakes(LEAST + TLS + 'ciphers = "NONSENSE"\n')
        self.assertTrue(mistake.startswith("DIR/mta.toml:6: tls.ciphers: no cipher match"), mistake)

    def test_offer_nothing(self) -> None:
        """Then the service starts without them, so they are no mistakes."""
        self.assertEqual("offer-nothing", self.load(LEAST + TLS + 'error = "offer-nothing"').tls.error)

    def test_trust(self) -> None:
        """Every file of authorities is read."""
        certificate, _ = self.identity()
        self.say(
            '[tls_client]\ntrust = ["tls/cert.pem",\n "tls/key.pem",\n "nix.pem"]\n',
            "3: tls_client.trust[1]: 'DIR/tls/key.pem' is no certificate in PEM",
            "4: tls_client.trust[2]: 'DIR/nix.pem' cannot be read: No such file or directory",
        )
        self.assertEqual((certificate,), self.load(LEAST + '[tls_client]\ntrust = "tls/cert.pem"').tls_client.trust)
