"""`mta.route.mx`: what is known is permanent, what nobody knows is transient, and we never mail ourselves."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.answer import Answer, Mx
from mta.envelope import Target
from mta.route.mx import ADDRESS_LIMIT, HOST_LIMIT, Host, NextHop, arrange, exchangers, is_own
from mta.status import MailError, Scope


def mx(*records, rcode="NOERROR", **more):
    return Answer("example.test", "MX", rcode, records=tuple(Mx(*record) for record in records), **more)


def hosts(answer, own_names=(), seed=1):
    return exchangers("example.test", answer, own_names, Random(seed).shuffle)


def target(address, preference=0, name="h.test", port=25):
    return Target(name, address, port, preference)


class FailingTestCase(SynchronousTestCase):
    """Asserts about MailErrors."""

    def fails(self, code, enhanced, call, *args, **kwargs):
        error = self.assertRaises(MailError, call, *args, **kwargs)
        self.assertEqual((error.reply.code, error.reply.enhanced, error.scope), (code, enhanced, Scope.SITE))
        return error


class ExchangersTests(FailingTestCase):
    """One MX answer."""

    def test_by_preference(self):
        """The smaller first."""
        self.assertEqual(hosts(mx((20, "b.test"), (10, "a.test"))), [Host("a.test", 10), Host("b.test", 20)])

    def test_equal_preferences_are_shuffled(self):
        """Both orders come, and nothing crosses a preference."""
        seen = {
            tuple(host.name for host in hosts(mx((10, "a.test"), (10, "b.test"), (5, "c.test")), seed=seed)) for seed in range(20)
        }
        self.assertEqual(seen, {("c.test", "a.test", "b.test"), ("c.test", "b.test", "a.test")})

    def test_implicit_mx(self):
        """No MX: the domain itself."""
        self.assertEqual(hosts(mx()), [Host("example.test", 0)])

    def test_no_such_domain(self):
        """Is an error at once, without a look at its addresses."""
        self.fails(550, "5.1.2", hosts, mx(rcode="NXDOMAIN"))

    def test_null_mx(self):
        """RFC 7505."""
        self.fails(556, "5.1.10", hosts, mx((0, ".")))

    def test_null_mx_among_others(self):
        """A mistake: the others count."""
        self.assertEqual(hosts(mx((0, "."), (10, "a.test"))), [Host("a.test", 10)])

    def test_nobody_knows(self):
        """Transient, with what the server said."""
        for rcode in ("SERVFAIL", "TIMEOUT", "REFUSED", "GARBLED"):
            error = self.fails(451, "4.4.3", hosts, mx(rcode=rcode, reason="because"))
            self.assertIn(f"example.test MX: {rcode} (because)", error.reply.text)

    def test_we_are_in_the_list(self):
        """Only hosts preferred to us stay: not ourselves, not our equals, not those behind us."""
        records = (5, "a.test"), (10, "us.test"), (10, "b.test"), (20, "c.test")
        self.assertEqual(hosts(mx(*records), {"us.test"}), [Host("a.test", 5)])

    def test_we_are_the_best(self):
        """It should have been delivered here."""
        error = self.fails(554, "5.4.6", hosts, mx((10, "us.test"), (10, "b.test"), (20, "c.test")), {"us.test"})
        self.assertIn("mail for example.test loops back to myself", error.reply.text)

    def test_we_are_the_implicit_mx(self):
        """The same."""
        self.fails(554, "5.4.6", hosts, mx(), {"example.test"})

    def test_bounded(self):
        """Of thousands, the best few."""
        found = hosts(mx(*((n, f"h{n}.test") for n in range(1000))))
        self.assertEqual([host.preference for host in found], list(range(HOST_LIMIT)))

    @settings(deadline=None, max_examples=100)
    @given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcdu")), min_size=1, max_size=8), st.integers(0, 9))
    def test_the_law(self, records, seed):
        """In order; complete, but for us and what is not before us."""
        ours = min((preference for preference, name in records if name == "u"), default=99)
        expected = {Host(name, preference) for preference, name in records if preference < ours}
        if expected:
            found = hosts(mx(*records), {"u"}, seed)
            self.assertEqual(set(found), expected)
            self.assertEqual(found, sorted(found, key=lambda host: host.preference))
        else:
            self.fails(554, "5.4.6", hosts, mx(*records), {"u"}, seed)


class NextHopTests(FailingTestCase):
    """What a next hop's text means."""

    def test_forms(self):
        """Domains have MX; brackets and literals have none."""
        for text, hop in (
            ("Example.Test", NextHop("example.test", 25, True)),
            ("[Mx.Example.test]", NextHop("mx.example.test", 25, False)),
            ("[mx.example.test]:587", NextHop("mx.example.test", 587, False)),
            ("[192.0.2.1]", NextHop("192.0.2.1", 25, False, "192.0.2.1")),
            ("[192.0.2.1]:2525", NextHop("192.0.2.1", 2525, False, "192.0.2.1")),
            ("[IPv6:2001:DB8::1]", NextHop("2001:db8::1", 25, False, "2001:db8::1")),
            ("[2001:db8::1]:25", NextHop("2001:db8::1", 25, False, "2001:db8::1")),
        ):
            self.assertEqual(NextHop.of(text, 25), hop)

    def test_nonsense(self):
        """Is a mistake of ours: the mail waits."""
        for text in ("[]", "[a", "[a]:0", "[a]:65536", "[a]:x", "[a]b", "[a][b]"):
            self.fails(451, "4.3.5", NextHop.of, text, 25)


class ArrangeTests(SynchronousTestCase):
    """Addresses in order."""

    def order(self, *targets, prefer="any", own=()):
        return [each.address for each in arrange(targets, prefer, own)]

    FOUR = target("192.0.2.1"), target("192.0.2.2"), target("192.0.2.3")
    SIX = target("2001:db8::1"), target("2001:db8::2")

    def test_families_alternate(self):
        """IPv6 first; the rest of the longer family behind."""
        self.assertEqual(
            self.order(*self.FOUR, *self.SIX),
            ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"],
        )

    def test_preferred_family(self):
        """The wanted one first, the other one behind: nothing is lost."""
        self.assertEqual(
            self.order(*self.SIX, *self.FOUR, prefer="ipv4")[:4], ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"]
        )
        self.assertEqual(self.order(*self.FOUR, *self.SIX, prefer="ipv6")[:3], ["2001:db8::1", "2001:db8::2", "192.0.2.1"])

    def test_preference_comes_first(self):
        """The domain's word is above our taste."""
        self.assertEqual(
            self.order(target("2001:db8::1", 20), target("192.0.2.1", 10), prefer="ipv6"), ["192.0.2.1", "2001:db8::1"]
        )

    def test_our_address_cuts(self):
        """Like our name: we, our equals and what is behind us go."""
        targets = target("192.0.2.1", 5), target("192.0.2.2", 10), target("192.0.2.3", 10), target("192.0.2.4", 20)
        self.assertEqual(self.order(*targets, own={("192.0.2.2", 25)}), ["192.0.2.1"])
        self.assertEqual(self.order(*targets, own={("192.0.2.1", 25)}), [])

    def test_bounded(self):
        """Of hundreds, the first, both families among them."""
        many = [target(f"192.0.2.{n}") for n in range(100)] + [target(f"2001:db8::{n:x}") for n in range(1, 100)]
        found = self.order(*many)
        self.assertEqual((len(found), sum(":" in address for address in found)), (ADDRESS_LIMIT, ADDRESS_LIMIT // 2))


class OwnTests(SynchronousTestCase):
    """Is that us?"""

    def test_own(self):
        """The same address and port; any loopback or unspecified address where we listen on all."""
        for address, own in (
            ("192.0.2.1", ("192.0.2.1", 25)),
            ("::ffff:192.0.2.1", ("192.0.2.1", 25)),
            ("2001:db8:0::1", ("2001:db8::1", 25)),
            ("127.0.0.1", ("0.0.0.0", 25)),
            ("127.8.8.8", ("0.0.0.0", 25)),
            ("::1", ("::", 25)),
            ("127.0.0.1", ("::", 25)),
            ("0.0.0.0", ("192.0.2.1", 25)),
            ("::", ("127.0.0.1", 25)),
        ):
            self.assertTrue(is_own(address, 25, {own}), (address, own))

    def test_not_own(self):
        """Another port or another address."""
        for address, own in (
            ("192.0.2.1", ("192.0.2.1", 2525)),
            ("192.0.2.1", ("192.0.2.2", 25)),
            ("192.0.2.1", ("0.0.0.0", 25)),
            ("127.0.0.2", ("127.0.0.1", 25)),
            ("0.0.0.0", ("192.0.2.1", 2525)),
        ):
            self.assertFalse(is_own(address, 25, {own}), (address, own))
