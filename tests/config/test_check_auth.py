"""Who must prove who he is: mail_requires, the mechanisms of ports, the credentials of routes; each with its exact text."""

from __future__ import annotations

from mta.config.settings import RouteAuth
from mta.smtp.extension import KEYWORDS
from tests.config.common import LEAST, ConfigCase

KNOWN = f"{', '.join(map(repr, KEYWORDS[:-1]))} or {KEYWORDS[-1]!r}"


MECHANISM_WANTED = (
    "'PLAIN', 'LOGIN', 'CRAM-MD5', 'SCRAM-SHA-256', 'SCRAM-SHA-256-PLUS', 'EXTERNAL', 'OAUTHBEARER' or 'XOAUTH2' is wanted"
)


class ListenTests(ConfigCase):
    """mail_requires, auth_clear, auth_tls."""

    def setUp(self) -> None:
        super().setUp()
        self.identity()
        self.secret("users", "anna:secret\n")
        self.tail = '[tls]\ncertificate = "tls/cert.pem"\nkey = "tls/key.pem"\n[auth]\npasswords = "users"\n'

    def port(self, text: str, *wanted: str, endpoint: str = "tcp:587") -> None:
        """One [[listen]] has these mistakes, or none."""
        listen = f'[[listen]]\nendpoint = "{endpoint}"\n{text}\n{self.tail}'
        if wanted:
            self.say(listen, *wanted)
        else:
            self.load(LEAST + listen)

    def test_words(self) -> None:
        """S20 S21: mechanisms and demands are known words."""
        self.port(
            'mail_requires = "TLS"\nauth_clear = ["CRAM-MD5"]\nauth_tls = ["plain", "X"]',
            "3: listen[0].mail_requires: 'none', 'tls', 'auth', 'tls-or-auth' or 'tls+auth' is wanted, not 'TLS'; did you mean 'tls'?",
            f"5: listen[0].auth_tls[0]: {MECHANISM_WANTED}, not 'plain'; did you mean 'PLAIN'?",
            f"5: listen[0].auth_tls[1]: {MECHANISM_WANTED}, not 'X'",
        )

    def test_withheld(self) -> None:
        """Keywords and ways of VRFY are known words; what mail_requires demands must not be withheld."""
        self.port(
            'vrfy = "on"\nwithhold = ["DSN", "STARTLS"]',
            "3: listen[0].vrfy: '252', 'off' or 'local' is wanted, not 'on'",
            "4: listen[0].withhold[1]: " + KNOWN + " is wanted, not 'STARTLS'; did you mean 'STARTTLS'?",
        )
        offers = 'auth_tls = ["PLAIN"]\n'
        text = "is withheld, and mail_requires = 'tls+auth': no client could ever send"
        self.port(
            f'{offers}mail_requires = "tls+auth"\nwithhold = ["AUTH", "STARTTLS"]',
            f"5: listen[0].withhold: STARTTLS {text}",
            f"5: listen[0].withhold: AUTH {text}",
        )
        self.port(f'{offers}tls = "implicit"\nmail_requires = "tls+auth"\nwithhold = ["STARTTLS"]')
        self.port('mail_requires = "tls-or-auth"\nauth_clear = ["CRAM-MD5"]\nwithhold = ["STARTTLS", "CHUNKING"]')

    def test_public_port(self) -> None:
        """S22: TLS demanded of everybody on port 25 is refused unless the operator says that he knows (RFC 3207 4)."""
        text = "on port 25: a public server must not demand TLS (RFC 3207 4); if this one is not public, i_know = true"
        offers = 'auth_tls = ["PLAIN"]\n'
        for word in ("tls", "tls+auth"):
            for endpoint in ("tcp:25", "tcp:25:interface=192.0.2.1", "tcp:port=25", "tcp:interface=192.0.2.1:port=25", "tcp6:25"):
                demand = f'{offers}mail_requires = "{word}"'
                self.port(demand, f"4: listen[0].mail_requires: '{word}' {text}", endpoint=endpoint)
                self.port(f"{demand}\ni_know = true", endpoint=endpoint)
            self.port(f'{offers}mail_requires = "{word}"', endpoint="tcp:2525")
            self.port(f'{offers}mail_requires = "{word}"', endpoint="tcp:250")
            self.port(f'{offers}mail_requires = "{word}"', endpoint="tcp:587:backlog=25")
        for word in ("none", "auth", "tls-or-auth"):
            self.port(f'{offers}mail_requires = "{word}"', endpoint="tcp:25")

    def test_demands_that_cannot_be_met(self) -> None:
        """S21: TLS on a port without, or without a certificate; AUTH where none is offered."""
        for word in ("tls", "tls-or-auth"):
            text = f"'{word}' on a port with tls = 'none': no client could ever send"
            self.port(f'tls = "none"\nmail_requires = "{word}"', f"4: listen[0].mail_requires: {text}")
        text = "'auth' with no mechanism in auth_clear and auth_tls: no client could ever send"
        self.port('mail_requires = "auth"', f"3: listen[0].mail_requires: {text}")
        self.tail = ""
        text = "'tls' needs the certificate and key of [tls]"
        self.port('mail_requires = "tls"', f"3: listen[0].mail_requires: {text}")

    def test_mechanisms_that_are_never_offered(self) -> None:
        """S20: for TLS on a port without, for clear text on a port that has none."""
        self.port('tls = "none"\nauth_tls = ["PLAIN"]', "4: listen[0].auth_tls: never offered on a port with tls = 'none'")
        self.port(
            'tls = "implicit"\nauth_clear = "LOGIN"', "4: listen[0].auth_clear: never offered on a port with tls = 'implicit'"
        )

    def test_nobody_can_log_in(self) -> None:
        """Mechanisms need somebody to compare with."""
        self.port('auth_clear = "CRAM-MD5"\nauth_tls = ["PLAIN", "LOGIN"]')
        self.tail = ""
        text = "mechanisms are offered, and neither [auth] passwords nor [auth] dovecot says who may log in"
        self.port(
            'auth_clear = "CRAM-MD5"\nauth_tls = "PLAIN"', f"3: listen[0].auth_clear: {text}", f"4: listen[0].auth_tls: {text}"
        )

    def test_for_tls_only(self) -> None:
        """S23: EXTERNAL and channel binding have no place in clear text; EXTERNAL wants certificates that are asked for."""
        self.port(
            'auth_clear = ["EXTERNAL", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "XOAUTH2"]',
            "3: listen[0].auth_clear: EXTERNAL is for TLS: it goes into auth_tls",
            "3: listen[0].auth_clear: SCRAM-SHA-256-PLUS is for TLS: it goes into auth_tls",
            "3: listen[0].auth_clear: XOAUTH2 is for TLS: it goes into auth_tls",
        )
        text = "EXTERNAL wants a client certificate, and [tls] client_cert does not ask for one"
        self.port('auth_tls = ["EXTERNAL", "SCRAM-SHA-256-PLUS"]', f"3: listen[0].auth_tls: {text}")
        self.tail = (
            '[tls]\ncertificate = "tls/cert.pem"\nkey = "tls/key.pem"\nclient_cert = "ask"\nclient_ca = ["tls/cert.pem"]\n'
        )
        self.port('auth_tls = "EXTERNAL"')  # the certificate says it all: no passwords are needed

    def test_tokens(self) -> None:
        """A file of passwords knows none: only Dovecot does (and a portal, whose settings are not in a file)."""
        text = "is judged by [auth] dovecot; the lines of [auth] passwords know no tokens"
        self.port(
            'auth_tls = ["OAUTHBEARER", "PLAIN", "XOAUTH2"]',
            f"3: listen[0].auth_tls: OAUTHBEARER {text}",
            f"3: listen[0].auth_tls: XOAUTH2 {text}",
        )

    def test_dovecot(self) -> None:
        """Instead of a file; what it cannot do for us is not offered; a map of senders wants the binding."""
        self.tail = '[tls]\ncertificate = "tls/cert.pem"\nkey = "tls/key.pem"\n[auth]\ndovecot = "/run/dovecot/auth-client"\n'
        self.port('auth_tls = ["PLAIN", "LOGIN", "SCRAM-SHA-256", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2"]')
        text = "SCRAM-SHA-256-PLUS is not to be had from [auth] dovecot"
        self.port('auth_tls = "SCRAM-SHA-256-PLUS"', f"3: listen[0].auth_tls: {text}")
        self.tail += 'passwords = "users"\nsender_map = "users"\n'
        self.port(
            'auth_tls = "PLAIN"',
            "8: auth.dovecot: either this or passwords",
            "10: auth.sender_map: counts with senders = 'bound' only",
        )
        self.tail = self.tail.replace('passwords = "users"\n', "").replace("sender_map", 'senders = "bond"\nsender_map')
        self.port(
            'auth_tls = "PLAIN"',
            "9: auth.senders: 'any' or 'bound' is wanted, not 'bond'; did you mean 'bound'?",
            "10: auth.sender_map: counts with senders = 'bound' only",
        )


class RouteTests(ConfigCase):
    """route.auth."""

    def setUp(self) -> None:
        super().setUp()
        self.password = self.secret("pw", "secret\n")

    def route(self, text: str, *wanted: str, auth: str = "") -> None:
        """A route with credentials has these mistakes, or none."""
        route = f'[[route]]\nmatch = "*"\nrelay = "[a.org]:587"\nauth = {{user = "u", password_file = "pw"{auth}}}\n{text}\n'
        if wanted:
            self.say(route, *wanted)
        else:
            self.assertIsInstance(self.load(LEAST + route).route[0].auth, RouteAuth)

    def test_clear_text(self) -> None:
        """C31: a password goes over the wire at mandatory levels, or because the operator says so."""
        for level in ("none", "may", "encrypt", "dane"):
            text = (
                f"a password is not sent at level '{level}'; tls = 'verify' for this route is wanted, or auth.clear = true to send it"
                " where anybody can read it"
            )
            self.route(f'tls = "{level}"', f"4: route[0].auth: {text}")
            self.route(f'[tls_client]\nlevel = "{level}"', f"4: route[0].auth: {text}")
            self.route(f'tls = "{level}"', auth=", clear = true")
            self.route(f'tls = "{level}"', auth=', mechanisms = "CRAM-MD5"')
        for level in ("verify", "secure", "dane-only", "sts"):
            self.route(f'tls = "{level}"')

    def test_policy_of_the_next_hop(self) -> None:
        """A [[tls_policy]] that names the host stands before the route, unless it ends some day."""
        self.route('[[tls_policy]]\nmatch = "[a.org]:587"\nlevel = "verify"')
        self.route('[[tls_policy]]\nmatch = ["b.org", "[A.org]"]\nlevel = "secure"')
        text = "a password is not sent at level 'dane'; tls = 'verify' for this route is wanted, or auth.clear = true to send it"
        for policy in ('match = "[b.org]"\nlevel = "verify"', 'match = "[a.org]:587"\nlevel = "verify"\nuntil = 2027-01-01'):
            self.route(f"[[tls_policy]]\n{policy}", f"4: route[0].auth: {text} where anybody can read it")

    def test_who_and_how(self) -> None:
        """A name, and at least one mechanism that there is."""
        self.route(
            'tls = "verify"',
            "4: route[0].auth.mechanisms[0]: 'PLAIN', 'LOGIN', 'CRAM-MD5', 'SCRAM-SHA-256' or 'SCRAM-SHA-256-PLUS' is wanted, not 'NTLM'",
            auth=', mechanisms = ["NTLM"]',
        )
        self.route('tls = "verify"', "4: route[0].auth.mechanisms: at least one mechanism is wanted", auth=", mechanisms = []")
        head = '[[route]]\nmatch = "*"\nrelay = "a.org"\ntls = "verify"\n'
        self.say(f'{head}auth = {{user = "", password_file = "pw"}}', "5: route[0].auth.user: a name is wanted, not ''")

    def test_mailbox(self) -> None:
        """There is nobody to log in to."""
        head = '[[route]]\nmatch = "*"\ndeliver = "maildir:/x"\n'
        self.say(f'{head}auth = {{user = "u", password_file = "pw"}}', "4: route[0].auth: a delivery to a mailbox has no AUTH")
