"""The terms of delivery in MAIL: what is read, what is refused."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.envelope import Flag
from mta.smtp.event import MailFrom
from mta.smtp.terms import (
    USUAL,
    DeliverBy,
    Terms,
    parse_by,
    parse_hold_for,
    parse_hold_until,
    parse_priority,
    read_terms,
)
from mta.status import MailError
from tests.smtp.talk import OPTIONS, Talk

NOW = 1_795_000_000.0  # 2026-11-18T11:06:40Z


class TermsTests(SynchronousTestCase):
    def refused(self, code: str, parse, *args) -> None:
        self.assertEqual(code, str(self.assertRaises(MailError, parse, *args).reply)[:9], args)

    def test_by(self) -> None:
        """RFC 2852 4: seconds with a sign, mode, trace; mode R never in the past, nor sooner than we promise."""
        for text, by in (
            ("120;R", DeliverBy(120, "R")),
            ("+60;rt", DeliverBy(60, "R", True)),
            ("-5;N", DeliverBy(-5, "N")),
            ("0;nT", DeliverBy(0, "N", True)),
            ("999999999;N", DeliverBy(999_999_999, "N")),
        ):
            self.assertEqual(by, parse_by(text, 60), text)
        for text in (
            None,
            "",
            "5",
            "5;",
            ";R",
            "5;X",
            "5;RR",
            "5;TR",
            "1000000000;N",
            "--5;N",
            "5 ;N",
            "٣;N",
            "0;R",
            "-1;R",
            "5.0;N",
        ):
            self.refused("501 5.5.4", parse_by, text, 0)
        self.refused("555 5.5.4", parse_by, "59;R", 60)
        self.assertEqual(1, parse_by("1;R", 0).seconds)

    def test_facts(self) -> None:
        """For the log, and as flags: whose time had passed before he came to us has been told so."""
        self.assertEqual("120;RT", Terms(DeliverBy(120, "R", True), priority=-3).facts["by"])
        self.assertEqual({"by": None, "release": "2026-11-18T11:06:40Z", "priority": None}, Terms(release=NOW).facts)
        self.assertEqual({}, USUAL.facts)
        for by, flags in (("1;R", Flag.BY_RETURN), ("1;NT", Flag.BY_TRACE), ("1;N", Flag(0)), ("0;N", Flag.DELAY_WARNED)):
            self.assertEqual(flags, parse_by(by, 0).flags)

    def test_hold(self) -> None:
        """RFC 4865 3: an interval in seconds, or a date of RFC 3339."""
        self.assertEqual((0, 86400), (parse_hold_for("0"), parse_hold_for("86400")))
        for text in (None, "", "-1", "1.5", "1000000000", "x", "٣"):
            self.refused("501 5.5.4", parse_hold_for, text)
        for text, moment in (
            ("2026-11-18T11:06:40Z", NOW),
            ("2026-11-18t11:06:40z", NOW),
            ("2026-11-18T12:06:40+01:00", NOW),
            ("2026-11-18T09:36:40-01:30", NOW),
            ("2026-11-18T11:06:40.5Z", NOW + 0.5),
            ("1969-12-31T23:59:59Z", 0.0),  # what has passed, has passed
            ("0001-01-01T00:00:00+00:01", 0.0),  # in UTC that is a year which cannot be written
        ):
            self.assertEqual(moment, parse_hold_until(text), text)
        for text in (
            None,
            "",
            "2026-11-18",
            "2026-11-18T11:06:40",
            "2026-13-18T11:06:40Z",
            "2026-02-30T11:06:40Z",
            "2026-11-18T24:06:40Z",
        ):
            self.refused("501 5.5.4", parse_hold_until, text)
        for text in (
            "2026-11-18T11:06:61Z",
            "2026-11-18T11:06:40+24:00",
            "0000-01-01T00:00:00Z",
            "2026-11-18 11:06:40Z",
            "٢026-11-18T11:06:40Z",
        ):
            self.refused("501 5.5.4", parse_hold_until, text)

    def test_priority(self) -> None:
        """RFC 6710 4: -9 to 9, in one spelling."""
        self.assertEqual(list(range(-9, 10)), [parse_priority(str(number)) for number in range(-9, 10)])
        for text in (None, "", "10", "-10", "+1", "01", "-0", "1.0", " 1", "٣"):
            self.refused("501 5.5.4", parse_priority, text)

    def test_read(self) -> None:
        """All together; the moment of release is one number; both HOLD parameters, or longer than we offer, are refused."""
        self.assertIs(USUAL, read_terms({"SIZE": "5"}, 0, 0, NOW))
        self.assertEqual(Terms(None, NOW + 60, -3), read_terms({"HOLDFOR": "60", "MT-PRIORITY": "-3"}, 0, 60, NOW))
        self.assertEqual(
            Terms(DeliverBy(5, "N"), NOW - 40), read_terms({"BY": "5;N", "HOLDUNTIL": "2026-11-18T11:06:00Z"}, 0, 9, NOW)
        )
        self.refused("501 5.5.4", read_terms, {"HOLDFOR": "1", "HOLDUNTIL": "2026-11-18T11:06:00Z"}, 0, 9, NOW)
        self.refused("501 5.5.4", read_terms, {"HOLDFOR": "61"}, 0, 60, NOW)
        self.refused("501 5.5.4", read_terms, {"HOLDUNTIL": "2026-11-18T11:08:00Z"}, 0, 60, NOW)

    def test_of_mail(self) -> None:
        """The machine reads them where they are offered, with the time that it is given."""
        options = attrs.evolve(OPTIONS, deliver_by=0, future_release=3600, mt_priority=True, now=lambda: NOW)
        talk = Talk(options)
        said = talk.say(b"EHLO c.test\r\n")
        self.assertIn(b"250-DELIVERBY\r\n250-FUTURERELEASE 3600 2026-11-18T12:06:40Z\r\n250 MT-PRIORITY\r\n", said)
        self.assertEqual([250], talk.codes(b"MAIL FROM:<a@c.test> BY=60;R HOLDFOR=60 MT-PRIORITY=9 SIZE=5\r\n"))
        self.assertEqual(
            [Terms(DeliverBy(60, "R"), NOW + 60, 9)], [event.terms for event in talk.events if type(event) is MailFrom]
        )
        for words in (b"BY=60;R", b"HOLDFOR=1", b"HOLDUNTIL=2026-11-18T12:00:00Z", b"MT-PRIORITY=1"):
            talk = Talk()
            talk.say(b"EHLO c.test\r\n")
            self.assertEqual([555], talk.codes(b"MAIL FROM:<a@c.test> " + words + b"\r\n"))

    @settings(deadline=None, max_examples=150)
    @given(
        st.dictionaries(
            st.sampled_from(["BY", "HOLDFOR", "HOLDUNTIL", "MT-PRIORITY"]), st.one_of(st.none(), st.text(max_size=30))
        )
    )
    def test_anything(self, parameters) -> None:
        """Whatever is said gives terms or a MailError, never more than was offered."""
        try:
            terms = read_terms(parameters, 10, 60, NOW)
        except MailError:
            return
        assert terms.release is None or terms.release <= NOW + 60
        assert -9 <= terms.priority <= 9
        assert terms.deliver_by is None or terms.deliver_by.mode == "N" or terms.deliver_by.seconds >= 10
