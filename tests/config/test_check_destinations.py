"""[[destination]], [[site]], [dsn] and the new keys of [queue]: what is wrong with them, each with its exact text."""

from __future__ import annotations

from mta.config.settings import DestinationEntry, Dsn, Seconds, SiteEntry
from tests.config.common import LEAST, ConfigCase

MATCH = "a domain, '*.domain', '[host]', '[host]:port', 'route:NAME' or '*' is wanted"
RATE = 'a rate is wanted ("100/min", "5/s", "1000/h")'


class DestinationTests(ConfigCase):
    """[[destination]]."""

    def test_all_keys(self) -> None:
        """What an operator writes is what the scheduler gets."""
        settings = self.load(
            LEAST + '[[route]]\nname = "bulk"\nmatch = "b.org"\nrelay = "c.org"\n'
            '[[destination]]\nmatch = ["a.org", "*.a.org", "[10.0.0.1]:26", "[mx.a.org]", "route:bulk", "route:_mx", "*"]\n'
            'concurrency = 2\nrecipients = 3\nrate = "100/min"\nretry = ["1m", "1h"]\nlifetime = "2d"\n'
            '[[destination]]\nmatch = "b.org"\nretry = "10m"\n'
        )
        patterns = ("a.org", "*.a.org", "[10.0.0.1]:26", "[mx.a.org]", "route:bulk", "route:_mx", "*")
        waits = (Seconds(60.0), Seconds(3600.0))
        first = DestinationEntry(patterns, 2, 3, "100/min", waits, Seconds(172800.0))
        second = DestinationEntry(("b.org",), retry=(Seconds(600.0),))
        self.assertEqual((first, second), settings.destination)

    def test_patterns(self) -> None:
        """Next hops and routes that exist; a recipient's address is none of these."""
        self.say(
            '[[route]]\nname = "bulk"\nmatch = "b.org"\nrelay = "c.org"\n[[destination]]\nconcurrency = 1\nmatch = [\n'
            '"u@a.org", "10.0.0.1",\n"route:bluk", "[a b]"]\n[[destination]]\nmatch = []\nrate = "1/s"\n',
            f"8: destination[0].match[0]: {MATCH}, not 'u@a.org'",
            "8: destination[0].match[1]: an address is written in brackets; did you mean '[10.0.0.1]'?",
            "9: destination[0].match[2]: no route is called 'bluk'; did you mean 'bulk'?",
            "9: destination[0].match[3]: a domain name is wanted, not 'a b'",
            "11: destination[1].match: at least one pattern is wanted",
        )

    def test_rates(self) -> None:
        """A number above 0 and a unit."""
        for text in ("5/s", "100/min", "1000/h", "5000/d", "5 / sec"):
            self.load(f'{LEAST}[[destination]]\nmatch = "a.org"\nrate = "{text}"\n')
        for text in ("0/s", "5", "5/m", "/s", "-1/s", "1.5/s", "5/week", "5/s "):
            self.say(f'[[destination]]\nmatch = "a.org"\nrate = "{text}"\n', f"3: destination[0].rate: {RATE}, not '{text}'")

    def test_numbers(self) -> None:
        """Not below nothing, not above `total`; a wait of nothing would spin."""
        self.say(
            '[[destination]]\nmatch = "a.org"\nconcurrency = 201\nrecipients = -1\nretry = ["5m", 0]\n',
            "3: destination[0].concurrency: concurrency (201) is more than total (200)",
            "4: destination[0].recipients: at least 0 is wanted, not -1",
            "5: destination[0].retry[1]: more than 0 is wanted",
        )

    def test_entries_that_do_nothing(self) -> None:
        """Somebody believes that he has set a limit."""
        self.say(
            '[[destination]]\nmatch = "a.org"\n[[site]]\nmx = "a.org"\n',
            "1: destination[0]: it sets nothing; one of concurrency, recipients, rate, retry and lifetime is wanted",
            "3: site[0]: it sets nothing; one of connections and rate is wanted",
        )

    def test_missing(self) -> None:
        """What every entry must have."""
        self.say(
            "[[destination]]\nconcurrency = 1\n[[site]]\nconnections = 1\n",
            "1: destination[0].match: missing; it must be given",
            "3: site[0].mx: missing; it must be given",
        )


class SiteTests(ConfigCase):
    """[[site]]."""

    def test_all_keys(self) -> None:
        """As written."""
        text = '[[site]]\nmx = ["*.a.org", "mx.b.org", "*"]\nconnections = 4\nrate = "50/s"\n'
        self.assertEqual((SiteEntry(("*.a.org", "mx.b.org", "*"), 4, "50/s"),), self.load(LEAST + text).site)

    def test_wrong(self) -> None:
        """Names of hosts, a rate, a number."""
        self.say(
            '[[site]]\nmx = ["a.*.org", "[a.org]"]\nconnections = -1\nrate = "5"\n[[site]]\nmx = []\nrate = "1/s"\n',
            "2: site[0].mx[0]: a host name, '*.domain' or '*' is wanted, not 'a.*.org'",
            "2: site[0].mx[1]: a host name, '*.domain' or '*' is wanted, not '[a.org]'",
            "3: site[0].connections: at least 0 is wanted, not -1",
            f"4: site[0].rate: {RATE}, not '5'",
            "6: site[1].mx: at least one pattern is wanted",
        )


class ReportTests(ConfigCase):
    """[dsn]."""

    def test_all_keys(self) -> None:
        """As written; nothing where nothing means something."""
        text = '[dsn]\ndelay_warning = "4h"\nreturn_size = 0\nper_sender_hour = 0\npostmaster = "p@a.org"\n'
        self.assertEqual(Dsn(Seconds(14400.0), 0, 0, "p@a.org"), self.load(LEAST + text).dsn)

    def test_wrong(self) -> None:
        """A postmaster is an address."""
        self.say(
            '[dsn]\npostmaster = "root"\nper_sender_hour = -1\n',
            "2: dsn.postmaster: an address is wanted, user@domain, not 'root'",
            "3: dsn.per_sender_hour: at least 0 is wanted, not -1",
        )


class ModeTests(ConfigCase):
    """The modes of [queue]."""

    def test_all_keys(self) -> None:
        """As written; a whole number is a load too."""
        queue = self.load(f'{LEAST}[queue]\nmode = "spool"\nspool_above_load = 8\nrun_every = "10m"\nfree_space = 0\n').queue
        self.assertEqual(("spool", 8.0, 600.0, 0), (queue.mode, queue.spool_above_load, queue.run_every, queue.free_space))

    def test_wrong(self) -> None:
        """A word, a number that is one and not below 0."""
        self.say(
            '[queue]\nmode = "deliverr"\nspool_above_load = "8"\n',
            "2: queue.mode: 'deliver' or 'spool' is wanted, not 'deliverr'; did you mean 'deliver'?",
            "3: queue.spool_above_load: a number is wanted, not '8'",
        )
        self.say(
            "[queue]\nspool_above_load = -0.5\nrun_every = -1\n",
            "2: queue.spool_above_load: at least 0 is wanted, not -0.5",
            '3: queue.run_every: a duration is wanted ("90s", "5m", "2h", "5d" or a number of seconds), not -1',
        )
        for number in ("inf", "nan", "true"):
            self.say(f"[queue]\nspool_above_load = {number}\n", f"2: queue.spool_above_load: a number is wanted, not {number}")
