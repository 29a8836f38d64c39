"""Submission ports: what goes without saying there, and what is a mistake; each with its exact text."""

from __future__ import annotations

from mta.config.settings import Listen
from tests.config.common import LEAST, ConfigCase


class SubmissionTests(ConfigCase):
    """submission, check_from."""

    def setUp(self) -> None:
        super().setUp()
        self.identity()
        self.secret("users", "anna:secret\n")
        self.tls = '[tls]\ncertificate = "tls/cert.pem"\nkey = "tls/key.pem"\n'
        self.auth = '[auth]\npasswords = "users"\n'

    def port(self, text: str = "", *wanted: str, submission: bool = True) -> Listen | None:
        """A port with these mistakes, or what it comes to."""
        said = "submission = true" if submission else ""
        listen = f'[[listen]]\nendpoint = "tcp:587"\n{said}\n{text}\n{self.tls}{self.auth}'
        if wanted:
            self.say(listen, *wanted)
            return None
        return self.load(LEAST + listen).listen[0]

    def test_nothing_more_to_say(self) -> None:
        """A submission port wants TLS and a login, and offers what every mail program has; with either way to TLS."""
        for tls in ("starttls", "implicit"):
            listen = self.port(f'tls = "{tls}"')
            assert listen is not None
            self.assertEqual((listen.mail_requires, listen.auth_tls, listen.auth_clear), ("tls+auth", ("PLAIN", "LOGIN"), ()))

    def test_other_ports(self) -> None:
        """They want nothing and offer nothing, unless told."""
        listen = self.port(submission=False)
        assert listen is not None
        self.assertEqual((listen.mail_requires, listen.auth_tls), ("none", ()))

    def test_told(self) -> None:
        """What the file says counts, here too; also no TLS at all, behind something that has taken it off."""
        listen = self.port('mail_requires = "auth"\nauth_tls = ["CRAM-MD5"]')
        assert listen is not None
        self.assertEqual((listen.mail_requires, listen.auth_tls), ("auth", ("CRAM-MD5",)))
        listen = self.port('tls = "none"\nmail_requires = "auth"\nauth_clear = ["PLAIN"]')
        assert listen is not None
        self.assertEqual((listen.auth_clear, listen.auth_tls), (("PLAIN",), ()))

    def test_who_has_not_logged_in(self) -> None:
        """RFC 6409 4.3: he hands in nothing."""
        text = "a submission port takes mail from nobody who has not logged in: 'auth' or 'tls+auth', not"
        for word in ("none", "tls", "tls-or-auth"):
            self.port(f'mail_requires = "{word}"', f"4: listen[0].mail_requires: {text} {word!r}")

    def test_nobody_can_log_in(self) -> None:
        """No accounts, no certificate, no mechanism: one mistake for each, and it can be understood."""
        self.auth = ""
        [mistake] = self.mistakes(f'{LEAST}[[listen]]\nendpoint = "tcp:587"\nsubmission = true\n{self.tls}')
        self.assertIn("listen[0].auth_tls: mechanisms are offered, and", mistake)
        self.assertIn("[auth] passwords", mistake)
        self.tls, self.auth = "", '[auth]\npasswords = "users"\n'
        self.port("", "1: listen[0].mail_requires: 'tls+auth' needs the certificate and key of [tls]")
        text = "'auth' with no mechanism in auth_clear and auth_tls: no client could ever send"
        self.port('tls = "none"\nmail_requires = "auth"', f"5: listen[0].mail_requires: {text}")

    def test_check_from(self) -> None:
        """The From header is read on submission ports, and compared where senders are bound."""
        self.auth = '[auth]\npasswords = "users"\nsenders = "bound"\n'
        listen = self.port("check_from = true")
        assert listen is not None
        self.assertTrue(listen.check_from)
        self.port(
            "check_from = true", "4: listen[0].check_from: only a port with submission = true reads headers", submission=False
        )
        self.auth = '[auth]\npasswords = "users"\n'
        text = "does nothing while everybody may send as anybody ([auth] senders)"
        self.port("check_from = true", f"4: listen[0].check_from: {text}")
