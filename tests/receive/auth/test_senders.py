"""As whom an account may send."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.receive.auth.accounts import Account
from mta.receive.auth.senders import ANYBODY, Senders, may_send, senders_in

LISTED = senders_in("# ours\ntim: Info@Bücher.example, @lists.example\n\nann@a.example: o'hara@a.example\ntim: more@b.example\n")
BOUND = Senders(True, frozenset({"local.example", "xn--bcher-kva.example"}), LISTED)


class SendersTests(SynchronousTestCase):
    """`Senders`."""

    def test_bound(self) -> None:
        """Its own address, at the local domains where its name has none; what the map says; the null reverse-path."""
        for account, sender, allowed in (
            ("tim", "tim@local.example", True), ("tim", "TIM@LOCAL.example", True), ("tim", "tim@bücher.example", True),
            ("tim", "tim@other.example", False), ("tim", "ann@local.example", False), ("tim", "", True),
            ("tim", "Info@xn--bcher-kva.example", True), ("tim", "info@bücher.example", False), ("tim", "any@lists.example", True),
            ("tim", "any@sub.lists.example", False), ("tim", "any@xlists.example", False), ("tim", "more@b.example", True),
            ("ann@a.example", "Ann@A.example", True), ("ann@a.example", "o'hara@a.example", True),
            ("ann@a.example", "ann@local.example", False), ("ann", "ann@a.example", False), ("ann@a.example", "tim@a.example", False),
            ("tim", "tim", False), ("tim", "tim@", False), ("", "@local.example", True), ("nobody", "Info@bücher.example", False),
        ):  # fmt: skip
            self.assertEqual(BOUND.allow(account, sender), allowed, (account, sender))

    def test_any(self) -> None:
        """Without the binding everybody may be anybody."""
        self.assertTrue(ANYBODY.allow("tim", "root@elsewhere.example"))

    def test_accounts(self) -> None:
        """An avatar that says nothing about it may send as anybody; ours asks the rule."""

        class Avatar:
            name = "tim"

        self.assertTrue(may_send(Avatar(), "root@elsewhere.example"))  # type: ignore[arg-type]
        self.assertFalse(may_send(Account("tim", BOUND), "root@elsewhere.example"))
        self.assertTrue(may_send(Account("tim", BOUND), "tim@local.example"))
        self.assertTrue(may_send(Account("tim"), "root@elsewhere.example"))

    def test_mistakes(self) -> None:
        """A line that is none is named by its number."""
        for text in ("tim", "tim:", ": a@b.example", "tim: nobody", "tim: @", "tim: a@", "x: a@b.c\ntim: a@b.example,, c"):
            error = self.assertRaises(ValueError, senders_in, text)
            self.assertIn(f"line {text.count(chr(10)) + 1}", str(error))
        self.assertEqual(senders_in("a:b: c@d.example,"), {"a:b": frozenset({"c@d.example"})})
