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
        self.say(
            '[tls]\ncertificate = "tls/cert.pem"\nkey = "other/key.pem"\n',
            "3: tls.key: 'DIR/other/key.pem' is not the key of 'DIR/tls/cert.pem'",
        )

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


class MoreFilesTests(ConfigCase):
    """Certificates for names and destinations, and files with passwords."""

    def test_certificates_for_names(self) -> None:
        """S40: each pair of [[tls.sni]] is read; offer-nothing forgives them like the first."""
        self.identity()
        self.identity("other")
        sni = '[[tls.sni]]\nnames = "a.org"\ncertificate = "{}"\nkey = "{}"\n'
        rest = sni.format("nix.pem", "tls/cert.pem") + sni.format("tls/cert.pem", "other/key.pem")
        self.say(
            TLS + rest,
            "6: tls.sni[0].certificate: 'DIR/nix.pem' cannot be read: No such file or directory",
            "7: tls.sni[0].key: 'DIR/tls/cert.pem' is no private key in PEM",
            "11: tls.sni[1].key: 'DIR/other/key.pem' is not the key of 'DIR/tls/cert.pem'",
        )
        self.assertEqual(2, len(self.load(f'{LEAST}{TLS}error = "offer-nothing"\n{rest}').tls.sni))

    def test_authorities_and_destinations(self) -> None:
        """C04: what is shown to servers, and who is trusted for clients and destinations."""
        self.identity()
        self.identity("other")
        self.say(
            '[tls]\nclient_cert = "ask"\nclient_ca = ["tls/cert.pem", "tls/key.pem"]\n[[tls_policy]]\nmatch = "a.org"\n'
            'ca = "nix.pem"\ncertificate = "tls/cert.pem"\nkey = "other/key.pem"\n',
            "3: tls.client_ca[1]: 'DIR/tls/key.pem' is no certificate in PEM",
            "6: tls_policy[0].ca[0]: 'DIR/nix.pem' cannot be read: No such file or directory",
            "8: tls_policy[0].key: 'DIR/other/key.pem' is not the key of 'DIR/tls/cert.pem'",
        )

    def test_passwords_of_users(self) -> None:
        """Readable by the owner alone, with a line for each user."""
        path = self.secret("users", "# staff\n\nanna:secret\nbo:a:b\n")
        auth = '[auth]\npasswords = "users"'
        self.assertEqual(path, self.load(f"{LEAST}{auth}").auth.passwords)
        for mode in (0o640, 0o604, 0o602, 0o620):
            path.chmod(mode)
            self.say(auth, "2: auth.passwords: 'DIR/users' may be read or changed by others than its owner; chmod 600 is wanted")
        path.chmod(0o600)
        for text, fault in (
            ("", "empty; a line 'user:password' for each user is wanted"),
            ("# nobody\n", "empty; a line 'user:password' for each user is wanted"),
            ("# staff\nanna:x\nbo\n", "wrong in line 3; 'user:password' is wanted"),
            ("anna:\n", "wrong in line 1; 'user:password' is wanted"),
            (":x\n", "wrong in line 1; 'user:password' is wanted"),
            ("bo:x\nanna:x\nbo:y\n", "wrong in line 3; this user has a password already"),
            ("b\udcfc:x\n", "not in UTF-8"),
            ("bo:x\nanna:{SCRAM-SHA-256}x\n", "wrong in line 2: no verifier of SCRAM-SHA-256"),
        ):
            path.write_bytes(text.encode("utf-8", "surrogateescape"))
            self.say(auth, f"2: auth.passwords: 'DIR/users' is {fault}")

    def test_maps_of_logins(self) -> None:
        """They must be there to be read."""
        auth = '[auth]\ncertificates = "logins"\nsenders = "bound"\nsender_map = "senders"'
        wrong = "cannot be read: No such file or directory"
        self.say(auth, f"2: auth.certificates: 'DIR/logins' {wrong}", f"4: auth.sender_map: 'DIR/senders' {wrong}")
        self.secret("logins", "")
        self.secret("senders", "")
        self.load(f"{LEAST}{auth}")

    def test_password_of_a_route(self) -> None:
        """The same for the one password of a relay."""
        path = self.secret("pw", "secret\n")
        route = '[[route]]\nmatch = "*"\nrelay = "[a.org]"\ntls = "verify"\nauth = {user = "u", password_file = "pw"}'
        self.load(f"{LEAST}{route}")
        key = "5: route[0].auth.password_file: 'DIR/pw'"
        path.write_text("\n")
        self.say(route, f"{key} is without a password in its first line")
        path.write_text("secret")
        path.chmod(0o644)
        self.say(route, f"{key} may be read or changed by others than its owner; chmod 600 is wanted")
        path.unlink()
        self.say(route, f"{key} cannot be read: No such file or directory")
