"""The commands of the queue, on a whole queue service in memory: pages, bites, what is refused, what is logged."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mta.control.queue import ANSWER_SIZE, BITE, QueueCommands
from mta.queue.ids import id_text
from mta.status import MailError
from tests.queue.station import Station, deferred

DEST = "smtp:default/example.org"


class QueueCommandsTests(SynchronousTestCase):
    """As the control socket calls them."""

    def setUp(self) -> None:
        self.station = Station()
        self.station.smtp.answer = deferred  # mail stays
        self.station.start()
        self.commands = QueueCommands(self.station.service, self.station.now, self.station.log).table()

    def ask(self, command: str, **request: Any) -> dict[str, Any]:
        """The answer, as it comes over the socket."""
        waiting = Deferred.fromCoroutine(self.commands[command](request))  # type: ignore[arg-type]
        answer: dict[str, Any] = json.loads(json.dumps(self.successResultOf(waiting)))
        return answer

    def refused(self, command: str, **request: Any) -> str:
        error = self.failureResultOf(Deferred.fromCoroutine(self.commands[command](request)), MailError)  # type: ignore[arg-type]
        return str(error.value.reason)

    def accept(self, *addresses: str, **more: Any) -> int:
        """A message that was tried once and waits."""
        return int(self.successResultOf(self.station.service.accept(self.station.message(*addresses, **more))))

    def all_rows(self, **selector: Any) -> list[dict[str, Any]]:
        rows, after = list[dict[str, Any]](), 0
        while True:
            answer = self.ask("queue.list", selector=selector, after=after)
            rows, after = rows + answer["rows"], answer["after"]
            if not after:
                return rows

    def alter(self, action: str, **selector: Any) -> tuple[int, int]:
        """In bites: how many recipients, how many bites."""
        count = after = bites = 0
        while True:
            answer = self.ask("queue.alter", selector=selector, action=action, after=after)
            count, after, bites = count + answer["count"], answer["after"], bites + 1
            if not after:
                return count, bites

    # -- what looks

    def test_now(self) -> None:
        """The service's clock."""
        self.assertEqual({"now": self.station.now()}, self.ask("queue.now"))

    def test_list_in_pages(self) -> None:
        """Every recipient once, in the order of ids, a hundred in an answer."""
        self.accept(*[f"u{number:03}@example.org" for number in range(250)])
        first = self.ask("queue.list", selector={})
        self.assertEqual(100, len(first["rows"]))
        rows = self.all_rows()
        self.assertEqual([f"u{number:03}@example.org" for number in range(250)], [row["to"] for row in rows])
        self.assertEqual(3, len(self.ask("queue.list", selector={}, limit=3)["rows"]))

    def test_answers_stay_small(self) -> None:
        """Long rows make short pages, and none is lost between them."""
        for number in range(100):
            self.accept(f"{number:03}{'é' * 200}@example.org", sender="é" * 200)
        answer = self.ask("queue.list", selector={})
        self.assertLess(len(json.dumps(answer)), ANSWER_SIZE + 1000)
        self.assertTrue(0 < len(answer["rows"]) < 100)
        self.assertEqual([f"{number:03}" for number in range(100)], [row["to"][:3] for row in self.all_rows()])

    def test_selectors(self) -> None:
        """Conditions reach the engine."""
        first = self.accept("a@example.org", "b@example.net")
        self.accept("c@example.org", sender="other@example.com")
        self.assertEqual(["a@example.org", "b@example.net"], [row["to"] for row in self.all_rows(id=id_text(first))])
        self.assertEqual(["a@example.org", "c@example.org"], [row["to"] for row in self.all_rows(to="*@EXAMPLE.org")])
        self.assertEqual(["c@example.org"], [row["to"] for row in self.all_rows(**{"from": "other@*", "dest": DEST})])
        self.assertEqual([], self.all_rows(state="held"))

    def test_summary(self) -> None:
        """Sums, and what is suspended without mail."""
        self.accept("a@example.org", "b@example.org", "c@example.net")
        self.ask("queue.suspend", dest="smtp:default/quiet.example", why="so")
        answer = self.ask("queue.summary")
        self.assertEqual([(DEST, 2), ("smtp:default/example.net", 1)], [(d["dest"], d["total"]) for d in answer["destinations"]])
        self.assertEqual(["smtp:default/quiet.example"], answer["suspended"])
        self.assertEqual(1, len(self.ask("queue.summary", limit=1)["destinations"]))

    def test_show(self) -> None:
        """The envelope; what is not there is refused by its name."""
        id = id_text(self.accept("a@example.org"))
        message = self.ask("queue.show", id=id)["message"]
        self.assertEqual(("ann@example.com", id, "hello"), (message["from"], message["id"], message["header"]))
        gone = id_text(5 << 22)
        self.assertEqual(f"the message {gone} is not in the queue", self.refused("queue.show", id=gone))
        self.assertIn("a queue id has 13 characters", self.refused("queue.show", id="x"))
        self.assertEqual("id is wanted", self.refused("queue.show"))

    # -- what alters

    def test_hold_and_release(self) -> None:
        """Held mail is not tried; released, it is tried at once, without waiting for the sweep."""
        self.accept("a@example.org", "b@example.net")
        self.assertEqual((1, 1), self.alter("hold", to="a@*"))
        self.assertEqual(["held", "waiting"], [row["state"] for row in self.all_rows()])
        seen = len(self.station.smtp.seen)
        self.assertEqual((1, 1), self.alter("release", state="held"))
        self.station.advance(0.01)
        self.assertEqual([("a@example.org",)], self.station.smtp.seen[seen:])

    def test_retry(self) -> None:
        """Tried now, and counted."""
        self.accept("a@example.org")
        self.assertEqual((1, 1), self.alter("retry"))
        self.station.advance(0.01)
        self.assertEqual([2], [row["attempts"] for row in self.all_rows()])

    def test_remove_in_bites(self) -> None:
        """q19: many are removed a bite at a time; the log has each bite."""
        for _ in range(3):
            self.accept(*[f"u{number}@example.org" for number in range(500)])
        count, bites = self.alter("remove", to="u*@example.org")
        self.assertEqual((1500, []), (count, self.all_rows()))
        self.assertGreaterEqual(bites, 1500 // BITE)
        told = [fields["recipients"] for name, _, fields in self.station.log.lines if name == "operator"]
        self.assertEqual(1500, sum(told))  # type: ignore[arg-type]
        self.assertEqual(BITE, max(told))  # type: ignore[type-var]

    def test_nothing_to_do(self) -> None:
        """Counted as 0, and not in the log."""
        self.assertEqual((0, 1), self.alter("hold"))
        self.assertEqual([], [name for name, _, _ in self.station.log.lines if name == "operator"])

    def test_reroute(self) -> None:
        """Mail that waits goes by the routes of now, at once."""
        self.accept("a@example.org", "b@example.net")
        self.station.router.agent = "lmtp"
        self.station.agents["lmtp"] = self.station.smtp
        self.assertEqual((1, 1), self.alter("reroute", to="a@*"))
        self.assertEqual(["lmtp:default/example.org", "smtp:default/example.net"], [row["dest"] for row in self.all_rows()])

    def test_flush(self) -> None:
        """One destination, or all."""
        self.accept("a@example.org", "b@example.net")
        self.assertEqual({"count": 1}, self.ask("queue.flush", dest=DEST))
        self.station.advance(0.01)
        self.assertEqual({"count": 2}, self.ask("queue.flush"))

    def test_suspend_and_resume(self) -> None:
        """Nothing goes to it, mail is stored; then it goes."""
        answer = self.ask("queue.suspend", dest=DEST, why="new mail servers")
        self.assertEqual((DEST, True, "new mail servers"), (answer["dest"], answer["suspended"], answer["why"]))
        self.accept("a@example.org")
        self.assertEqual([], self.station.smtp.seen)
        self.assertEqual((DEST, False), tuple(self.ask("queue.resume", dest=DEST)[key] for key in ("dest", "suspended")))
        self.station.advance(1)
        self.assertEqual([("a@example.org",)], self.station.smtp.seen)

    def test_run(self) -> None:
        """What is due sets out, in one stage or two; the log has it."""
        for more, stages in (({}, 1), ({"two_stage": True}, 2)):
            self.assertEqual({"destinations": 0}, self.ask("queue.run", **more))
            self.assertEqual(stages, [fields for name, _, fields in self.station.log.lines if name == "run"][-1]["stages"])

    # -- what makes no sense

    def test_nonsense(self) -> None:
        """Refused in words, and nothing is done."""
        self.accept("a@example.org")
        for command, request, why in (
            ("queue.list", {}, "a selector is an object"),
            ("queue.list", {"selector": {"to": 5}}, "not a condition of a selector: to = '5'"),
            ("queue.list", {"selector": {}, "after": -1}, "after is a whole number from 0"),
            ("queue.list", {"selector": {}, "limit": True}, "limit is a whole number from 0"),
            ("queue.alter", {"selector": {}}, "action is wanted"),
            ("queue.alter", {"selector": {}, "action": "burn"}, "'burn' is not a valid Alteration"),
            ("queue.alter", {"action": "remove"}, "a selector is an object"),
            ("queue.suspend", {"dest": "example.org"}, "not the name of a destination: 'example.org'"),
            ("queue.suspend", {"dest": DEST, "why": 5}, "why is wanted"),
            ("queue.flush", {"dest": 5}, "dest is wanted"),
        ):
            self.assertEqual(why, self.refused(command, **request), command)
        self.assertEqual(["waiting"], [row["state"] for row in self.all_rows()])
