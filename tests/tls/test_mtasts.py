"""MTA-STS texts: what strangers publish is read right, or refused with the one error."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.tls.mtasts import MAX_AGE, MAX_POLICY, Mode, Result, StsError, StsPolicy, parse_policy, record_id

POLICY = b"version: STSv1\r\nmode: enforce\r\nmx: mx1.example.org\r\nmx: *.example.net\r\nmax_age: 604800\r\n"

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
hosts = st.lists(labels, min_size=1, max_size=3).map(lambda parts: ".".join([*parts, "test"]))
patterns = st.builds(lambda star, host: star + host, st.sampled_from(["", "*."]), hosts)
policies = st.builds(
    StsPolicy,
    id=st.from_regex(r"[A-Za-z0-9]{1,32}", fullmatch=True),
    mode=st.sampled_from(Mode),
    mx=st.lists(patterns, min_size=1, max_size=4, unique=True).map(tuple),
    max_age=st.integers(0, MAX_AGE),
)


class RecordTests(SynchronousTestCase):
    """`record_id` (RFC 8461 3.1)."""

    def test_the_id_is_found(self) -> None:
        """The RFC's own example, blanks round the delimiters, unknown fields, and the first id of several."""
        for text in (
            b"v=STSv1; id=20160831085700Z;",
            b"v=STSv1;id=20160831085700Z",
            b"v=STSv1 \t;\t id=20160831085700Z ; other=x!y",
            b"v=STSv1; x-y.z_1=a; id=20160831085700Z; id=2;",
        ):
            with self.subTest(text=text):
                self.assertEqual(record_id([text]), "20160831085700Z")

    def test_other_txt_records_do_not_matter(self) -> None:
        """What does not begin with v=STSv1 is not ours."""
        self.assertEqual(record_id([b"v=spf1 -all", b"v=STSv1; id=7;", b"v=STSv10; id=8", b""]), "7")

    def test_two_records_are_none(self) -> None:
        """P36: more than one record of ours means that there is no policy."""
        self.assertEqual(record_id([b"v=STSv1; id=1;", b"v=STSv1; id=2;"]), "")
        self.assertEqual(record_id([b"v=STSv1; id=1;", b"v=STSv1"]), "")

    def test_broken_records_are_none(self) -> None:
        """Nothing, no id, an id that is none, broken fields, another case, an earlier blank."""
        self.assertEqual(record_id([]), "")
        for text in (
            b"v=STSv1",
            b"v=STSv1;",
            b"v=STSv1; id=",
            b"v=STSv1; id=" + b"a" * 33,
            b"v=STSv1; id=a-b",
            b"v=STSv1; id=a b",
            b"v=STSv1; id=a;;",
            b"v=STSv1; id=a; nonsense",
            b"v=STSv1; id=\xe9",
            b"v=STSv1; ID=a",
            b"V=STSv1; id=a",
            b" v=STSv1; id=a",
            b"id=a; v=STSv1",
        ):
            with self.subTest(text=text):
                self.assertEqual(record_id([text]), "")

    @settings(deadline=None, max_examples=200)
    @given(st.lists(st.one_of(st.binary(max_size=40), st.binary(max_size=40).map(lambda tail: b"v=STSv1;" + tail)), max_size=3))
    def test_never_raises(self, texts: list[bytes]) -> None:
        """Whatever DNS brings, it is an id or none."""
        found = record_id(texts)
        self.assertTrue(found == "" or (found.isalnum() and len(found) <= 32))


class PolicyTests(SynchronousTestCase):
    """`parse_policy` (RFC 8461 3.2)."""

    def assertInvalid(self, body: bytes, why: str) -> None:
        error = self.assertRaises(StsError, parse_policy, "1", body)
        self.assertIs(error.result, Result.INVALID)
        self.assertIn(why, error.detail)

    def test_a_policy(self) -> None:
        """CRLF and LF, blanks behind values, no end of the last line, unknown keys, blank lines."""
        expected = StsPolicy("1", Mode.ENFORCE, ("mx1.example.org", "*.example.net"), 604800)
        self.assertEqual(parse_policy("1", POLICY), expected)
        self.assertEqual(parse_policy("1", POLICY.replace(b"\r\n", b"\n")), expected)
        self.assertEqual(parse_policy("1", POLICY.replace(b"\r\n", b" \t\n").replace(b": ", b":").strip()), expected)
        self.assertEqual(parse_policy("1", b"x-new_key.1: \xc3\xa9 : what\r\n\r\n" + POLICY), expected)

    def test_the_first_of_each_key_counts(self) -> None:
        """All but mx count once, mx gathers."""
        body = POLICY + b"version: STSv2\r\nmode: none\r\nmax_age: 1\r\nmx: mx3.example.org\r\nmx: MX1.example.org.\r\n"
        expected = StsPolicy("1", Mode.ENFORCE, ("mx1.example.org", "*.example.net", "mx3.example.org"), 604800)
        self.assertEqual(parse_policy("1", body), expected)

    def test_modes(self) -> None:
        """P30, P31, P32: enforce, testing, none; none needs no mx."""
        for mode in Mode:
            body = POLICY.replace(b"enforce", mode.value.encode())
            self.assertIs(parse_policy("1", body).mode, mode)
        self.assertEqual(parse_policy("1", b"version: STSv1\nmode: none\nmax_age: 60\n"), StsPolicy("1", Mode.NONE, (), 60))

    def test_names_are_normalised(self) -> None:
        """Case, the final dot, and U-labels."""
        body = POLICY.replace(b"mx1.example.org", "MX.Bücher.example.".encode())
        self.assertEqual(parse_policy("1", body).mx, ("mx.xn--bcher-kva.example", "*.example.net"))

    def test_what_is_not_right_is_refused(self) -> None:
        """P34: version, mode, max_age, mx, lines, encoding, size."""
        for old, new, why in (
            (b"STSv1", b"STSv2", "version"),
            (b"version: STSv1\r\n", b"", "version"),
            (b"enforce", b"Enforce", "mode"),
            (b"mode: enforce\r\n", b"", "mode"),
            (b"604800", b"-1", "max_age"),
            (b"604800", b"12345678901", "max_age"),
            (b"604800", "٣".encode(), "max_age"),
            (b"max_age: 604800\r\n", b"", "max_age"),
            (b"mx1.example.org", b"*", "no host name"),
            (b"mx1.example.org", b"mx*.example.org", "no host name"),
            (b"mx1.example.org", b"*.*.example.org", "no host name"),
            (b"mx1.example.org", b"192.0.2.1", "no host name"),
            (b"mx1.example.org", b"", "no host name"),
            (b"\r\nmx", b"\rmx", "mode"),
            (b"max_age: ", b"max_age ", "colon"),
            (b"mx1", b"\xff", "UTF-8"),
            (b"mx1", b"m" * MAX_POLICY, "longer"),
        ):
            with self.subTest(new=new[:40]):
                self.assertInvalid(POLICY.replace(old, new), why)
        self.assertInvalid(b"", "version")
        self.assertInvalid(b"<html>: no", "version")

    def test_enforce_and_testing_need_mx(self) -> None:
        """A policy that allows no host at all is a mistake, not a wish."""
        for mode in (b"enforce", b"testing"):
            self.assertInvalid(b"version: STSv1\nmax_age: 60\nmode: " + mode, "without mx")

    def test_a_year_at_most(self) -> None:
        """max_age beyond the RFC's greatest is cut down to it."""
        self.assertEqual(parse_policy("1", POLICY.replace(b"604800", b"9999999999")).max_age, MAX_AGE)

    @settings(deadline=None, max_examples=200)
    @given(policies)
    def test_round_trip(self, policy: StsPolicy) -> None:
        """parse(serialise(x)) == x, as text and as a hint that went through JSON."""
        for end in ("\n", "\r\n"):
            self.assertEqual(parse_policy(policy.id, end.join(policy.lines).encode()), policy)
        self.assertEqual(StsPolicy.of_hint(json.loads(json.dumps(policy.as_hint()))), policy)

    @settings(deadline=None, max_examples=200)
    @given(
        st.one_of(
            st.binary(max_size=200),
            st.lists(st.one_of(st.sampled_from(POLICY.split(b"\r\n")), st.binary(max_size=20)), max_size=8).map(b"\n".join),
            st.tuples(st.integers(0, len(POLICY)), st.binary(max_size=4)).map(lambda t: POLICY[: t[0]] + t[1] + POLICY[t[0] :]),
        )
    )
    def test_only_the_one_error(self, body: bytes) -> None:
        """Whatever a web server says, it is a policy or an StsError that can be printed."""
        try:
            policy = parse_policy("1", body)
        except StsError as error:
            self.assertIn("sts-policy-invalid: ", str(error))
        else:
            self.assertTrue(policy.mx or policy.mode is Mode.NONE)
            self.assertEqual(parse_policy("1", "\r\n".join(policy.lines).encode()), policy)


class AllowsTests(SynchronousTestCase):
    """`StsPolicy.allows` (RFC 8461 4.1)."""

    def setUp(self) -> None:
        self.policy = StsPolicy("1", Mode.ENFORCE, ("mx1.example.org", "*.example.net", "*.xn--bcher-kva.example"), 60)

    def test_hosts_of_the_policy(self) -> None:
        """Exact names, one label for the star, any case, with or without the final dot."""
        for host in ("mx1.example.org", "MX1.Example.ORG.", "a.example.net", "mx-7.EXAMPLE.net.", "m.xn--bcher-kva.example"):
            self.assertTrue(self.policy.allows(host), host)

    def test_other_hosts(self) -> None:
        """P33: no label, two labels, a name that only ends alike, addresses, nothing."""
        for host in (
            "example.net",
            ".example.net",
            "a.b.example.net",
            "aexample.net",
            "mx1.example.org.evil.test",
            "mx2.example.org",
            "192.0.2.1",
            "2001:db8::1",
            "",
            ".",
            "*.example.org",
        ):
            self.assertFalse(self.policy.allows(host), host)


class HintTests(SynchronousTestCase):
    """`StsPolicy.of_hint`."""

    def test_damage_is_none(self) -> None:
        """A hint that is not what was written is as good as none."""
        good = StsPolicy("1", Mode.ENFORCE, ("mx.example.org",), 60).as_hint()
        for damage in (
            {"id": 1},
            {"id": ""},
            {"id": "a b"},
            {"mode": "x"},
            {"mx": "mx"},
            {"mx": []},
            {"mx": [None]},
            {"mx": ["a\nb"]},
            {"max_age": "60"},
            {"max_age": -1},
            {"max_age": 10**5000},
            {"max_age": True},
        ):
            with self.subTest(damage=damage):
                self.assertIsNone(StsPolicy.of_hint({**good, **damage}))
        for value in (None, 1, "x", [], {}, {**good, "mx": ["\ud800.example"]}):
            self.assertIsNone(StsPolicy.of_hint(value))
