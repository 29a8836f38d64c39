"""Lists of those who are believed: an everybody among them is a mistake, at its place in the list."""

from __future__ import annotations

from tests.config.common import LEAST, ConfigCase


class OriginTests(ConfigCase):
    """proxy_from, xclient_from, xforward_from."""

    def test_right(self) -> None:
        """Networks and single addresses."""
        text = 'proxy_from = ["10.0.0.0/8", "2001:db8::1"]\n[access]\nxclient_from = ["127.0.0.1"]\nxforward_from = ["::1"]\n'
        settings = self.load(f'{LEAST}[[listen]]\nendpoint = "tcp:25"\n{text}')
        self.assertEqual(2, len(settings.listen[0].proxy_from))

    def test_nobody(self) -> None:
        """By default nobody is believed."""
        settings = self.load(LEAST)
        self.assertEqual(((), ()), (settings.access.xclient_from, settings.access.xforward_from))
        self.assertEqual({()}, {listen.proxy_from for listen in settings.listen} | {()})

    def test_everybody(self) -> None:
        """Of either family."""
        self.say(
            '[[listen]]\nendpoint = "tcp:25"\nproxy_from = ["10.0.0.0/8", "0.0.0.0/0"]\n'
            '[access]\nxclient_from = ["::/0"]\nxforward_from = ["0.0.0.0/0"]',
            "3: listen[0].proxy_from[1]: 0.0.0.0/0 is everybody; whoever stands here is believed",
            "5: access.xclient_from[0]: ::/0 is everybody; whoever stands here is believed",
            "6: access.xforward_from[0]: 0.0.0.0/0 is everybody; whoever stands here is believed",
        )
