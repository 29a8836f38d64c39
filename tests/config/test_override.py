"""--set: what it reaches, how its values are read, and its own mistakes."""

from __future__ import annotations

from mta.config.mistake import shown
from tests.config.common import LEAST, ConfigCase

LISTEN = '[[listen]]\nendpoint = "tcp:25"\n'


class OverrideTests(ConfigCase):
    """`load(path, overrides)`."""

    def test_values(self) -> None:
        """TOML where it is TOML, else a string; later ones win; tables and rows are reached."""
        settings = self.load(
            LEAST + LISTEN,
            "hostname=a.example.org",
            "limits.message_size=1MiB",
            "limits.errors = 3",
            "limits.errors=4",
            'dns.servers=["127.0.0.1:53", "::1"]',
            "relay.source_address=127.0.0.1",
            "dns.trusted=true",
            "listen[0].endpoint=tcp:2526",
            'route=[{match = "*", relay = "[a.org]:25"}]',
        )
        self.assertEqual("a.example.org", settings.hostname)
        self.assertEqual((1 << 20, 4), (settings.limits.message_size, settings.limits.errors))
        self.assertEqual(("127.0.0.1:53", "::1"), settings.dns.servers)
        self.assertEqual(("127.0.0.1",), settings.relay.source_address)
        self.assertIs(True, settings.dns.trusted)
        self.assertEqual("tcp:2526", settings.listen[0].endpoint)
        self.assertEqual("[a.org]:25", settings.route[0].relay)

    def test_one_key_only(self) -> None:
        """A line break in a value begins no second key."""
        self.assertEqual(
            ["--set:1: hostname: a full host name is wanted, like mx1.example.org, not '1\\nrelay.port = 26'"],
            self.mistakes(LEAST, "hostname=1\nrelay.port = 26"),
        )

    def test_what_tomllib_gives_up(self) -> None:
        """A number of more digits than Python reads, and arrays in one another a thousand times, are mistakes too."""
        self.assertEqual(
            [f"--set:1: limits.errors: a whole number is wanted, not {shown('9' * 5000)}"],
            self.mistakes(LEAST, "limits.errors=" + "9" * 5000),
        )
        self.assertEqual(["DIR/mta.toml: not TOML: nested too deeply"], self.mistakes(LEAST, "limits.errors=" + "[" * 3000))

    def test_mistakes(self) -> None:
        """They come behind those of the file, with the option's number."""
        self.assertEqual(
            [
                "DIR/mta.toml:3: foo: unknown key",
                "--set:1: limits.mesage_size: unknown key; did you mean 'message_size'?",
                "--set:2: key=value is wanted, not 'bar'",
                "--set:3: listen[1].endpoint: the file has only 0 of these",
                "--set:4: hostname.x: there is no such key in what the file has",
                "--set:5: limits.errors: a whole number is wanted, not 'x'",
                "--set:6: key=value is wanted, not '=1'",
                "--set:7: key=value is wanted, not 'a..b=1'",
                "--set:8: concurrency.per_destination: per_destination (20) is more than total (3)",
                "--set:9: tls.nix: unknown key; did you mean 'sni'?",
            ],
            self.mistakes(
                LEAST + "foo = 1\nlisten = []\n",
                "limits.mesage_size=1",
                "bar",
                "listen[1].endpoint=tcp:0",
                "hostname.x=1",
                "limits.errors=x",
                "=1",
                "a..b=1",
                "concurrency.total=3",
                "tls={nix = 1}",
            ),
        )

    def test_a_wrong_file_mended(self) -> None:
        """The mistake that an option covers is none."""
        self.assertEqual(3, self.load(LEAST + "[limits]\nerrors = 0\n", "limits.errors=3").limits.errors)

    def test_tables_in_tables(self) -> None:
        """A key of [[tls.sni]] and of route.auth is reached; a mistake there is that of the option."""
        self.secret("pw", "x\n")
        route = '[[route]]\nmatch = "*"\nrelay = "[a.org]"\ntls = "verify"\nauth = {user = "u", password_file = "pw"}\n'
        settings = self.load(LEAST + route, "route[0].auth.user=v", "tls_policy=[{match = 'a.org', until = 2027-01-01}]")
        assert settings.route[0].auth is not None
        self.assertEqual(("v", "2027-01-01"), (settings.route[0].auth.user, settings.tls_policy[0].until))
        wrong = self.mistakes(LEAST + route, "route[0].auth.usr=v", "tls.sni[0].key=x")
        self.assertEqual(
            [
                "--set:1: route[0].auth.usr: unknown key; did you mean 'user'?",
                "--set:2: tls.sni[0].key: the file has only 0 of these",
            ],
            wrong,
        )
