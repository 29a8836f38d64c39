"""One page of metrics over two real workers, scraped over the loopback."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from typing import Any

from prometheus_client.parser import text_string_to_metric_families as families

from tests.peers.peers import wait_for
from tests.ports import free_port
from tests.workers.crew import LOCAL, CrewCase

MESSAGES = "mta_accepted_messages_total"


class ScrapeTests(CrewCase):
    """The port of the supervisor, and `mta metrics`."""

    def listen(self, port: int) -> str:
        return f'{LOCAL}[metrics]\nlisten = "tcp:{port}:interface=127.0.0.1"\n\n'

    def scrape(self, port: int) -> dict[str, dict[str, float]]:
        """Of each metric its sum by worker, "" for who has none."""
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        found: dict[str, dict[str, float]] = {}
        for family in families(text):
            for sample in family.samples:
                of = found.setdefault(sample.name, {})
                worker = sample.labels.get("worker", "")
                of[worker] = of.get(worker, 0.0) + sample.value
        return found

    def printed(self, *arguments: str) -> list[Any]:
        done = self.command("metrics", "--json", *arguments)
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_one_page(self) -> None:
        """All mail is on it, by worker; one that hangs and one that was killed are told of; a reload moves the port."""
        port = free_port()
        self.start(2, self.listen(port))
        self.mta.wait_for_event("listening", 2)
        ids = self.send_each(10)
        wait_for(lambda: len(self.stored()) == len(ids), "the mail")
        page = self.scrape(port)
        self.assertEqual({"0", "1"}, set(page[MESSAGES]))
        self.assertEqual(10, sum(page[MESSAGES].values()))
        self.assertEqual({"0": 1.0, "1": 1.0}, page["mta_worker_up"])
        self.assertEqual({"": 1.0}, page["mta_generation"])
        self.assertEqual({"", "0", "1"}, set(page["process_cpu_seconds_total"]))
        self.assertEqual([10], [each["value"] for each in self.printed() if each["name"] == MESSAGES])
        self.assertEqual(2, len([each for each in self.printed("--each") if each["name"] == MESSAGES]))
        self.hangs(port, page[MESSAGES])
        self.is_killed(port)
        other = free_port()
        self.mta.more = self.listen(other) + "[service]\nworkers = 2\n"
        self.mta.configure()
        done = self.command("reload")
        self.assertEqual("generation 2 of the configuration is in force\n", done.stdout + done.stderr)
        page = self.scrape(other)
        self.assertEqual(({"": 2.0}, {"": 1.0}), (page["mta_generation"], page["mta_reloads_total"]))
        self.assertRaises(OSError, self.scrape, port)

    def hangs(self, port: int, messages: dict[str, float]) -> None:
        """The other is told of without it; when it goes on it is there again, with what it had."""
        worker = self.workers()[1]
        os.kill(worker, signal.SIGSTOP)
        try:
            page = self.scrape(port)
        finally:
            os.kill(worker, signal.SIGCONT)
        self.assertEqual({"0": 1.0, "1": 0.0}, page["mta_worker_up"])
        self.assertEqual({"0": messages["0"]}, page[MESSAGES])
        self.assertEqual(messages, self.scrape(port)[MESSAGES])

    def is_killed(self, port: int) -> None:
        """It begins anew, in its own series; the other goes on."""
        before = self.scrape(port)[MESSAGES]
        ready = self.ready()
        os.kill(self.workers()[0], signal.SIGKILL)
        wait_for(lambda: self.ready() == ready + 1, "the worker's return")
        page = self.scrape(port)
        self.assertEqual({"0": 1.0, "1": 0.0}, page["mta_worker_restarts_total"])
        self.assertEqual({"0": 0.0, "1": before["1"]}, page[MESSAGES])

    def test_a_port_that_is_taken(self) -> None:
        """The start ends with the reason."""
        self.mta.more = self.listen(self.mta.port) + "[service]\nworkers = 2\n"
        self.assertRaises(RuntimeError, self.really_start)
        self.assertIn("Address already in use", self.mta.output())

    def really_start(self) -> None:
        self.mta.start()
        wait_for(lambda: not self.mta.is_running, "its end")
        raise RuntimeError
