"""A client that survives its server: numbered messages over many sessions, and a note of every 250 that was heard.

A number whose answer was not heard is not sent again: so whatever arrives twice was doubled by the server.
"""

from __future__ import annotations

import itertools
import smtplib
import threading
import time

BODY = b"From: <from@a.test>\r\nSubject: numbered\r\n\r\n" + (b"X" * 78 + b"\r\n") * 50


class Flood:
    """Sends `messages` messages to {n}user@sink.test, n from 1, over `sessions` threads.  answered: the n that got 250."""

    def __init__(self, port: int, messages: int, sessions: int) -> None:
        self.answered: list[int] = []
        self.begun = 0  # the highest number that was taken
        self._port = port
        self._numbers = itertools.count(1)
        self._messages = messages
        self._threads = [threading.Thread(target=self._session, daemon=True) for _ in range(sessions)]

    @property
    def running(self) -> bool:
        """Is there still a session at work?"""
        return any(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def give_up(self) -> None:
        """Begin no other message."""
        self._messages = 0

    def join(self, timeout: float) -> None:
        """Wait for the end of all sessions."""
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _session(self) -> None:
        client: smtplib.SMTP | None = None
        while (number := next(self._numbers)) <= self._messages:
            self.begun = max(self.begun, number)
            while client is None:
                client = self._connect()
            try:
                client.sendmail("from@a.test", [f"{number}user@sink.test"], BODY)
                self.answered.append(number)
            except smtplib.SMTPResponseException:
                pass
            except (smtplib.SMTPException, OSError):
                client.close()
                client = None
        if client is not None:
            client.close()

    def _connect(self) -> smtplib.SMTP | None:
        try:
            return smtplib.SMTP("127.0.0.1", self._port, local_hostname="flood.test", timeout=60)
        except (smtplib.SMTPException, OSError):
            time.sleep(0.05)
            return None
