"""One generation of the configuration: what is made ready, and that a mistake touches nothing."""

from __future__ import annotations

from pathlib import Path
from random import Random

import attrs
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Handover, HostListEntry, RouteAuth, RouteEntry, Settings, Tls, TlsClient
from mta.generation import Generation, Lasting
from mta.relay.handover import Verdict
from mta.status import MailError
from mta.testing.dns import FakeResolver
from mta.testing.pki import Authority
from mta.tls.policy import Achieved, Level, Required

SETTINGS = Settings("mx1.example.org", Path("/nowhere"))


class Events:
    """A log that nobody reads."""

    def event(self, name: str, queue_id: str, fields: object) -> None:
        pass


class GenerationTests(SynchronousTestCase):
    """`Generation.of`."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.lasting = Lasting(FakeResolver({}), Events(), Random(1))

    def make(self, after: Generation | None = None, **changes: object) -> Generation:
        return Generation.of(attrs.evolve(SETTINGS, **changes), self.lasting, after)

    def test_routes(self) -> None:
        """Levels and credentials by the name of their route."""
        password = self.folder / "pw"
        password.write_text("secret\n")
        routes = (
            RouteEntry(("a.org",), relay="[a.org]", tls="verify", name="bank", auth=RouteAuth("u", password)),
            RouteEntry(("b.org",), relay="[b.org]"),
        )
        generation = self.make(route=routes)
        self.assertEqual((1, {"bank": Level.VERIFY}, ["bank"]), (generation.number, generation.levels, [*generation.credentials]))
        self.assertEqual({"[a.org]", "[b.org]"}, set(generation.router.relays))

    def test_numbers(self) -> None:
        """H38: each has the number behind the one whose place it takes."""
        first = self.make()
        self.assertEqual((1, 2), (first.number, self.make(after=first).number))

    def test_host_lists(self) -> None:
        """H03: `+name` is a [[hostlist]], `/file` is read, `@[]` are the ports that are open when the question is asked."""
        (self.folder / "hosts").write_text("file.example\n")
        lists = Handover(hosts_nopass_tls=("+ours", f"{self.folder}/hosts", "@[]"))
        handover = self.make(handover=lists, hostlist=(HostListEntry("ours", ("*.named.example",)),)).handover

        def verdict(host: str, address: str) -> Verdict:
            required = Required(Level.MAY, host, address, 25, "example.org")
            return handover.verdict(required, Achieved("TLSv1.3"))[0]

        self.assertIs(Verdict.QUIT, verdict("mx.named.example", "192.0.2.1"))
        self.assertIs(Verdict.QUIT, verdict("file.example", "192.0.2.1"))
        self.assertIs(Verdict.KEEP, verdict("other.example", "192.0.2.1"))
        self.lasting.addresses.add(("192.0.2.1", 25))
        self.assertIs(Verdict.QUIT, verdict("other.example", "192.0.2.1"))

    def test_an_embedders_handover(self) -> None:
        """What an embedder brought serves every generation."""
        mine = self.make().handover
        self.lasting = attrs.evolve(self.lasting, handover=mine)
        self.assertIs(mine, self.make(handover=Handover(preset="never")).handover)

    def test_mistakes(self) -> None:
        """Certificates, authorities, passwords and lists that cannot be used are told before anything is touched."""
        certificate, _ = Authority.create().issue("a.org").write(self.folder)
        nix = self.folder / "nix"
        for wrong in (
            {"tls": Tls(certificate=certificate, key=nix)},
            {"tls_client": TlsClient(trust=(nix,))},
            {"route": (RouteEntry(("a.org",), relay="[a.org]", name="x", auth=RouteAuth("u", nix)),)},
        ):
            self.assertRaises(MailError, self.make, **wrong)
        self.assertRaises(ValueError, self.make, handover=Handover(hosts_pass_tls=("+nix",)))

    def test_offer_nothing(self) -> None:
        """S33: with error = "offer-nothing" a certificate that cannot be used is no mistake, and is told as a fault."""
        nix = self.folder / "nix"
        tls = self.make(tls=Tls(certificate=nix, key=nix, error="offer-nothing")).tls
        self.assertEqual((False, True), (tls.offered, bool(tls.fault)))
