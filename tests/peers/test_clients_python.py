"""Clients in Python: smtplib and aiosmtplib."""

from __future__ import annotations

import asyncio
import smtplib

import aiosmtplib

from tests.peers.client_programs import NAME, TIMEOUT, Answer, aiosmtplib_send, of_aiosmtplib, of_smtplib
from tests.peers.clients_case import ClientCase, EveryClient, greeting


class SmtplibTests(EveryClient, ClientCase):
    """Python's own."""

    client = staticmethod(of_smtplib)

    def test_smtputf8(self) -> None:
        """RFC 6531: send_message with an address in UTF-8."""
        box = self.mailbox("grün")
        message = greeting(box.address)
        with smtplib.SMTP("localhost", self.site.mta.port, NAME, timeout=TIMEOUT) as client:
            self.assertEqual({}, client.send_message(message))
        ours, data = box.wait()
        self.assertRegex(ours, "with UTF8SMTP id ")
        self.assertEqual(message.as_bytes(), data)


class AiosmtplibTests(EveryClient, ClientCase):
    """In asyncio."""

    client = staticmethod(of_aiosmtplib)

    def test_smtputf8(self) -> None:
        """RFC 6531: send_message with an address in UTF-8, in TLS."""
        box = self.mailbox("grün")
        message = greeting(box.address)
        context = self.site.context()

        async def send() -> None:
            how = {"hostname": "localhost", "port": self.site.mta.port, "local_hostname": NAME, "tls_context": context}
            async with aiosmtplib.SMTP(**how, timeout=TIMEOUT) as client:
                await client.send_message(message)

        asyncio.run(send())
        ours, data = box.wait()
        self.assertRegex(ours, "with UTF8SMTPS id ")
        self.assertEqual(message.as_bytes(), data)

    def test_at_once(self) -> None:
        """Thirty connections at once, each with a login and a message of its own."""
        boxes = [self.mailbox() for _ in range(30)]
        orders = [self.submission(box, mechanism="LOGIN", data=b"X: %d\r\n\r\nhello\r\n" % n) for n, box in enumerate(boxes)]

        async def send() -> list[Answer]:
            return await asyncio.gather(*map(aiosmtplib_send, orders))

        self.assertEqual([True] * 30, [answer.sent for answer in asyncio.run(send())])
        for n, box in enumerate(boxes):
            self.assertIn(b"X: %d\r\n" % n, box.wait()[1])
