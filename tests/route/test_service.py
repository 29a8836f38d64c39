"""`mta.route.service`: every recipient gets a route or the right refusal, and Maildirs are found where they are."""

import os

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mta.config.settings import RouteEntry, Settings
from mta.envelope import Refusal, Route
from mta.interfaces import IRouter
from mta.route.service import Router, maildir_exists
from mta.status import MailError

MAILDIR = RouteEntry(("local",), deliver="maildir:/m/{domain}/{user}", name="home")
SHARED = RouteEntry(("catchall.test",), deliver="maildir:/m/all", name="shared")
SMARTHOST = RouteEntry(("*.inside.test",), relay="[Smarthost.test]:587", tls="verify", name="smart")
BOXES = {"/m/example.org/john", "/m/example.org/Mary", "/m/xn--bcher-kva.test/john"}


def router(*routes, local_domains=("example.org", "b\u00fccher.test"), exists=BOXES.__contains__):
    return Router(Settings("mx.example.org", "/nowhere", local_domains=local_domains, route=routes), mailbox_exists=exists)


class RouteTests(SynchronousTestCase):
    """IRouter.route."""

    def setUp(self):
        self.router = router(SMARTHOST, SHARED, MAILDIR)

    def refused(self, address, code, enhanced, by=None):
        answer = (by or self.router).route(address)
        self.assertIsInstance(answer, Refusal, address)
        self.assertEqual((answer.reply.code, answer.reply.enhanced), (code, enhanced), address)

    def test_interface(self):
        """It is a router."""
        verifyObject(IRouter, self.router)
        self.assertEqual(self.router.relays, {"[smarthost.test]:587"})
        self.assertNotEqual(self.router.digest, router().digest)

    def test_by_mx(self):
        """A foreign domain: its name in lower case and A-labels is the next hop."""
        self.assertEqual(self.router.route("a@Foreign.Test"), Route("_mx", "smtp", "foreign.test"))
        self.assertEqual(self.router.route("a@b\u00fccher.example"), Route("_mx", "smtp", "xn--bcher-kva.example"))
        self.assertEqual(self.router.route("a@[192.0.2.1]").dest, "smtp:_mx/[192.0.2.1]")

    def test_by_relay(self):
        """The operator's next hop and level."""
        self.assertEqual(self.router.route("a@x.inside.test"), Route("smart", "smtp", "[smarthost.test]:587", "verify"))

    def test_to_a_maildir(self):
        """One destination for the route; the claim carries the address."""
        self.assertEqual(self.router.route("john@example.org").dest, "maildir:home/")
        self.assertEqual(self.router.route("john@b\u00fccher.test").dest, "maildir:home/")
        self.assertEqual(self.router.route("anybody@catchall.test").dest, "maildir:shared/")

    def test_case_of_the_user(self):
        """As it came, then in lower case."""
        for address in ("JOHN@example.org", "John@EXAMPLE.org", "Mary@example.org", '"john"@example.org'):
            self.assertIsInstance(self.router.route(address), Route, address)
        self.refused("mary@example.org", 550, "5.1.1")

    def test_no_such_user(self):
        """Refused at RCPT."""
        self.refused("nobody@example.org", 550, "5.1.1")

    def test_impossible_users(self):
        """Whatever the route's template says."""
        for local in ('"../john"', '"a/b"', "a/b", '".john"', '".."', '"a..b"', '""'):
            self.refused(f"{local}@example.org", 550, "5.1.3")
            self.refused(f"{local}@catchall.test", 550, "5.1.3")

    def test_relayed_users_are_not_our_business(self):
        """Another server may have such names."""
        self.assertIsInstance(self.router.route('"a/b"@x.inside.test'), Route)

    def test_syntax(self):
        """No address is a refusal, not an exception."""
        for address in ("john", "john@", "@example.org", "a@b@c", "a b@example.org", "", "a@[300.1.1.1]", "a@\ud800.test"):
            answer = self.router.route(address)
            self.assertIsInstance(answer, Refusal, address)
            self.assertTrue(answer.reply.is_permanent)

    def test_postmaster(self):
        """Always, in any case, with and without a domain (RFC 5321 4.5.1)."""
        for address in (
            "postmaster",
            "Postmaster",
            "postmaster@example.org",
            "POSTMASTER@b\u00fccher.test",
            "postmaster@catchall.test",
        ):
            self.assertEqual(self.router.route(address).agent, "maildir", address)

    def test_postmaster_of_a_relay(self):
        """Without local domains a bare postmaster needs a route of its own: its MX would be us."""
        self.refused("postmaster", 550, "5.1.1", router(local_domains=()))
        own = RouteEntry(("postmaster@mx.example.org",), relay="[inside.test]", name="pm")
        self.assertEqual(router(own, local_domains=()).route("Postmaster").next_hop, "[inside.test]")

    def test_local_domain_without_route(self):
        """Never accepted: transient where the route is forgotten, permanent where addresses are listed."""
        self.refused("john@example.org", 451, "4.3.5", router())
        self.refused("postmaster", 451, "4.3.5", router())
        listed = router(RouteEntry(("john@example.org",), deliver="maildir:/m/all", name="one"))
        self.assertIsInstance(listed.route("john@example.org"), Route)
        self.refused("mary@example.org", 550, "5.1.1", listed)

    def test_store_that_cannot_be_read(self):
        """A dead mount makes nobody unknown."""

        def dead(path):
            raise OSError(5, "Input/output error")

        broken = router(MAILDIR, exists=dead)
        self.refused("john@example.org", 451, "4.3.0", broken)
        error = self.assertRaises(MailError, broken.mailbox, "john@example.org")
        self.assertFalse(error.reply.is_permanent)

    @settings(deadline=None, max_examples=200)
    @given(st.text(max_size=40))
    def test_never_raises(self, text):
        """Any text at all is a route or a refusal, and what is routed to a Maildir has one."""
        for address in (text, f"{text}@example.org", f'"{text}"@example.org', f"john@{text}"):
            answer = self.router.route(address)
            self.assertIsInstance(answer, (Route, Refusal))
            if isinstance(answer, Route) and answer.agent != "maildir":
                self.assertRaises(MailError, self.router.mailbox, address)
                continue
            box = self.router.mailbox(address)
            self.assertEqual(isinstance(answer, Route), box is not None)
            if box is not None:
                self.assertEqual(os.path.normpath(box), box)


class MailboxTests(SynchronousTestCase):
    """Router.mailbox, for the agent that delivers."""

    def setUp(self):
        self.router = router(SMARTHOST, SHARED, MAILDIR)

    def test_found(self):
        """The directory that exists."""
        self.assertEqual(self.router.mailbox("JOHN@example.org"), "/m/example.org/john")
        self.assertEqual(self.router.mailbox("Mary@Example.org"), "/m/example.org/Mary")
        self.assertEqual(self.router.mailbox("john@b\u00fccher.test"), "/m/xn--bcher-kva.test/john")

    def test_may_be_created(self):
        """Postmaster's, always in lower case, and the one that all share."""
        self.assertEqual(self.router.mailbox("PostMaster"), "/m/example.org/postmaster")
        self.assertEqual(self.router.mailbox("anybody@catchall.test"), "/m/all")

    def test_none(self):
        """Gone, unsafe, no address."""
        for address in ("nobody@example.org", '"../john"@example.org', "x", ""):
            self.assertIsNone(self.router.mailbox(address), address)
        listed = router(RouteEntry(("john@example.org",), deliver="maildir:/m/all", name="one"))
        self.assertIsNone(listed.mailbox("mary@example.org"))

    def test_not_here_any_more(self):
        """Mail that waits for a Maildir whose route was removed or turned into a relay: it waits on, that may be a mistake."""
        for by, address in (
            (self.router, "a@x.inside.test"),
            (self.router, "a@foreign.test"),
            (router(), "john@example.org"),
            (router(local_domains=()), "john@example.org"),
        ):
            error = self.assertRaises(MailError, by.mailbox, address)
            self.assertEqual((451, "4.3.5"), (error.reply.code, error.reply.enhanced), address)


class MaildirExistsTests(SynchronousTestCase):
    """The look at the disk."""

    def test_directories_only(self):
        """A file, a name below a file and nothing are no Maildirs."""
        root = self.mktemp()
        os.makedirs(os.path.join(root, "john"))
        with open(os.path.join(root, "file"), "w"):
            pass
        names = "john", "file", os.path.join("file", "x"), "none"
        self.assertEqual([maildir_exists(os.path.join(root, name)) for name in names], [True, False, False, False])

    def test_doubt(self):
        """What cannot be told is an error."""
        self.assertRaises(OSError, maildir_exists, os.path.join(self.mktemp(), "x" * 5000))

    def test_it_is_the_default(self):
        """A router without a word about it looks at the disk."""
        root = self.mktemp()
        os.makedirs(os.path.join(root, "john"))
        route = RouteEntry(("local",), deliver=f"maildir:{root}/{{user}}", name="home")
        plain = Router(Settings("mx.example.org", "/nowhere", local_domains=("example.org",), route=(route,)))
        self.assertIsInstance(plain.route("john@example.org"), Route)
        self.assertIsInstance(plain.route("mary@example.org"), Refusal)
