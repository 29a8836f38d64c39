"""`mta.route.hosts`: from a next hop to addresses, out of a dictionary of DNS."""

from random import Random

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mta.dns.answer import Answer
from mta.envelope import Target
from mta.interfaces import INextHops
from mta.route.hosts import NextHops
from mta.status import MailError, Scope
from mta.testing.dns import FakeResolver

ZONES = {
    "example.test": {"MX": [(10, "mx1.example.test"), (20, "mx2.example.test")]},
    "mx1.example.test": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
    "mx2.example.test": {"A": ["192.0.2.2"]},
    "plain.test": {"A": ["192.0.2.9"]},
    "null.test": {"MX": [(0, ".")]},
    "dangling.test": {"MX": [(10, "nowhere.test")]},
    "empty.test": {"TXT": ["no host"]},
    "ours.test": {"MX": [(10, "mx1.example.test"), (20, "us.example.test")]},
}


class NextHopsTests(SynchronousTestCase):
    """Each with its own resolver."""

    def hosts(self, next_hop, records=ZONES, secure=False, fail=None, **more):
        """What comes at once."""
        self.resolver = FakeResolver(records, secure=secure, fail=fail)
        return self.successResultOf(self.hops(**more).hosts(next_hop))

    def hops(self, **more):
        options = {"random": Random(1), "own_names": ["US.example.test"], "own_addresses": {("192.0.2.77", 25)}} | more
        return NextHops(self.resolver, **options)

    def fails(self, code, enhanced, next_hop, records=ZONES, fail=None, **more):
        self.resolver = FakeResolver(records, fail=fail)
        error = self.failureResultOf(self.hops(**more).hosts(next_hop), MailError).value
        self.assertEqual((error.reply.code, error.reply.enhanced, error.scope), (code, enhanced, Scope.SITE))
        return error

    def test_by_mx(self):
        """Hosts in the order of preference, both families of each."""
        first = {"canonical": "mx1.example.test", "domain": "example.test"}
        self.assertEqual(
            self.hosts("Example.TEST"),
            [
                Target("mx1.example.test", "2001:db8::1", 25, 10, **first),
                Target("mx1.example.test", "192.0.2.1", 25, 10, **first),
                Target("mx2.example.test", "192.0.2.2", 25, 20, canonical="mx2.example.test", domain="example.test"),
            ],
        )
        verifyObject(INextHops, self.hops())

    def test_port_and_taste(self):
        """As in [relay]."""
        found = self.hosts("example.test", port=2525, prefer="ipv4")
        self.assertEqual([(each.address, each.port) for each in found][:2], [("192.0.2.1", 2525), ("2001:db8::1", 2525)])

    def test_implicit_mx(self):
        """A domain with an address only."""
        self.assertEqual(
            self.hosts("plain.test"), [Target("plain.test", "192.0.2.9", 25, canonical="plain.test", domain="plain.test")]
        )

    def test_in_brackets(self):
        """No MX is asked for; that the name is the right one, the operator vouches for."""
        target = Target("mx2.example.test", "192.0.2.2", 587, mx_secure=True, canonical="mx2.example.test")
        self.assertEqual(self.hosts("[mx2.example.test]:587"), [target])
        self.assertEqual(self.resolver.asked, {("mx2.example.test", "A"): 1, ("mx2.example.test", "AAAA"): 1})

    def test_literals(self):
        """Nothing is asked at all."""
        self.assertEqual(self.hosts("[192.0.2.5]"), [Target("192.0.2.5", "192.0.2.5", 25)])
        self.assertEqual(self.hosts("[IPv6:2001:DB8::5]"), [Target("2001:db8::5", "2001:db8::5", 25)])
        self.assertEqual(self.hosts("[127.0.0.1]:2526"), [Target("127.0.0.1", "127.0.0.1", 2526)])
        self.assertEqual(self.resolver.asked, {})

    def test_secure_all_the_way(self):
        """MX and address must both be; each host for itself."""
        found = self.hosts("example.test", secure={"example.test", "mx1.example.test"})
        self.assertEqual(
            [(each.name, each.secure) for each in found], [("mx1.example.test", True)] * 2 + [("mx2.example.test", False)]
        )
        self.assertFalse(any(each.secure for each in self.hosts("example.test", secure={"mx1.example.test", "mx2.example.test"})))

    def test_secure_each_for_itself(self):
        """P16, P20: the verdict on the MX and on each address, and where the CNAMEs of host and domain lead."""
        records = {
            "alias.test": {"CNAME": ["example.test"]},
            "example.test": {"MX": [(1, "www.example.test")]},
            "www.example.test": {"CNAME": ["cloud.test"]},
            "cloud.test": {"A": ["192.0.2.1"], "AAAA": ["2001:db8::1"]},
        }
        for secure, expected in (
            ({"alias.test", "example.test", "www.example.test", "cloud.test"}, (True, True)),
            ({"alias.test", "example.test", "www.example.test"}, (True, False)),
            ({"example.test", "www.example.test", "cloud.test"}, (False, True)),
            ({"cloud.test"}, (False, False)),
        ):
            for target in self.hosts("alias.test", records, secure=secure):
                self.assertEqual((target.mx_secure, target.address_secure), expected)
                self.assertEqual(
                    (target.name, target.canonical, target.domain), ("www.example.test", "cloud.test", "example.test")
                )
        six, four = self.hosts("[cloud.test]", records, secure={"cloud.test/A"})
        self.assertEqual((six.address_secure, four.address_secure), (False, True))

    def test_no_dns_vouches_for_a_literal(self):
        """C2.5: an address literal has no DANE, whatever the resolver vouches for."""
        for literal in ("[192.0.2.5]", "[IPv6:2001:db8::5]:2525"):
            [target] = self.hosts(literal, secure=True)
            self.assertEqual((target.address_secure, target.canonical), (False, ""))

    def test_known_to_be_undeliverable(self):
        """Permanent, each with its code."""
        self.fails(550, "5.1.2", "nope.test")
        self.fails(556, "5.1.10", "null.test")
        self.fails(550, "5.4.4", "dangling.test")
        self.fails(550, "5.4.4", "empty.test")

    def test_nobody_knows(self):
        """Transient: the MX, or all that is left of the hosts."""
        self.fails(451, "4.4.3", "example.test", fail={"example.test": "SERVFAIL"})
        self.fails(451, "4.4.3", "plain.test", fail={"plain.test/A": "TIMEOUT"})
        self.fails(451, "4.4.3", "dangling.test", fail={"nowhere.test": "SERVFAIL"})

    def test_some_are_known(self):
        """A host that cannot be found does not hide the others, nor one family the other."""
        found = self.hosts("example.test", fail={"mx1.example.test": "SERVFAIL"})
        self.assertEqual([each.address for each in found], ["192.0.2.2"])
        found = self.hosts("example.test", fail={"mx1.example.test/AAAA": "TIMEOUT"})
        self.assertEqual([each.address for each in found], ["192.0.2.1", "192.0.2.2"])

    def test_we_are_the_backup(self):
        """Only what is before us."""
        self.assertEqual({each.name for each in self.hosts("ours.test")}, {"mx1.example.test"})

    def test_loops(self):
        """Our name, our address, under whatever name it hides."""
        self.fails(554, "5.4.6", "loop.test", {"loop.test": {"MX": [(1, "us.example.test")]}})
        self.fails(554, "5.4.6", "loop.test", {"loop.test": {"A": ["192.0.2.77"]}})
        self.fails(554, "5.4.6", "[192.0.2.77]")
        self.assertEqual(self.hosts("[192.0.2.77]:2525")[0].port, 2525)

    def test_no_loop_while_the_better_host_is_unknown(self):
        """We are a backup under another name and the first host cannot be looked up: wait, do not bounce."""
        records = {"x.test": {"MX": [(1, "first.test"), (2, "alias.test")]}, "alias.test": {"A": ["192.0.2.77"]}}
        self.fails(451, "4.4.3", "x.test", records, fail={"first.test": "SERVFAIL"})

    def test_own_addresses_may_come_later(self):
        """Ports are known only when we listen."""
        own = set()
        self.assertEqual(len(self.hosts("[127.0.0.1]:2525", own_addresses=own)), 1)
        hops = self.hops(own_addresses=own)
        own.add(("0.0.0.0", 2525))
        self.failureResultOf(hops.hosts("[127.0.0.1]:2525"), MailError)

    def test_a_smarthost_is_never_a_reason_to_bounce(self):
        """What the operator wrote is wrong: 4.3.5, with what is wrong."""
        self.fails(451, "4.3.5", "[nope.test]:587")
        self.fails(451, "4.3.5", "null.test", relays={"null.test"})
        self.fails(451, "4.3.5", "[192.0.2.77]", relays={"[192.0.2.77]"})
        error = self.fails(451, "4.3.5", "nope.test", relays={"nope.test"})
        self.assertIn("nope.test does not exist", error.reply.text)
        self.fails(451, "4.3.5", "[a]:99999")

    def test_equal_hosts_share_the_load(self):
        """The first address is not always the same."""
        records = {
            "x.test": {"MX": [(1, "a.test"), (1, "b.test")]},
            "a.test": {"A": ["192.0.2.1", "192.0.2.2"]},
            "b.test": {"A": ["192.0.2.3"]},
        }
        self.resolver = FakeResolver(records)
        hops = self.hops()
        first = {self.successResultOf(hops.hosts("x.test"))[0].address for _ in range(50)}
        self.assertEqual(first, {"192.0.2.1", "192.0.2.2", "192.0.2.3"})

    def test_asked_side_by_side(self):
        """All addresses at once, not one after the other; cancelling cancels all."""
        asked = []

        class Waiting:
            def query(self, name, rdtype):
                asked.append((name, Deferred()))
                return asked[-1][1]

        self.resolver = Waiting()
        found = self.hops().hosts("example.test")
        asked.pop()[1].callback(FakeResolver(ZONES).answer("example.test", "MX"))
        self.assertEqual(len(asked), 4)
        found.cancel()
        self.failureResultOf(found)
        self.assertTrue(all(waiting.called for _, waiting in asked))

    def test_hundreds_of_hosts(self):
        """A hostile zone costs a bounded number of questions."""
        names = [f"h{n}.test" for n in range(500)]
        records = {"x.test": {"MX": [(1, name) for name in names]}} | {name: {"A": ["192.0.2.1"]} for name in names}
        self.assertEqual(len(self.hosts("x.test", records)), 20)
        self.assertLessEqual(self.resolver.asked.total(), 41)

    def test_answers_are_used_as_they_are(self):
        """A resolver of an embedder may answer with less."""

        class Bare:
            def query(self, name, rdtype):
                done = Deferred()
                done.callback(Answer(name, rdtype, "NOERROR", records=("192.0.2.1",) if rdtype == "A" else ()))
                return done

        self.resolver = Bare()
        self.assertEqual(self.successResultOf(self.hops().hosts("x.test")), [Target("x.test", "192.0.2.1", 25)])
