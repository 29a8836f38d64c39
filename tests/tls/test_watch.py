"""New files are taken up while the server runs, broken ones are not, and dates are watched (S34, S35, S36, A66)."""

from __future__ import annotations

import attrs
from twisted.internet.task import Clock

from mta.testing.pki import Authority
from mta.tls import certificate
from mta.tls.context import DAY, ServerTls
from mta.tls.watch import UNWATCHED, CertificateWatch
from tests.tls.contexts import AUTHORITY, ContextCase, KeptLog, carry, client_of, leaf_of


class WatchCase(ContextCase):
    """A watch that looks every 60 s, its log, and a clock that shows the time of now."""

    def setUp(self) -> None:
        super().setUp()
        self.log = KeptLog()
        self.clock = Clock()
        self.clock.advance(self.certificate.stat().st_mtime)
        self.watching()

    def watching(self, **changes: object) -> None:
        """Start under these settings."""
        settings = attrs.evolve(self.settings, **changes)
        self.tls = ServerTls.load(settings, self.log, self.clock.seconds)
        self.watch = CertificateWatch(self.tls, self.clock, self.log)
        self.addCleanup(self.watch.stopService)

    def serial(self) -> int:
        """Which certificate a new handshake shows."""
        return leaf_of(client_of(self.tls)[0]).serial_number

    def names(self) -> list[str]:
        """The events so far, in order, and forget them."""
        names = [name for name, _ in self.log.events]
        self.log.events.clear()
        return names


class LookTests(WatchCase):
    """Files."""

    def test_s35_new_certificate(self) -> None:
        """S35: a new certificate is shown after the next look, and a connection from before goes on."""
        self.watch.startService()
        old = self.serial()
        client, server = client_of(self.tls)
        AUTHORITY.issue("mx.example.org").write(self.directory)
        self.clock.advance(59)
        self.assertEqual(self.serial(), old)
        self.clock.advance(1)
        self.assertNotEqual(self.serial(), old)
        self.assertEqual(self.names(), ["certificate_loaded"])
        client.send(b"EHLO a\r\n")
        carry(client, server)
        self.assertEqual(server.recv(100), b"EHLO a\r\n")

    def test_nothing_new(self) -> None:
        """Files that are the same are not read: a context lives on."""
        self.watch.startService()
        self.clock.pump([60.0] * 5)
        self.assertEqual((self.tls.loads, self.names()), (1, []))

    def test_s36_half_written(self) -> None:
        """S36: a half-written file keeps the old certificate, is logged once, tried at each look, and the rest is taken up."""
        self.watch.startService()
        old = self.serial()
        new = AUTHORITY.issue("mx.example.org")
        self.certificate.write_bytes(new.certificate_pem[:300])
        self.clock.pump([60.0] * 3)
        self.assertEqual((self.serial(), self.names()), (old, ["certificate_fault"]))
        self.certificate.write_bytes(new.certificate_pem)
        self.clock.pump([60.0] * 3)
        self.assertEqual((self.serial(), self.names()), (old, ["certificate_fault"]), "the key is still the old one")
        self.assertIn("does not fit", self.tls.fault)
        new.write(self.directory)
        self.clock.advance(60)
        self.assertNotEqual(self.serial(), old)
        self.assertEqual((self.tls.fault, self.names()), ("", ["certificate_loaded"]))

    def test_s33_fault_at_start(self) -> None:
        """S33: what could not be offered at the start is said at once and each day, and offered when it is repaired."""
        key = self.key.read_bytes()
        self.key.unlink()
        self.watching(error="offer-nothing")
        self.watch.startService()
        self.clock.pump([60.0] * 3)
        self.assertEqual((self.tls.offered, self.names()), (False, ["certificate_fault"]))
        self.clock.pump([60.0] * 1440)
        self.assertEqual(self.names(), ["certificate_fault"])
        self.key.write_bytes(key)
        self.clock.advance(60)
        self.assertEqual((self.tls.offered, self.names()), (True, ["certificate_loaded"]))

    def test_not_watched(self) -> None:
        """watch = 0: files are read at a reload only; the dates are looked at all the same."""
        self.watching(watch=0.0)
        self.watch.startService()
        AUTHORITY.issue("mx.example.org", expired=True).write(self.directory)
        self.clock.pump([UNWATCHED] * 3)
        self.assertEqual((self.tls.loads, self.names()), (1, []))
        self.tls.reload()
        self.clock.advance(UNWATCHED)
        self.assertEqual(self.names(), ["certificate_expired"])

    def test_nothing_configured(self) -> None:
        """Without a certificate there is nothing to look at, and nothing to say."""
        self.watching(certificate=None, key=None)
        self.watch.startService()
        self.clock.pump([60.0] * 3)
        self.assertEqual(self.names(), [])

    def test_stop(self) -> None:
        """Nothing is left on the clock, and a second stop does no harm."""
        self.watch.startService()
        self.watch.stopService()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_bug_does_not_end_it(self) -> None:
        """What nobody thought of is logged, and the next look comes."""
        self.watch.startService()

        def broken(paths: object) -> None:
            raise RuntimeError("a bug")

        self.patch(certificate, "_stamp", broken)
        self.clock.advance(60)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)


class AlarmTests(WatchCase):
    """Dates and signatures."""

    def test_s34_expired(self) -> None:
        """S34, A66: an expired certificate is still shown, and the log says so at the start and each day."""
        AUTHORITY.issue("mx.example.org", expired=True).write(self.directory)
        self.watching()
        self.watch.startService()
        self.assertTrue(self.tls.offered)
        (alarm,) = self.log.named("certificate_expired")
        self.assertEqual(alarm["certificate"], str(self.certificate))
        self.clock.pump([60.0] * 1439)
        self.assertEqual(self.names(), ["certificate_expired"])
        self.clock.advance(60)
        self.assertEqual(self.names(), ["certificate_expired"])

    def test_s34_expires_soon(self) -> None:
        """S34: from a week before, each day; the last day is named; after it the word is another one."""
        AUTHORITY.issue("mx.example.org", days=8).write(self.directory)
        self.watching()
        self.clock.advance(3600)  # off the border of the day: the certificate may be from another second than the clock
        self.watch.startService()
        self.assertEqual(self.names(), [])
        said = []
        for _ in range(9):
            self.clock.pump([DAY / 2] * 2)
            said += self.names()
        self.assertEqual(said, ["certificate_expires"] * 7 + ["certificate_expired"] * 2)

    def test_new_certificate_is_judged_at_once(self) -> None:
        """A certificate that is renewed with a short one is an alarm at the look that finds it."""
        self.watch.startService()
        AUTHORITY.issue("mx.example.org", days=2).write(self.directory)
        self.clock.advance(60)
        self.assertEqual(self.names(), ["certificate_loaded", "certificate_expires"])

    def test_names_in_memory_too(self) -> None:
        """The certificates of further names are looked after from their first use on."""
        entry = self.entry("a", "a.example")
        Authority.create().issue("a.example", expired=True).write(entry.certificate.parent)
        self.watching(sni=(entry,))
        self.watch.startService()
        self.assertEqual(self.names(), [])
        client_of(self.tls, name=b"a.example")
        self.clock.advance(DAY)
        self.assertEqual([fields["certificate"] for fields in self.log.named("certificate_expired")], [str(entry.certificate)])

    def test_a76_weak_signature(self) -> None:
        """A76: a chain that old or strict peers refuse for a signature is named."""
        self.patch(certificate, "WEAK_DIGESTS", frozenset({"sha256"}))
        self.watching()
        self.watch.startService()
        (alarm,) = self.log.named("certificate_weak")
        self.assertEqual(alarm, {"certificate": str(self.certificate), "signature": "sha256"})


class ReloadTests(WatchCase):
    """`reconfigure`."""

    def test_s35_other_certificates(self) -> None:
        """S35: after a reload the new certificates are looked after at their own interval, and the old ones no more."""
        self.watch.startService()
        old = self.tls
        other = ServerTls.load(attrs.evolve(self.settings, watch=7.0), self.log, self.clock.seconds)
        self.watch.reconfigure(other)
        (call,) = self.clock.getDelayedCalls()
        self.assertEqual(7.0, call.getTime() - self.clock.seconds())
        AUTHORITY.issue("mx.example.org").write(self.directory)
        self.clock.advance(7)
        self.assertEqual((1, 2, ["certificate_loaded"]), (old.loads, other.loads, self.names()))

    def test_not_started(self) -> None:
        """Before the start, and after the stop, nothing is put on the clock."""
        self.watch.reconfigure(self.tls)
        self.assertEqual([], self.clock.getDelayedCalls())
