"""`mta.workers.door`: one answer of many."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.trial.unittest import SynchronousTestCase

from mta.control.queue import QueueCommands
from mta.queue.ids import id_text
from mta.status import MailError, transient
from mta.workers.door import Commands
from tests.threads import ThreadedClock
from tests.workers.fakes import Log

Answers = Callable[[Mapping[str, Any]], Any]


class Spoken:
    """A worker that answers as it was told to; None: it does not run."""

    def __init__(self, number: int, answers: Answers | None) -> None:
        self.number = number
        self.answers = answers
        self.asked: list[Mapping[str, Any]] = []

    def ask(self, request: Mapping[str, Any]) -> Deferred[Any]:
        self.asked.append(request)
        if self.answers is None:
            return fail(transient("4.3.2", "gone", reason=f"worker {self.number} does not run"))
        return succeed({"ok": True, **self.answers(request)})


def row(number: int) -> dict[str, Any]:
    return {"recipient": id_text(number), "id": id_text(number - 1)}


def dest(name: str, total: int, **other: Any) -> dict[str, Any]:
    usual = {"dest": name, "suspended": False, "blocked_until": 0, "why": None, "fails": 0, "first_fail": None}
    counts = {"total": total, "waiting": total, "due": 0, "held": 0, "taken": 0, "oldest": 5, "ages": [total, 0, 0, 0]}
    return {**usual, **counts, **other}


class DoorTests(SynchronousTestCase):
    """`Commands`."""

    def setUp(self) -> None:
        self.workers: list[Spoken] = []
        self.commands = Commands(lambda: self.workers, ThreadedClock(), Log()).table()  # type: ignore[arg-type]

    def crew(self, *answers: Answers | None) -> None:
        self.workers = [Spoken(number, each) for number, each in enumerate(answers)]

    def ask(self, command: str, **request: Any) -> Any:
        return self.successResultOf(ensureDeferred(self.commands[command]({"command": command, **request})))

    def refused(self, command: str, **request: Any) -> str:
        failure = self.failureResultOf(ensureDeferred(self.commands[command]({"command": command, **request})), MailError)
        return failure.value.reason or ""

    def test_every_command_of_one_server(self) -> None:
        """Whatever one server can be asked, all can."""
        service: Any = type("Service", (), {"queue": None})()
        self.assertEqual(set(QueueCommands(service, lambda: 0, Log()).table()), set(self.commands))  # type: ignore[arg-type]

    def test_list(self) -> None:
        """In the order of ids, each row with its worker."""
        self.crew(lambda _: {"rows": [row(2), row(8)], "after": 0}, lambda _: {"rows": [row(4)], "after": 0})
        answer = self.ask("queue.list", selector={})
        self.assertEqual(
            [(row(2)["id"], 0), (row(4)["id"], 1), (row(8)["id"], 0)], [(r["id"], r["worker"]) for r in answer["rows"]]
        )
        self.assertEqual(0, answer["after"])
        self.assertNotIn("warning", answer)

    def test_pages(self) -> None:
        """Page by page everything once, whatever the pages of each are."""
        queues = [list(range(10, 400, 7)), list(range(11, 300, 3)), []]

        def answers(ids: list[int]) -> Answers:
            def answer(request: Mapping[str, Any]) -> Any:
                found = [id for id in ids if id > request.get("after", 0)]
                page = found[: min(request["limit"], 5)]
                return {"rows": [row(id) for id in page], "after": page[-1] if len(page) < len(found) else 0}

            return answer

        self.crew(*map(answers, queues))
        shown, after = list[Any](), 0
        while True:
            answer = self.ask("queue.list", selector={}, after=after, limit=8)
            shown += [each["recipient"] for each in answer["rows"]]
            after = answer["after"]
            if not after:
                break
        self.assertEqual([id_text(id) for id in sorted({*queues[0], *queues[1]})], shown)

    def test_summary(self) -> None:
        """Destinations of one name are one; the largest, and who is suspended without mail."""
        self.crew(
            lambda _: {"destinations": [dest("smtp:a", 5, oldest=9), dest("smtp:b", 4)], "suspended": ["smtp:z"]},
            lambda _: {"destinations": [dest("smtp:a", 1, suspended=True, why="x")], "suspended": ["smtp:b"]},
        )
        answer = self.ask("queue.summary", limit=1)
        (largest,) = answer["destinations"]
        self.assertEqual(
            ("smtp:a", 6, 5, True, [6, 0, 0, 0]), tuple(largest[k] for k in ("dest", "total", "oldest", "suspended", "ages"))
        )
        self.assertEqual(["smtp:b", "smtp:z"], answer["suspended"])
        self.assertEqual([100, 100], [worker.asked[0]["limit"] for worker in self.workers])

    def test_show(self) -> None:
        """Of the one who has it; when nobody has it, his reason who was asked first."""
        self.crew(lambda _: {"ok": False, "error": "not here"}, lambda _: {"message": {"id": "X"}})
        self.assertEqual({"id": "X"}, self.ask("queue.show", id="X")["message"])
        self.crew(lambda _: {"ok": False, "error": "not here"}, lambda _: {"ok": False, "error": "nor here"})
        self.assertEqual("not here", self.refused("queue.show", id="X"))

    def test_alter(self) -> None:
        """Worker after worker, bite after bite; each gets his own `after`; one that is gone is passed over, and named."""
        big = (1 << 63) - 1
        self.crew(
            lambda request: {"count": 500, "after": big} if not request["after"] else {"count": 1, "after": 0},
            None,
            lambda _: {"count": 7, "after": 0},
        )
        total, after, warnings = 0, 0, list[str]()
        for _ in range(4):
            answer = self.ask("queue.alter", selector={}, action="hold", after=after)
            total, after = total + answer["count"], answer["after"]
            warnings += [answer["warning"]] if "warning" in answer else []
        self.assertEqual((508, 0, ["worker 1 does not run"]), (total, after, warnings))
        self.assertEqual([0, big], [request["after"] for request in self.workers[0].asked])
        self.assertEqual([0], [request["after"] for request in self.workers[2].asked])

    def test_alter_refused(self) -> None:
        """What one refuses is refused; so is an `after` beyond the last of them."""
        self.crew(lambda _: {"ok": False, "error": "no such action"})
        self.assertEqual("no such action", self.refused("queue.alter", action="dance"))
        self.assertEqual("after is a whole number from 0", self.refused("queue.alter", after=1 << 64))

    def test_counted(self) -> None:
        """Flush and run: of all."""
        self.crew(lambda _: {"count": 3, "destinations": 1}, lambda _: {"count": 4, "destinations": 2})
        self.assertEqual(({"count": 7}, {"destinations": 3}), (self.ask("queue.flush"), self.ask("queue.run")))

    def test_destinations(self) -> None:
        """Suspend and resume: all do it, and the worst is told."""
        self.crew(
            lambda _: dest("smtp:a", 0, suspended=True, fails=2, first_fail=7),
            lambda _: dest("smtp:a", 0, suspended=True, blocked_until=9, first_fail=5),
        )
        wanted = {"dest": "smtp:a", "suspended": True, "blocked_until": 9, "why": None, "fails": 2, "first_fail": 5}
        self.assertEqual(wanted, self.ask("queue.suspend", dest="smtp:a"))
        self.assertEqual([1, 1], [len(worker.asked) for worker in self.workers])

    def test_one_is_missing(self) -> None:
        """What the others say is the answer, and it is said who is missing; when all are, that is the reason."""
        self.crew(lambda _: {"count": 3}, None)
        self.assertEqual({"count": 3, "warning": "worker 1 does not run"}, self.ask("queue.flush"))
        self.crew(None, None)
        self.assertEqual("worker 0 does not run", self.refused("queue.flush"))
        self.crew()
        self.assertEqual("no worker runs", self.refused("queue.flush"))

    def test_one_refuses(self) -> None:
        """What not all have done is said."""
        self.crew(lambda _: {"count": 3}, lambda _: {"ok": False, "error": "internal trouble"})
        self.assertEqual({"count": 3, "warning": "worker 1: internal trouble"}, self.ask("queue.flush"))
