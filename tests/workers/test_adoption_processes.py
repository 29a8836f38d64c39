"""Fewer workers than before: what the others had is taken up.  Real processes; `mta queue` sees it all the time."""

from __future__ import annotations

import json
from pathlib import Path

from mta.queue.ids import node_of, parse_id
from tests.peers.peers import wait_for
from tests.workers.crew import LOCAL, SPOOL, CrewCase


class AdoptionTests(CrewCase):
    """From 4 to 2 to 1."""

    def test_from_4_to_2_to_1(self) -> None:
        """Nothing is lost, nothing is doubled, ids stay, also over a kill -9; empty files are gone; large bodies come along."""
        self.start(4, LOCAL + SPOOL)
        ids = self.filled({2, 3})
        self.assertEqual(ids, self.listed())
        self.mta.stop()
        self.assertEqual(ids, self.listed(), "read from the files")
        self.start(2, LOCAL + SPOOL)
        wait_for(lambda: self.files() == {"0.db", "1.db"}, "the adoption")
        self.assertEqual(ids, self.listed())
        some = next(name for name, id in ids.items() if node_of(parse_id(id)) == 3)
        self.assertIn("Subject: " + some, self.command("queue", "show", ids[some], "--body").stdout)
        self.mta.stop()
        self.start(1, LOCAL + SPOOL)
        self.mta.kill9()  # amid the adoption, or near it
        self.start(1, LOCAL)
        wait_for(lambda: self.files() == {"0.db"}, "the second adoption")
        wait_for(lambda: len(self.stored()) >= len(ids), "the mail")
        self.mta.stop()
        self.assertEqual(sorted(ids), self.stored())
        self.assertIn(len(self.mta.log("adopted")), (2, 3))  # of the last one the line may have been lost with its process
        self.assertEqual([], [path.name for path in (self.folder / "data").glob("spool.*")])

    def filled(self, nodes: set[int]) -> dict[str, str]:
        """Mail until these workers have some, each with a large body: the id of each name."""
        ids: dict[str, str] = {}
        for round in range(40):
            clients = [self.client() for _ in range(8)]
            for number, client in enumerate(clients):
                name = f"r{round}n{number}"
                ids[name] = self.send(client, name, 300_000 if number < 4 else 100)
                client.quit()
            if nodes <= {node_of(parse_id(id)) for id in ids.values()}:
                return ids
        raise AssertionError(f"no mail for {nodes}")

    def listed(self) -> dict[str, str]:
        """The id of each name, by `mta queue list`."""
        done = self.command("queue", "list", "--json")
        self.assertEqual(0, done.returncode, done.stderr)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(sorted(row["id"] for row in rows), [row["id"] for row in rows])
        return {row["to"].partition("@")[0]: row["id"] for row in rows}

    def files(self) -> set[str]:
        """The queue files."""
        return {path.name for path in Path(self.folder / "data/queue").glob("*.db")}
