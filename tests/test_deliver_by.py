"""DELIVERBY (RFC 2852) from MAIL to the report, on a fake clock: the door, the queue and the reporter, with a next server that is
told what to answer."""

from __future__ import annotations

import email
from collections.abc import Callable
from email.message import Message as Parsed

import attrs

from mta.bounce.service import BounceAgent
from mta.bounce.status_part import Action
from mta.config.settings import Dsn
from mta.envelope import Claim, Flag, Job, Kind, Outcome
from mta.queue.ids import id_text
from mta.queue.state import Alteration, Selector
from mta.status import Scope
from tests.queue.station import OK, Station, deferred, delivered, down
from tests.receive.door import BODY, DoorCase

SENDER = "ann@client.example"
TO = "bob@example.org"
MINUTES_10 = b"BY=600;"


class DeliverByTests(DoorCase):
    """One message; what its sender hears is read from the reports that are relayed to him."""

    def setUp(self) -> None:
        super().setUp()
        self.station = Station()
        self.clock = self.station.clock
        self.reports: list[Parsed] = []
        self.answer: Callable[[Claim], Outcome] = deferred
        self.station.smtp.answer = self.answered
        deliver = self.station.smtp.deliver
        self.station.smtp.deliver = lambda job: self.read(job) or deliver(job)  # type: ignore[method-assign]
        self.station.warn = lambda overdue: self.agent.delayed(overdue)
        self.start()

    def start(self) -> None:
        """A service on what the engine holds; the door in front of it."""
        self.station.make()
        self.accept = self.station.service  # type: ignore[assignment]
        self.agent = BounceAgent(
            "mx.example.org",
            self.station.service,
            now=self.station.now,
            random=lambda count: b"\x5a" * count,
            log=self.station.log,
            name_of=id_text,
            open_body=self.station.engine.open_body,
            dsn=Dsn(),
            lifetime=1000_000,
        )
        self.station.agents["bounce"] = self.agent
        self.begin()
        self.station.start()

    def tearDown(self) -> None:
        self.station.service.stopService()
        super().tearDown()

    def answered(self, claim: Claim) -> Outcome:
        return delivered(claim) if claim.address == SENDER else self.answer(claim)

    def read(self, job: Job) -> None:
        """A report on its way to the sender."""
        if job.claims[0].address == SENDER:
            assert job.body is not None
            self.reports.append(email.message_from_bytes(job.body))

    def send(self, by: bytes, notify: bytes = b"", sender: str = SENDER) -> None:
        """Accepted with these terms."""
        session, wire = self.hello()
        batch = b"MAIL FROM:<%b> %b\r\nRCPT TO:<%b>%b\r\nDATA\r\n" % (sender.encode(), by, TO.encode(), notify)
        self.assertEqual(self.codes(session, batch), ["250", "250", "354"])
        self.assertEqual(self.codes(session, BODY + b".\r\n"), ["250"])
        wire.lose()

    def tried(self) -> int:
        """How often the message was given to the next server."""
        return sum(TO in seen for seen in self.station.smtp.seen)

    def told(self) -> list[tuple[str, str]]:
        """(action, status) of each report."""
        groups = [report.get_payload(1).get_payload() for report in self.reports]
        for per_message, _ in groups:
            self.assertIn("Deliver-By-Date", per_message)
        return [(group["Action"], group["Status"]) for _, group in groups]

    def test_returned(self) -> None:
        """Mode R: tried until its time, not at it or later; then it goes back with 5.4.7, and with why."""
        self.send(MINUTES_10 + b"R")
        self.station.advance(595)
        self.assertEqual((self.told(), self.tried()), ([], 2))
        self.station.advance(70)
        self.assertEqual((self.told(), self.tried(), self.station.left), ([("failed", "5.4.7")], 2, []))
        text = " ".join(self.reports[0].get_payload(0).get_payload().split())
        for words in (
            "450 4.2.1 mailbox busy",
            "You wanted it delivered by Fri, 15 Jan 2027 08:10:00",
            "The mailbox takes no mail",
        ):
            self.assertIn(words, text)

    def test_returned_untried(self) -> None:
        """Its destination is down since before it came, or it is held: the same, and nobody is called to it any more."""
        self.answer = down
        for _ in range(2):
            self.send(b"BY=600;R")
            self.station.advance(700)
        self.assertEqual(self.told(), [("failed", "5.4.7")] * 2)
        self.answer = delivered
        self.station.smtp.seen.clear()
        self.station.advance(5000)
        self.assertEqual((self.tried(), self.station.left), (0, []))

    def test_released_too_late(self) -> None:
        """Held over its time and released: given up at once, before any sweep; it is not tried, nor is the destination praised."""
        station, engine = self.station, self.station.engine
        by = station.now() + 600_000
        held = attrs.evolve(station.message(TO, sender=SENDER), hold="looked at", deliver_by=by, flags=int(Flag.BY_RETURN))
        self.successResultOf(station.service.accept(held))
        station.advance(605)
        self.answer = delivered
        self.successResultOf(engine.alter(Selector(), Alteration.RELEASE, station.now()))
        self.successResultOf(station.service.discover())
        station.advance(5)
        self.assertEqual((self.tried(), self.told(), station.left), (0, [("failed", "5.4.7")], []))
        [(event, _)] = station.log.of("bounced", "unblocked")
        self.assertEqual(event, "bounced")

    def test_told(self) -> None:
        """Mode N, without [dsn] delay_warning: told once, within a minute after its time, and it goes on for its lifetime."""
        self.send(MINUTES_10 + b"N")
        self.station.advance(598)
        self.assertEqual(self.told(), [])
        self.station.advance(65)
        self.assertEqual(self.told(), [("delayed", "4.2.1")])
        self.assertIn("You wanted it delivered by", self.reports[0].get_payload(0).get_payload().replace("\n", " "))
        self.station.advance(86_400)
        self.assertEqual((len(self.told()), self.station.left), (1, [(TO, False)]))
        self.answer = delivered
        self.station.advance(5000)
        self.assertEqual((len(self.told()), self.station.left), (1, []))

    def test_told_over_a_crash(self) -> None:
        """Killed behind the warning: not warned again."""
        self.send(MINUTES_10 + b"N")
        self.station.advance(700)
        self.station.again()
        self.station.advance(5000)
        self.assertEqual(len(self.told()), 1)

    def test_who_is_told(self) -> None:
        """Who wants no word of delays hears none; nor does the null sender; nor who was told by the server before us."""
        for by, notify, sender in (
            (b"BY=60;N", b" NOTIFY=NEVER", SENDER),
            (b"BY=60;N", b" NOTIFY=FAILURE", SENDER),
            (b"BY=60;N", b"", ""),
            (b"BY=-5;N", b"", SENDER),
        ):
            self.send(by, notify, sender)
        self.station.advance(8000)
        self.assertEqual((self.reports, len(self.station.left)), ([], 4))
        self.send(b"BY=60;N", b" NOTIFY=DELAY")
        self.station.advance(130)
        self.assertEqual(self.told(), [("delayed", "4.2.1")])

    def test_traced(self) -> None:
        """T: what the relay confirms comes back as "relayed"; with NOTIFY=NEVER nothing is said."""
        self.answer = lambda claim: Outcome(claim, Kind.CONFIRMED, OK, Scope.RECIPIENT)
        self.send(MINUTES_10 + b"RT")
        self.station.advance(10)
        self.assertEqual((self.told(), self.station.left), ([(Action.RELAYED.value, "2.0.0")], []))

    def test_log(self) -> None:
        """What was asked for stands in the line of the acceptance, and where nothing was, nothing."""
        self.send(MINUTES_10 + b"RT")
        self.send(b"")
        one, other = self.log.named("accepted")
        self.assertEqual((one["by"], one["priority"]), ("600;RT", None))
        self.assertNotIn("by", other)
