"""VRFY where the session judges: those whom we know hear who is here, all others the same of everybody."""

from __future__ import annotations

import attrs
from zope.interface import implementer

from mta.envelope import Refusal, Route
from mta.interfaces import IRouter
from mta.receive.recipients import RecipientFiles, RecipientJudge
from mta.status import Reply
from tests.receive.door import TRUSTED, DoorCase

CANNOT = "252 2.5.0 Cannot verify, but will accept mail and try to deliver it"


@implementer(IRouter)
class Rooms:
    """user@example.org is here, other.example elsewhere, and nobody else anywhere."""

    digest = ""

    def route(self, address: str) -> Route | Refusal:
        """See IRouter."""
        if address.endswith("@other.example"):
            return Route("default", "smtp", "next.example")
        if address.endswith("@example.org"):
            return Route("local", "maildir", "")
        return Refusal(Reply(550, "5.1.1", "No such user"))


class VerifyTests(DoorCase):
    """`vrfy` of [[listen]]."""

    def begin(self, **changes: object) -> None:
        """With that router."""
        super().begin(**changes)  # type: ignore[arg-type]
        self.common = attrs.evolve(self.common, router=Rooms())

    def ask(self, address: str, *words: bytes) -> list[str]:
        """What a client there hears."""
        session, _ = self.hello(address)
        return [line for word in words for line in self.say(session, b"VRFY " + word + b"\r\n")]

    def test_default(self) -> None:
        """252 to all, and no router is asked."""
        self.assertEqual(self.ask(TRUSTED, b"user@example.org", b"x@nowhere.example"), [CANNOT] * 2)

    def test_local(self) -> None:
        """Clients in relay_from: 250 with the address (RFC 5321 3.5.1), 550, or 252 for who lives elsewhere."""
        self.begin(listen={"vrfy": "local"})
        said = self.ask(TRUSTED, b"<user@example.org>", b"x@nowhere.example", b"a@other.example", b"Smith")
        self.assertEqual(said, ["250 2.1.5 <user@example.org>", "550 5.1.1 No such user", CANNOT, CANNOT])
        self.assertEqual([event["stage"] for event in self.log.named("rejected")], ["vrfy"])

    def test_stranger(self) -> None:
        """RFC 5321 7.3: to strangers who is here and who is not are the same, to the letter."""
        self.begin(listen={"vrfy": "local"})
        self.assertEqual(self.ask("203.0.113.9", b"user@example.org", b"x@nowhere.example", b"x@example.org"), [CANNOT] * 3)

    def test_tables(self) -> None:
        """Recipient tables are asked as at RCPT."""
        self.begin(listen={"vrfy": "local"})
        tables = RecipientFiles({"example.org": frozenset({"user@example.org"})})
        judges = type(self.common.judges)([RecipientJudge(tables)])
        self.common = attrs.evolve(self.common, judges=judges)
        said = self.ask(TRUSTED, b"user@example.org", b"x@example.org")
        self.assertEqual([line[:9] for line in said], ["250 2.1.5", "550 5.1.1"])

    def test_off(self) -> None:
        """502, to those whom we know too."""
        self.begin(listen={"vrfy": "off"})
        self.assertEqual(self.ask(TRUSTED, b"user@example.org"), ["502 5.5.1 Command not implemented"])
