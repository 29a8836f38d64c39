"""When a rule can be asked, and what a reply in the file must look like."""

from __future__ import annotations

from ipaddress import ip_network

import attrs
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.config.receiving import AccessRule
from mta.config.rule import FACTS, STAGES, clients, first_stage, may_be_at, read_reply
from mta.hostlist import HostLists
from mta.smtp.reply import serialise
from mta.status import Reply

ANY = {"client": (ip_network("192.0.2.0/24"),)}


def rule(*facts: str, action: str = "reject") -> AccessRule:
    """A rule that asks about these."""
    return AccessRule("r", action, **{fact: ANY.get(fact, ("x.example",)) for fact in facts})  # type: ignore[arg-type]


class StageTests(SynchronousTestCase):
    """`first_stage` and `may_be_at`."""

    def test_every_condition_is_a_fact(self) -> None:
        """No key of a rule is forgotten."""
        keys = {field.name for field in attrs.fields(AccessRule)}
        self.assertEqual(keys - {"name", "action", "at", "reply"}, set(FACTS))

    @hypothesis_settings(deadline=None, max_examples=100)
    @given(st.sets(st.sampled_from(sorted(FACTS))), st.sampled_from(["accept", "reject", "hold", "discard", "warn"]))
    def test_never_before_all_is_known(self, facts: set[str], action: str) -> None:
        """It may be asked from its first stage on, and not before."""
        made = rule(*facts, action=action)
        first = STAGES.index(first_stage(made))
        self.assertTrue(all(STAGES.index(FACTS[fact]) <= first for fact in facts))
        self.assertTrue(first >= STAGES.index("mail") or action not in ("hold", "discard"))
        self.assertEqual([at >= first for at in range(len(STAGES))], [may_be_at(made, stage) for stage in STAGES])

    def test_auth(self) -> None:
        """There all is known but what only a message has."""
        self.assertTrue(may_be_at(rule("client", "helo", "tls", "tls_name", "client_name", "listen"), "auth"))
        for fact in ("sender", "recipient", "account"):
            self.assertFalse(may_be_at(rule(fact), "auth"))
        self.assertFalse(may_be_at(rule("client", action="hold"), "auth"))


class ReplyTests(SynchronousTestCase):
    """`read_reply`."""

    def test_right(self) -> None:
        """Code, enhanced code, text."""
        self.assertEqual(Reply(550, "5.7.1", "No, not you"), read_reply("550 5.7.1 No, not you"))
        self.assertEqual(Reply(450, "4.7.25", "Later"), read_reply("450 4.7.25 Later"))

    def test_wrong(self) -> None:
        """Anything less, or more."""
        for text in (
            "",
            "550",
            "550 No",
            "550 5.7.1",
            "550 5.7.1 ",
            "550 4.7.1 No",
            "5500 5.7.1 No",
            "550-5.7.1 No\r\n550 x",
            "550 5.7.1 N\u00f6",
            "550 5.7.1 " + "x" * 400,
            "no 5.7.1 No",
        ):
            self.assertIsNone(read_reply(text), text)

    @hypothesis_settings(deadline=None, max_examples=200)
    @given(st.text(max_size=30).map("550 5.7.1 {}".format) | st.text(max_size=30))
    def test_one_line(self, text: str) -> None:
        """Whatever is taken is one line of SMTP, as it was written."""
        reply = read_reply(text)
        if reply is not None:
            self.assertEqual(f"{text}\r\n".encode(), serialise(reply, enhanced=True))


class ClientsTests(SynchronousTestCase):
    """`clients`."""

    def test_lists(self) -> None:
        """Networks as they are, with those of the lists; a list that is not there, or asks for a name, is a ValueError."""
        lists = HostLists({"ours": ("!10.0.0.0/9", "10.0.0.0/8"), "mx": ("mx.example.org",), "none": ()})
        given = (ip_network("192.0.2.0/24"), "+none", "+ours")
        self.assertEqual((ip_network("192.0.2.0/24"), ip_network("10.128.0.0/9")), clients(given, lists))
        for wrong in ("+nix", "+mx"):
            self.assertRaises(ValueError, clients, (wrong,), lists)
