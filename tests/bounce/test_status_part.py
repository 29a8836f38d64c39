"""The delivery status: the fields of RFC 3464, checked by its grammar."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.bounce.notice import Occasion
from mta.bounce.status_part import Action, Fate, delivery_status, fate_at_bounce, status_of
from mta.envelope import Flag, Notify
from tests.bounce.common import CREATED, EXPIRES, claim, message, parsed, report
from tests.smtp.test_dsn import envids, orcpts

DATE = r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} [+-]\d{4}"
ATOM = r"[!#-'*+\-/0-9=?A-Z^-~]+"
TYPED = rf"{ATOM}; .+"
PER_MESSAGE = [  # RFC 3464 2.2, and its own fields at the end
    ("Original-Envelope-Id", r".+", False),
    ("Reporting-MTA", rf"{ATOM}; .+", True),
    ("Arrival-Date", DATE, False),
    ("Deliver-By-Date", DATE, False),
    ("X-MTA-Queue-ID", r"\S+", False),
]
PER_RECIPIENT = [  # RFC 3464 2.3, in its order
    ("Original-Recipient", TYPED, False),
    ("Final-Recipient", TYPED, True),
    ("Action", r"failed|delayed|delivered|relayed|expanded", True),
    ("Status", r"[245]\.\d{1,3}\.\d{1,3}", True),
    ("Remote-MTA", TYPED, False),
    ("Diagnostic-Code", TYPED, False),
    ("Will-Retry-Until", DATE, False),
]


def offences(group: str, grammar: list[tuple[str, str, bool]]) -> list[str]:
    """What of a group of fields is against the grammar: unknown, repeated, out of order, missing, of a wrong form."""
    lines = re.sub(r"\r\n(?=[ \t])", "", group).split("\r\n")
    names = [line.partition(":")[0] for line in lines]
    known = [name for name, _, _ in grammar]
    wrong = [f"{name} is missing" for name, _, wanted in grammar if wanted and name not in names]
    wrong += [f"{name} is not known" for name in names if name not in known]
    if names != [name for name in known if name in names]:
        wrong.append(f"order: {names}")
    forms = {name: form for name, form, _ in grammar}
    return wrong + [
        line
        for line in lines
        if not re.fullmatch(forms.get(line.partition(":")[0], ""), " ".join(line.partition(":")[2].split()))
    ]


class FieldsTests(SynchronousTestCase):
    """Of the message, and of each recipient."""

    def test_failed(self) -> None:
        """One group for the message, one for each recipient; envelope id and original recipient decoded (RFC 3461 6.3)."""
        data = report(
            claim(orcpt="rfc822;Bob+2Bx@example.net"),
            claim("eve@example.net", "452 4.2.2 mailbox full", failed_dest="smtp:relay/[relay.example.net]:26"),
            claim("ida@example.net", failed_dest="smtp:_mx/example.net", last_host="mx2.example.net"),
            envid="QQ+3D1",
        )
        per_message, bob, eve, ida = parsed(data).get_payload(1).get_payload()
        self.assertEqual("dns; mx1.example.org", per_message["Reporting-MTA"])
        self.assertEqual("QUEUEID", per_message["X-MTA-Queue-ID"])
        self.assertEqual("QQ=1", per_message["Original-Envelope-Id"])
        self.assertEqual(CREATED, parsedate_to_datetime(per_message["Arrival-Date"]).timestamp() * 1000)
        self.assertEqual("rfc822; bob@example.net", bob["Final-Recipient"])
        self.assertEqual("rfc822; Bob+x@example.net", bob["Original-Recipient"])
        self.assertEqual("failed", bob["Action"])
        self.assertEqual("5.1.1", bob["Status"])
        self.assertEqual("smtp; 550 5.1.1 no such user", bob["Diagnostic-Code"])
        self.assertEqual(("4.2.2", None), (eve["Status"], eve["Original-Recipient"]))
        remotes = [each["Remote-MTA"] for each in (bob, eve, ida)]
        self.assertEqual([None, "dns; relay.example.net", "dns; mx2.example.net"], remotes)

    def test_delayed(self) -> None:
        """Until when it is tried; of class 4 whatever was said; where to, while it waits for one host."""
        late = Fate(claim(reply="451 4.4.1 cannot connect"), Action.DELAYED)
        untried = Fate(claim(reply=None), Action.DELAYED)
        _, first, second = parsed(report(occasion=Occasion.DELAY, fates=(late, untried))).get_payload(1).get_payload()
        self.assertEqual(("delayed", "4.4.1"), (first["Action"], first["Status"]))
        self.assertEqual(EXPIRES, parsedate_to_datetime(first["Will-Retry-Until"]).timestamp() * 1000)
        self.assertEqual("smtp; 451 4.4.1 cannot connect", first["Diagnostic-Code"])
        self.assertEqual(("4.0.0", None), (second["Status"], second["Diagnostic-Code"]))

    def test_successes(self) -> None:
        """Delivered, relayed and expanded; only of what was relayed the reply is told (RFC 3461 6.3 i)."""
        fates = tuple(Fate(claim(reply="250 2.0.0 queued as 5"), action) for action in (Action.DELIVERED, Action.RELAYED))
        _, here, there = parsed(report(occasion=Occasion.SUCCESS, fates=fates)).get_payload(1).get_payload()
        self.assertEqual(("delivered", "2.0.0", None), (here["Action"], here["Status"], here["Diagnostic-Code"]))
        self.assertEqual(("relayed", "2.0.0", "smtp; 250 2.0.0 queued as 5"), tuple(there.values())[1:])

    def test_no_reply_known(self) -> None:
        """Without a last reply there is a status and no diagnostic code."""
        (_, group) = parsed(report(claim(reply=None))).get_payload(1).get_payload()
        self.assertEqual(("5.0.0", None), (group["Status"], group["Diagnostic-Code"]))

    @settings(deadline=None, max_examples=150)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(Action),
                st.none() | orcpts,
                st.sampled_from([None, "550 5.1.1 no", "451 later", "250 2.0.0 ok", "550", "nonsense"]),
                st.sampled_from([None, "smtp:r/[h.test]:25", "smtp:r/h.test", "maildir:local/", "bounce:"]),
            ),
            min_size=1,
            max_size=3,
        ),
        envids,
        st.booleans(),
    )
    def test_grammar(self, told, envid, utf8) -> None:
        """RFC 3464 2: every field known, once, in order, of its form; a group for each recipient."""
        fates = [Fate(claim(reply=reply, orcpt=orcpt, failed_dest=dest), action) for action, orcpt, reply, dest in told]
        text = delivery_status(message(envid=envid, deliver_by=CREATED * utf8), fates, "mx.test", "Q1", utf8).decode()
        first, *others = text.removesuffix("\r\n").split("\r\n\r\n")
        blank = envid is not None and not envid.replace("+20", "")  # nothing but blanks: legal to ask, of no form to tell
        self.assertEqual([], [] if blank else offences(first, PER_MESSAGE))
        self.assertEqual(len(fates), len(others))
        for fate, group in zip(fates, others, strict=True):
            self.assertEqual([], [o for o in offences(group, PER_RECIPIENT) if not o.startswith("Original-Recipient")])
            status = {Action.FAILED: "45", Action.DELAYED: "4"}.get(fate.action, "2")
            self.assertIn(fate.status[0], status)


class FateTests(SynchronousTestCase):
    """What became of a row at BOUNCE."""

    def test_successes_by_where_they_got_to(self) -> None:
        """A positive reply of one whose sender asked for that; the agent that had it says which success."""
        for dest, action in (
            ("smtp:mx/example.net", Action.RELAYED),
            ("maildir:local/", Action.DELIVERED),
            ("alias:local/", Action.EXPANDED),
            (None, Action.DELIVERED),
        ):
            row = claim(reply="250 2.0.0 ok", notify=int(Notify.SUCCESS), failed_dest=dest)
            self.assertIs(action, fate_at_bounce(row, message()).action)

    def test_everything_else_failed(self) -> None:
        """Without the wish, without a reply, with another one: nobody is told of a success that was none."""
        for reply, notify in (
            ("250 2.0.0 ok", 0),
            ("250 ok", 12),
            ("550 no", 14),
            ("451 4.4.7 expired", 2),
            (None, 2),
            ("2x", 2),
        ):
            self.assertIs(Action.FAILED, fate_at_bounce(claim(reply=reply, notify=notify), message()).action, (reply, notify))

    def test_relayed_by_time(self) -> None:
        """RFC 2852 4.1.4: what has a time went on, unless its sender wants to hear nothing."""
        for notify, action in ((0, Action.RELAYED), (Notify.FAILURE, Action.RELAYED), (Notify.NEVER, Action.FAILED)):
            row = claim(reply="250 2.0.0 ok", notify=int(notify), failed_dest="smtp:mx/example.net")
            self.assertIs(action, fate_at_bounce(row, message(deliver_by=EXPIRES)).action)

    def test_out_of_time(self) -> None:
        """RFC 2852: who was not refused when the time was over has 5.4.7; a refusal is a refusal; mode N does not end there."""
        returned = message(flags=int(Flag.BY_RETURN), deliver_by=CREATED + 60_000)
        for reply, status in (("450 4.2.1 busy", "5.4.7"), ("451 4.4.7 expired", "5.4.7"), ("550 5.1.1 no", "5.1.1")):
            self.assertEqual(status, fate_at_bounce(claim(reply=reply), returned).status)
        noticed = message(deliver_by=CREATED + 60_000)
        self.assertEqual("4.2.1", fate_at_bounce(claim(reply="450 4.2.1 busy"), noticed).status)
        self.assertEqual("4.2.1", Fate(claim(reply="450 4.2.1 busy"), Action.DELAYED, True).status)


class StatusTests(SynchronousTestCase):
    """Status from a reply."""

    def test_class_is_that_of_the_code(self) -> None:
        """RFC 3464 2.3.4: a failure is 4 or 5, and the code knows best."""
        for reply, status in (
            ("550 5.1.1 no", "5.1.1"),
            ("550 5.7.26", "5.7.26"),
            ("451 4.4.1 later", "4.4.1"),
            ("550 4.1.1 mixed up", "5.0.0"),
            ("550 2.1.5 liar", "5.0.0"),
            ("450 no status", "4.0.0"),
            ("550", "5.0.0"),
            ("550 5.1.1x", "5.0.0"),
            ("250 2.0.0 not a failure", "5.0.0"),
            ("", "5.0.0"),
            ("garbage", "5.0.0"),
        ):
            self.assertEqual(status, status_of(reply, "54"), reply)

    def test_class_that_may_not_be(self) -> None:
        """Delayed is 4, delivered is 2: another class is not believed."""
        self.assertEqual(["4.0.0", "4.2.2"], [status_of(reply, "4") for reply in ("550 5.1.1 no", "452 4.2.2 full")])
        self.assertEqual(["2.0.0", "2.1.5"], [status_of(reply, "2") for reply in ("451 4.4.1 x", "250 2.1.5 ok")])
