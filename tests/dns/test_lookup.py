"""`mta.dns.lookup`: one question through servers, attempts and aliases, step by step; it ends once, whatever happens."""

from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.lookup import MAX_ALIASES, Lookup, Servers
from mta.dns.message import MAX_NEGATIVE_TTL, Reply, failure
from mta.dns.udp import TRUNCATED
from tests.dns.loopback import ClockedReactor, LoopbackTestCase, turns


class Pool:
    """A server that says what the test makes it say; unsent: why nothing can be sent to it."""

    def __init__(self, name, unsent=None):
        self.name = name
        self.unsent = unsent
        self.asked = []

    def ask(self, question, heard):
        self.asked.append((question.name, question.rdtype))
        self.heard = heard
        return self.unsent

    def close(self):
        self.closed = True


def yes(ttl=300, authentic=False, **more):
    return Reply("NOERROR", ("192.0.2.1",), "a.test", ttl, authentic, **more)


class LookupTests(SynchronousTestCase):
    """Without any network."""

    def setUp(self):
        """Two servers, nothing said yet."""
        self.pools = [Pool("first"), Pool("second")]
        self.servers = Servers(Clock(), self.pools, Random(1), 5.0, 2)
        self.ends = []

    def begin(self, name="a.test", rdtype="A", trusted=True):
        lookup = Lookup(self.servers, name, rdtype, trusted, lambda *said: self.ends.append(said))
        lookup.begin()
        return lookup

    def count(self):
        return [len(pool.asked) for pool in self.pools]

    def test_the_first_answer_ends_it(self):
        """Nobody else is asked, and whoever answered is asked first from then on."""
        self.begin()
        self.pools[0].heard(failure("TIMEOUT"))
        self.pools[1].heard(yes(60))
        self.assertEqual((self.ends, self.count()), ([(yes(60), False, 60)], [1, 1]))
        self.begin()
        self.assertEqual(self.count(), [1, 2])

    def test_secure(self):
        """AD counts from servers that are trusted only."""
        for trusted, authentic, secure in ((True, True, True), (False, True, False), (True, False, False)):
            self.begin(trusted=trusted)
            self.pools[0].heard(yes(authentic=authentic))
            self.assertEqual(self.ends.pop()[1], secure)

    def test_the_weakest_part_of_a_chain(self):
        """The least TTL, and secure only if all of it is."""
        for first, second in ((True, True), (True, False), (False, True)):
            self.begin()
            self.pools[0].heard(Reply("NOERROR", (), "b.test", 30, first, unfinished=True))
            self.pools[0].heard(yes(600, second))
            self.assertEqual(self.ends.pop(), (yes(600, second), first and second, 30))
            self.assertEqual(self.pools[0].asked[-2:], [("a.test", "A"), ("b.test", "A")])

    def test_rounds(self):
        """The silent are asked again, those that have spoken are not; what they said is what the lookup says."""
        self.begin()
        self.pools[0].heard(failure("SERVFAIL", "why"))
        self.pools[1].heard(failure("TIMEOUT"))
        self.pools[1].heard(failure("TIMEOUT"))
        self.assertEqual((self.ends, self.count()), ([(failure("SERVFAIL", "why"), False, 5.0)], [1, 2]))

    def test_all_have_spoken(self):
        """Nobody is left: no second round."""
        self.begin()
        self.pools[0].heard(failure("SERVFAIL"))
        self.pools[1].heard(failure("REFUSED"))
        self.assertEqual((self.ends[0][0].rcode, self.count()), ("REFUSED", [1, 1]))

    def test_nothing_can_be_sent(self):
        """Each server is tried in each round, all at once."""
        for pool in self.pools:
            pool.unsent = failure("UNREACHABLE", pool.name)
        self.begin()
        self.assertEqual((self.ends, self.count()), ([(failure("UNREACHABLE", "second"), False, 5.0)], [2, 2]))

    def test_no_server(self):
        """An answer, and no hang."""
        self.servers.pools = []
        self.begin()
        self.assertEqual(self.ends[0][0].rcode, "UNREACHABLE")

    def test_an_alias_without_end(self):
        """It is given up."""
        self.begin()
        for number in range(MAX_ALIASES + 1):
            self.pools[0].heard(Reply("NOERROR", (), f"a{number}.test", 30, True, unfinished=True))
        self.assertEqual(([said[0].rcode for said in self.ends], self.count()), (["SERVFAIL"], [MAX_ALIASES + 1, 0]))

    def test_an_alias_to_no_name(self):
        """What no zone can hold does not exist; nobody is asked for it, and nobody vouches for it."""
        self.begin()
        self.pools[0].heard(Reply("NOERROR", (), "b\\.test", 30, True, unfinished=True))
        ((reply, secure, ttl),) = self.ends
        self.assertEqual((reply.rcode, secure, ttl, self.count()), ("NXDOMAIN", False, MAX_NEGATIVE_TTL, [1, 0]))

    def test_stopped(self):
        """What comes afterwards is not heard, and `done` is not called."""
        lookup = self.begin()
        lookup.stop()
        for reply in (yes(), failure("TIMEOUT"), TRUNCATED):
            self.pools[0].heard(reply)
        self.assertEqual((self.ends, self.count()), ([], [1, 0]))

    def test_bugs(self):
        """At the beginning and on the way: one end, told to the log."""
        self.begin(rdtype="HINFO")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.begin()
        self.pools[0].heard(None)
        self.assertEqual(len(self.flushLoggedErrors(AttributeError)), 1)
        self.pools[0].ask = lambda question, heard: 1 // 0
        self.begin()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual([said[0].rcode for said in self.ends], ["BROKEN"] * 3)


class TcpTests(LoopbackTestCase):
    """With a server on the loopback, whose answers do not fit."""

    def lookup(self, clock, server):
        resolver = self.resolver(server, clock=clock, attempts=1)
        ends = []
        Lookup(resolver._servers, "example.test", "MX", False, lambda *said: ends.append(said[0])).begin()
        return resolver._servers, ends

    async def test_over_tcp(self):
        """TC asks again there, and the connection is gone afterwards."""
        servers, ends = self.lookup(ClockedReactor(), self.server(truncate=True))
        while not ends or servers.connections:
            await turns(1)
        self.assertEqual(len(ends[0].records), 2)

    async def test_stopped_on_the_way(self):
        """No end is told; the connection goes."""
        server = self.server(truncate=True, delay=0.05)
        resolver = self.resolver(server)
        ends = []
        lookup = Lookup(resolver._servers, "example.test", "MX", False, lambda *said: ends.append(said))
        lookup.begin()
        while not resolver._servers.connections:
            await turns(1)
        lookup.stop()
        while resolver._servers.connections:
            await turns(1)
        self.assertEqual(ends, [])
