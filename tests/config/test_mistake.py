"""How mistakes are worded: place, key, suggestion."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.config.mistake import ConfigError, Finding, Mistake, choice, did_you_mean, key_text, shown


class MistakeTests(SynchronousTestCase):
    """The words."""

    def test_form(self) -> None:
        """FILE:LINE: key: text; what does not apply is left out."""
        self.assertEqual("m.toml:3: tls.key: bad", str(Mistake("m.toml", 3, "tls.key", "bad")))
        self.assertEqual("m.toml:3: bad", str(Mistake("m.toml", 3, "", "bad")))
        self.assertEqual("m.toml: bad", str(Mistake("m.toml", 0, "", "bad")))
        self.assertEqual("a:1: x\na:2: y", str(ConfigError([Mistake("a", 1, "", "x"), Mistake("a", 2, "", "y")])))

    def test_keys(self) -> None:
        """As people write them; a key that needs quotes has them."""
        self.assertEqual("route[0].relay", key_text(("route", 0, "relay")))
        self.assertEqual('tls."a b"', key_text(("tls", "a b")))

    def test_values_stay_on_one_line(self) -> None:
        """A wrong value is repeated to its author, escaped and cut."""
        self.assertEqual("'a\\nb'", shown("a\nb"))
        self.assertEqual("false", shown(False))
        self.assertEqual(63, len(shown("x" * 1000)))

    def test_suggestions(self) -> None:
        """Something near is named, something far is not."""
        self.assertEqual("; did you mean 'verify'?", did_you_mean("VERFY", ("may", "verify")))
        self.assertEqual("; did you mean 'CRAM-MD5'?", did_you_mean("cram-md5", ("PLAIN", "CRAM-MD5")))
        self.assertEqual("", did_you_mean("zzz", ("may", "verify")))
        self.assertIsNone(choice("b", ("a", "b", "c")))
        self.assertEqual(
            "'any', 'ipv4' or 'ipv6' is wanted, not 'ipv5'; did you mean 'ipv6'?", choice("ipv5", ("any", "ipv4", "ipv6"))
        )

    def test_touches(self) -> None:
        """A finding rests on its key, what holds it, what is in it, and the keys it is about."""
        finding = Finding(("tls", "key"), "", (("listen", 0),))
        for path in (("tls",), ("tls", "key"), ("tls", "key", 0), ("listen",), ("listen", 0, "tls")):
            self.assertTrue(finding.touches(path), path)
        for path in (("tls", "certificate"), ("listen", 1), ("log",)):
            self.assertFalse(finding.touches(path), path)
