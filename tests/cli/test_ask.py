"""Asking the running service: a scripted one on a real socket, and everything that it may do instead of answering."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from threading import Thread

from twisted.trial.unittest import SynchronousTestCase

from mta.cli.ask import NoAnswer, ask, socket_of


class AskTests(SynchronousTestCase):
    """`ask`."""

    def setUp(self) -> None:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir(parents=True)
        self.folder = folder
        self.path = folder / "control.sock"

    def serve(self, act: Callable[[socket.socket], None]) -> None:
        """Somebody who does this with the first connection."""
        listening = socket.socket(socket.AF_UNIX)
        self.addCleanup(listening.close)
        listening.bind(str(self.path))
        listening.listen()

        def work() -> None:
            connection, _ = listening.accept()
            with connection:
                act(connection)

        thread = Thread(target=work)
        thread.start()
        self.addCleanup(thread.join)

    def refused(self, seconds: float = 10.0) -> str:
        with self.assertRaises(NoAnswer) as caught:
            ask(self.path, {"command": "x"}, seconds)
        return str(caught.exception).replace(str(self.path), "PATH")

    def test_answer(self) -> None:
        """The request is one line of JSON; the answer may come in pieces."""
        seen: list[bytes] = []

        def act(connection: socket.socket) -> None:
            seen.append(connection.recv(1000))
            for piece in (b'{"ok": tr', b'ue, "n": 1}', b"\n"):
                connection.sendall(piece)

        self.serve(act)
        self.assertEqual({"ok": True, "n": 1}, ask(self.path, {"command": "x"}))
        self.assertEqual([b'{"command": "x"}\n'], seen)

    def test_nobody(self) -> None:
        """No socket, and one that a killed service left behind."""
        self.assertEqual("no service is running: nobody answers on PATH", self.refused())
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(self.path))
        self.assertEqual("no service is running: nobody answers on PATH", self.refused())

    def test_silence(self) -> None:
        """A service that hangs is not waited for without end."""
        self.serve(lambda connection: connection.recv(1000) and connection.recv(1000))
        self.assertEqual("the service does not answer within 0.1 s (PATH)", self.refused(0.1))

    def test_hung_up(self) -> None:
        """Nothing, half an answer, and something else."""
        for answer in (b"", b'{"ok": ', b"[]\n"):
            self.serve(lambda connection, answer=answer: connection.recv(1000) and connection.sendall(answer))
            self.assertEqual("the service hung up without an answer (PATH)", self.refused())
            self.path.unlink()

    def test_other_trouble(self) -> None:
        """The system's words."""
        self.path = self.folder / "file" / "control.sock"
        (self.folder / "file").write_text("")
        self.assertEqual("PATH: Not a directory", self.refused())


class SocketOfTests(SynchronousTestCase):
    """`socket_of`: found by data_dir alone."""

    def setUp(self) -> None:
        self.file = Path(self.mktemp()).absolute()
        self.file.parent.mkdir(parents=True, exist_ok=True)

    def test_found(self) -> None:
        """Relative to the file, whatever else is wrong in it."""
        self.file.write_text('hostnam = 5\ndata_dir = "var"\n')
        self.assertEqual(self.file.parent.resolve() / "var" / "control.sock", socket_of(self.file))
        self.file.write_text('data_dir = "/var/lib/mta"\n')
        self.assertEqual(Path("/var/lib/mta/control.sock"), socket_of(self.file))

    def test_not_found(self) -> None:
        """No file, no TOML, no data_dir."""
        for text, why in ((None, "cannot be read: "), ("a = ", "not TOML: "), ("a = 1", "data_dir is wanted")):
            if text is not None:
                self.file.write_text(text)
            with self.assertRaises(NoAnswer) as caught:
                socket_of(self.file)
            self.assertIn(f"{self.file}: {why}", str(caught.exception))
