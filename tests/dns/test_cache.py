"""`mta.dns.cache`: nothing outlives its time, failures least of all, and the size is bounded."""

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.answer import Answer
from mta.dns.cache import FAILURE_SECONDS, MOST_BYTES, Cache


def answer(name="a.test", rcode="NOERROR", expires=100.0, **more):
    return Answer(name, "A", rcode, records=("192.0.2.1",) if rcode == "NOERROR" else (), expires=expires, **more)


class CacheTests(SynchronousTestCase):
    """Put and get, on a clock that is a number."""

    def test_kept_until_it_expires(self):
        """At its last instant it is gone."""
        cache = Cache()
        cache.put(answer(), 0.0)
        self.assertEqual(cache.get("a.test", "A", 99.9), answer())
        self.assertIsNone(cache.get("a.test", "A", 100.0))
        self.assertEqual(len(cache), 0)

    def test_type_is_part_of_the_key(self):
        """An A record says nothing of AAAA."""
        cache = Cache()
        cache.put(answer(), 0.0)
        self.assertIsNone(cache.get("a.test", "AAAA", 1.0))

    def test_the_verdict_stays_with_the_answer(self):
        """What was secure is secure out of the cache, what was not is not."""
        cache = Cache()
        cache.put(answer("s.test", secure=True), 0.0)
        cache.put(answer("i.test"), 0.0)
        self.assertTrue(cache.get("s.test", "A", 1.0).secure)
        self.assertFalse(cache.get("i.test", "A", 1.0).secure)

    def test_negative_is_kept(self):
        """NXDOMAIN has the time that its SOA gave it."""
        cache = Cache()
        cache.put(answer(rcode="NXDOMAIN", expires=60.0), 0.0)
        self.assertEqual(cache.get("a.test", "A", 59.0).rcode, "NXDOMAIN")

    def test_failure_is_kept_briefly(self):
        """A SERVFAIL that claims 300 s is asked again after five."""
        cache = Cache()
        cache.put(answer(rcode="SERVFAIL", expires=300.0), 0.0)
        self.assertEqual(cache.get("a.test", "A", FAILURE_SECONDS - 0.1).rcode, "SERVFAIL")
        self.assertIsNone(cache.get("a.test", "A", FAILURE_SECONDS))

    def test_ttl_zero_is_not_kept(self):
        """And it replaces what was there."""
        cache = Cache()
        cache.put(answer(), 0.0)
        cache.put(answer(expires=1.0), 1.0)
        self.assertIsNone(cache.get("a.test", "A", 1.0))

    def test_least_recently_used_goes_first(self):
        """A full cache forgets what nobody asked for."""
        cache = Cache(size=2)
        cache.put(answer("a.test"), 0.0)
        cache.put(answer("b.test"), 0.0)
        cache.get("a.test", "A", 1.0)
        cache.put(answer("c.test"), 1.0)
        self.assertIsNone(cache.get("b.test", "A", 2.0))
        self.assertIsNotNone(cache.get("a.test", "A", 2.0))
        self.assertIsNotNone(cache.get("c.test", "A", 2.0))

    def test_large_answers(self):
        """A zone may answer with thousands of names: a cache full of such answers holds 64 MiB of them, whatever becomes of each."""
        cache, records = Cache(), tuple(f"{n:04}.{'a' * 240}.test" for n in range(3400))
        large = attrs.evolve(answer(), records=records)
        for n in range(200):
            cache.put(attrs.evolve(large, name=f"{n}.test"), 0.0)
        kept = len(cache)
        self.assertTrue(40 < kept < MOST_BYTES / len("".join(records)), kept)
        self.assertIsNotNone(cache.get("199.test", "A", 1.0))
        for n in range(200):
            self.assertIsNone(cache.get(f"{n}.test", "A", 100.0))
        for _ in range(2):
            for n in range(1000):
                cache.put(answer(f"{n}.test", expires=200.0), 100.0)
        self.assertEqual(len(cache), 1000)
        cache.put(large, 0.0)
        cache.clear()
        self.assertEqual(cache._bytes, 0)

    def test_clear(self):
        """Nothing is left."""
        cache = Cache()
        cache.put(answer(), 0.0)
        cache.clear()
        self.assertIsNone(cache.get("a.test", "A", 1.0))

    @settings(deadline=None, max_examples=100)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from("abcdef"),
                st.sampled_from(("NOERROR", "NXDOMAIN", "SERVFAIL")),
                st.floats(0, 20),
                st.floats(0, 4),
            ),
            max_size=40,
        )
    )
    def test_against_a_plain_dictionary(self, steps):
        """Whatever is put and whenever it is asked for: never stale, never wrong, never more than the size."""
        cache, model, now = Cache(size=3), {}, 0.0
        for name, rcode, ttl, wait in steps:
            item = answer(name, rcode, now + ttl)
            cache.put(item, now)
            life = min(ttl, FAILURE_SECONDS) if rcode == "SERVFAIL" else ttl
            model[name] = attrs.evolve(item, expires=now + life)
            now += wait
            for each, expected in model.items():
                got = cache.get(each, "A", now)
                self.assertTrue(got is None or (got == expected and got.expires > now))
            self.assertLessEqual(len(cache), 3)
