"""TLS in the configuration: certificates and their keys, names, levels and what they need; each with its exact text."""

from __future__ import annotations

from mta.config.settings import TlsPolicyEntry
from tests.config.common import LEAST, ConfigCase

PIN = "0123456789abcdef" * 4
COLONS = ":".join(["A1"] * 32)


class TlsTests(ConfigCase):
    """Certificate, key and who needs them."""

    def test_implicit_needs_a_certificate(self) -> None:
        """TLS from the first byte cannot be offered without one."""
        listen = '[[listen]]\nendpoint = "tcp:465"\ntls = "implicit"\n'
        self.say(listen, "3: listen[0].tls: implicit TLS needs the certificate and key of [tls]")
        certificate, key = self.identity()
        self.load(f'{LEAST}{listen}[tls]\ncertificate = "{certificate}"\nkey = "{key}"')
        self.say(f"{listen}[tls]\ncertificate = 5", "5: tls.certificate: a string is wanted, not 5")

    def test_halves(self) -> None:
        """A certificate without key and a key without certificate."""
        self.identity()
        self.say('[tls]\ncertificate = "tls/cert.pem"', "2: tls.key: missing; a certificate needs its key")
        self.say('[tls]\nkey = "tls/key.pem"', "2: tls.certificate: missing; a key needs its certificate")

    def test_sni(self) -> None:
        """S40: names are hosts or one-label wildcards, and somebody who asks for none gets the certificate of [tls]."""
        self.identity()
        files = 'certificate = "tls/cert.pem"\nkey = "tls/key.pem"\n'
        self.say(
            f'[tls]\n{files}[[tls.sni]]\n{files}names = ["a.org", "*.b.org",\n "mx*.c.org"]\n[[tls.sni]]\nnames = []\n{files}',
            "8: tls.sni[0].names[2]: a host name or '*.domain' is wanted, not 'mx*.c.org'",
            "10: tls.sni[1].names: at least one name is wanted",
        )
        twice = "DIR/tls/cert.pem and DIR/tls/cert.pem: two certificates for one name need keys of different kinds"
        self.say(f'[tls]\n{files}[[tls.sni]]\n{files}names = "*"', f"3: tls.key: {twice}")  # "*": beside the one of [tls]
        text = "tls.certificate: missing; [[tls.sni]] needs a certificate for clients that ask for no name"
        self.say(f'[[tls.sni]]\nnames = "a.org"\n{files}', f"1: {text}")

    def test_client_certificates(self) -> None:
        """Who asks for certificates says who vouches for them, and the other way round."""
        certificate, _ = self.identity()
        for word in ("ask", "require"):
            text = "tls.client_ca: missing; certificates of clients are verified by authorities that it names"
            self.say(f'[tls]\nclient_cert = "{word}"', f"2: {text}")
            settings = self.load(f'{LEAST}[tls]\nclient_cert = "{word}"\nclient_ca = "{certificate}"')
            self.assertEqual((certificate,), settings.tls.client_ca)
        text = "no client is asked for a certificate; client_cert = 'ask' or 'require' is wanted with it"
        self.say(f'[tls]\nclient_ca = "{certificate}"', f"2: tls.client_ca: {text}")

    def test_client_ciphers(self) -> None:
        """C52: OpenSSL is asked about the strings for clients too."""
        self.say('[tls_client]\nciphers = "NONSENSE"', "2: tls_client.ciphers: OpenSSL finds no cipher in 'NONSENSE'")
        self.say(
            '[[tls_policy]]\nmatch = "a.org"\nciphers = "\\u00e9"',
            "3: tls_policy[0].ciphers: OpenSSL finds no cipher in '\u00e9'",
        )
        self.assertEqual("AES128-SHA", self.policy('ciphers = "AES128-SHA"\nmin = "TLSv1"').ciphers)

    def policy(self, text: str) -> TlsPolicyEntry:
        """The one [[tls_policy]] of a file, for a.org."""
        [entry] = self.load(f'{LEAST}[[tls_policy]]\nmatch = "a.org"\n{text}\n').tls_policy
        return entry


class PolicyTests(ConfigCase):
    """[[tls_policy]]."""

    def entry(self, text: str, *wanted: str) -> None:
        self.say(f'[[tls_policy]]\nmatch = "a.org"\n{text}\n', *wanted)

    def test_everything(self) -> None:
        """P03 P17 C52: an entry with all its keys, and one that only switches off."""
        certificate, key = self.identity()
        settings = self.load(
            f'{LEAST}[[tls_policy]]\nmatch = [".a.org", "[mx.b.org]:26"]\nlevel = "fingerprint"\nmin = "TLSv1"\nmax = "TLSv1.2"\n'
            f'sni = "c.org"\nca = "{certificate}"\nfingerprints = ["{PIN}", "{COLONS}"]\ncertificate = "{certificate}"\nkey = "{key}"\n'
            '[[tls_policy]]\nmatch = "mail.mil"\nlevel = "dane"\ndane = "off"\nsts = "off"\nuntil = 2027-01-01\n'
            '[[tls_policy]]\nmatch = "d.org"\nlevel = "secure"\nnames = ["nexthop", "dot-nexthop", "mx.e.org"]\n'
        )
        self.assertEqual((PIN, COLONS), settings.tls_policy[0].fingerprints)
        self.assertEqual(
            ("off", "off", "2027-01-01"), (settings.tls_policy[1].dane, settings.tls_policy[1].sts, settings.tls_policy[1].until)
        )
        self.assertEqual(("nexthop", "dot-nexthop", "mx.e.org"), settings.tls_policy[2].names)

    def test_patterns(self) -> None:
        """Next hops as they are written, at least one."""
        self.say(
            '[[tls_policy]]\nmatch = ["*.a.org",\n "a.org:25"]\n[[tls_policy]]\nmatch = []\n',
            "2: tls_policy[0].match[0]: names below a domain are written '.a.org' here, not '*.a.org'",
            "3: tls_policy[0].match[1]: a port is for a host in brackets (no MX lookup); did you mean '[a.org]:25'?",
            "5: tls_policy[1].match: at least one pattern is wanted",
        )

    def test_twice(self) -> None:
        """A second entry for a destination can hold only behind the end of the first."""
        self.entry('[[tls_policy]]\nmatch = "A.org"', "4: tls_policy[1].match[0]: tls_policy[0] is for 'A.org' already")
        two = self.load(
            f'{LEAST}[[tls_policy]]\nmatch = "a.org"\nuntil = 2027-01-01\n[[tls_policy]]\nmatch = "a.org"\nlevel = "secure"\n'
        )
        self.assertEqual(2, len(two.tls_policy))

    def test_versions(self) -> None:
        """C52: no range without a version in it."""
        self.entry('min = "TLSv1.3"\nmax = "TLSv1.2"', "3: tls_policy[0].min: min (TLSv1.3) is more than max (TLSv1.2)")

    def test_values(self) -> None:
        """Names, fingerprints, and the halves of a pair."""
        self.identity()
        self.entry(
            'sni = "a b"\nlevel = "verify"\nnames = ["x y"]\nkey = "tls/key.pem"',
            "3: tls_policy[0].sni: a domain name is wanted, not 'a b'",
            "5: tls_policy[0].names[0]: a domain, 'nexthop', 'dot-nexthop', 'hostname' is wanted, not 'x y'",
            "6: tls_policy[0].certificate: missing; a key needs its certificate",
        )
        text = "a SHA-256 fingerprint is wanted, 64 hexadecimal digits with or without colons, not"
        for wrong in (PIN[1:], PIN + "00", f"{PIN[:-1]}g", COLONS[:-1], f"{COLONS}:"):
            shown = f"'{wrong}'" if len(wrong) < 59 else f"'{wrong[:59]}..."
            self.entry(f'level = "fingerprint"\nfingerprints = "{wrong}"', f"4: tls_policy[0].fingerprints[0]: {text} {shown}")

    def test_levels_need(self) -> None:
        """P03: a level without what it compares with, and what no level would look at."""
        self.entry('level = "fingerprint"', "3: tls_policy[0].fingerprints: missing; level 'fingerprint' needs them")
        self.entry(f'fingerprints = "{PIN}"', "3: tls_policy[0].fingerprints: only level = 'fingerprint' looks at them")
        text = "level 'encrypt' looks at no names; 'verify' and 'secure' do"
        self.entry('level = "encrypt"\nnames = "mx.a.org"', f"4: tls_policy[0].names: {text}")

    def test_switched_off(self) -> None:
        """P17 P23: what the level demands cannot be switched off; DANE where it is one of several ways can."""
        self.entry(
            'level = "dane-only"\ndane = "off"', "4: tls_policy[0].dane: off, and the level is 'dane-only': nothing could be sent"
        )
        self.entry('level = "sts"\nsts = "off"', "4: tls_policy[0].sts: off, and the level is 'sts': nothing could be sent")

    def test_fingerprint_elsewhere(self) -> None:
        """P03: no other place has fingerprints."""
        text = "level 'fingerprint' needs a [[tls_policy]] with this level and its fingerprints"
        self.say('[tls_client]\nlevel = "fingerprint"', f"2: tls_client.level: {text}")
        route = '[[route]]\nmatch = "*"\nrelay = "[a.org]"\ntls = "fingerprint"\n'
        self.say(route, f"4: route[0].tls: {text}")
        self.load(f'{LEAST}{route}[[tls_policy]]\nmatch = "[a.org]"\nlevel = "fingerprint"\nfingerprints = "{PIN}"\n')
