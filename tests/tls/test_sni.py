"""Names and their certificates: the map, the few contexts in memory of thousands of names, and faults (S40, S42, A37)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from mta.config.settings import Sni
from mta.status import MailError
from mta.tls.certificate import ContextMaker, Pair
from mta.tls.sni import Contexts, Names, Selection
from tests.tls.contexts import AUTHORITY, ContextCase


def sni(file: str, *names: str) -> Sni:
    return Sni(names, Path(file), Path(file + ".key"))


def pair(file: str) -> Pair:
    return Pair(Path(file), Path(file + ".key"))


class NamesTests(SynchronousTestCase):
    """`Names`."""

    def setUp(self) -> None:
        self.names = Names(
            [
                sni("a", "a.example", "shared.example"),
                sni("b", "*.b.example", "Exact.B.example."),
                sni("u", "bücher.example", "*.bücher.example"),
                sni("rsa", "a.example", "a.example"),
                sni("all", "*"),
            ]
        )

    def test_s40_exact_and_one_label(self) -> None:
        """S40: the exact name before the wildcard, and the wildcard for one label only."""
        for asked, found in (
            (b"shared.example", (pair("a"),)),
            (b"x.b.example", (pair("b"),)),
            (b"exact.b.example", (pair("b"),)),
            (b"b.example", None),
            (b"x.y.b.example", None),
            (b".b.example", None),
            (b"example", None),
            (b"", None),
        ):
            self.assertEqual(self.names.find(asked), found, asked)

    def test_s40_spelling(self) -> None:
        """S40: case and a final dot are no matter; U-labels of the configuration are asked for as A-labels."""
        for asked in (b"SHARED.Example", b"shared.example."):
            self.assertEqual(self.names.find(asked), (pair("a"),))
        self.assertEqual(self.names.find(b"xn--bcher-kva.example"), (pair("u"),))
        self.assertEqual(self.names.find(b"MX.XN--bcher-KVA.example"), (pair("u"),))
        self.assertIsNone(self.names.find("bücher.example".encode()))
        self.assertIsNone(self.names.find(b"\xff\x00." * 90))

    def test_s40_entries_add_up(self) -> None:
        """S40: what two entries say about one name holds together, each certificate once; "*" joins the default."""
        self.assertEqual(self.names.find(b"a.example"), (pair("a"), pair("rsa")))
        self.assertEqual(self.names.everywhere, (pair("all"),))
        both = {(pair("a"), pair("rsa")), (pair("a"),), (pair("b"),), (pair("u"),)}
        self.assertEqual(self.names.pairs, both)

    def test_names_of_the_default(self) -> None:
        """They are known, and no other entry gives way to them."""
        self.names.add_default(["MX.example", "*.mx.example", "a.example"])
        self.assertEqual(self.names.find(b"mx.example"), ())
        self.assertEqual(self.names.find(b"1.mx.example"), ())
        self.assertEqual(len(self.names.find(b"a.example") or ()), 2)
        self.assertNotIn((), self.names.pairs)

    def test_no_name(self) -> None:
        """What cannot be an A-label is the operator's mistake, and named."""
        error = self.assertRaises(MailError, Names, [sni("x", "b\u2488.example")])
        self.assertIn("tls.sni", error.reason)


class ContextsTests(ContextCase):
    """`Contexts`, with certificates a to d."""

    def setUp(self) -> None:
        super().setUp()
        self.pairs = []
        for name in "abcd":
            entry = self.entry(name, f"{name}.example")
            self.pairs.append((Pair(entry.certificate, entry.key),))
        self.reports: list[tuple[Sequence[Pair], str]] = []
        self.maker = ContextMaker(self.settings, lambda: 0.0)
        self.contexts = self.made(2)

    def made(self, limit: int) -> Contexts:
        return Contexts(self.maker, limit, lambda pairs, reason: self.reports.append((pairs, reason)))

    def test_s42_those_used_last_are_kept(self) -> None:
        """S42: a third name pushes out the one that was not used for longest; that is read again when it is asked for."""
        a, b, c, _ = self.pairs
        first = self.contexts.context(a)
        second = self.contexts.context(b)
        self.assertIs(self.contexts.context(a), first)
        self.contexts.context(c)
        self.assertEqual(len(self.contexts), 2)
        self.assertIs(self.contexts.context(a), first)
        self.assertIsNot(self.contexts.context(b), second)
        self.assertEqual(len(self.contexts), 2)

    def test_new_files(self) -> None:
        """Changed files are read at the next use after a look; what has not changed is not."""
        a, b, *_ = self.pairs
        old, other = self.contexts.context(a), self.contexts.context(b)
        AUTHORITY.issue("a.example").write(a[0].certificate.parent)
        self.assertIs(self.contexts.context(a), old)
        self.contexts.look()
        self.assertIsNot(self.contexts.context(a), old)
        self.assertIs(self.contexts.context(b), other)

    def test_s36_mistake_keeps_the_old(self) -> None:
        """S36: a half-written certificate leaves the old one in use, is reported once, tried at each look, and mended."""
        (a,) = self.pairs[0]
        old = self.contexts.context((a,))
        whole = a.certificate.read_bytes()
        a.certificate.write_bytes(whole[:300])
        for _ in range(3):
            self.contexts.look()
            self.assertIs(self.contexts.context((a,)), old)
        self.assertEqual([pairs for pairs, _ in self.reports], [(a,)])
        self.assertEqual(list(self.contexts.faults()), self.reports)
        a.certificate.write_bytes(whole)
        self.contexts.look()
        self.assertIsNot(self.contexts.context((a,)), old)
        self.assertEqual(list(self.contexts.faults()), [])

    def test_never_good(self) -> None:
        """Where there never was a good one there is none, until the files are; a repair is seen, whatever the stamp says."""
        (a,) = self.pairs[0]
        a.key.rename(self.directory / "away")
        for _ in range(2):
            self.assertIsNone(self.contexts.context((a,)))
        self.assertEqual(len(self.reports), 1)
        self.assertIn("No such file", self.reports[0][1])
        (self.directory / "away").rename(a.key)
        self.assertIsNone(self.contexts.context((a,)), "tried again before the look")
        self.contexts.look()
        self.assertIsNotNone(self.contexts.context((a,)))

    def test_adopted(self) -> None:
        """A reload goes on with what is in memory and still wanted, the last used ones, and sees what has changed."""
        a, b, c, _ = self.pairs
        older = self.made(3)
        kept = {each: older.context(each) for each in (a, b, c)}
        newer = self.made(2)
        newer.adopt(older, frozenset({b, c}))
        self.assertEqual(len(newer), 2)
        self.assertEqual([newer.context(b), newer.context(c)], [kept[b], kept[c]])
        AUTHORITY.issue("c.example").write(c[0].certificate.parent)
        latest = self.made(2)
        latest.adopt(newer, frozenset({c}))
        self.assertEqual(len(latest), 1)
        self.assertIsNot(latest.context(c), kept[c])

    def test_not_adopted(self) -> None:
        """Under other settings every context is made anew."""
        self.contexts.context(self.pairs[0])
        maker = ContextMaker(attrs.evolve(self.settings, min_version="TLSv1.3"), lambda: 0.0)
        newer = Contexts(maker, 5, lambda pairs, reason: None)
        newer.adopt(self.contexts, frozenset(self.pairs))
        self.assertEqual(len(newer), 0)


class SelectionTests(ContextCase):
    """`Selection.choose`, where it must not raise."""

    def test_a_bug_shows_the_default(self) -> None:
        """An exception in the choice is logged, and the connection keeps its context."""

        def broken(asked: bytes) -> None:
            raise RuntimeError("a bug")

        maker = ContextMaker(self.settings, lambda: 0.0)
        names = Names([])
        selection = Selection(names, Contexts(maker, 1, lambda pairs, reason: None), None)
        self.patch(Names, "find", lambda self, asked: broken(asked))
        default = maker.make([Pair(self.certificate, self.key)], selection.choose)
        client, server = SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None), SSL.Connection(default.context, None)
        client.set_connect_state()
        server.set_accept_state()
        client.set_tlsext_host_name(b"x.example")
        self.assertRaises(SSL.WantReadError, client.do_handshake)
        server.bio_write(client.bio_read(65536))
        self.assertRaises(SSL.WantReadError, server.do_handshake)
        self.assertIs(server.get_context(), default.context)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
