"""RFC 9422: the limits of a server."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mta.relay.limits import admitted, limit


class LimitsTests(SynchronousTestCase):
    def test_limit(self):
        """RFC 9422 4: by name, in any letters; what cannot be read is none."""
        for text, rcptmax in (
            ("RCPTMAX=20", 20),
            ("MAILMAX=5 rcptmax=20 X=y", 20),
            ("MAILMAX=5", 0),
            ("RCPTMAX", 0),
            ("RCPTMAX=-1", 0),
            ("RCPTMAX=٣", 0),
            ("RCPTMAX=1234567", 0),
            ("", 0),
        ):
            self.assertEqual(rcptmax, limit({"LIMITS": text}, "RCPTMAX"), text)
        self.assertEqual(0, limit({}, "RCPTMAX"))

    def test_admitted(self):
        """The first so many, of the first so many domains."""
        recipients = ("a@x", "b@Y", "c@X", "d@z", "e@y")
        for text, places in (
            ("MAILMAX=1", None),
            ("RCPTMAX=5", None),
            ("RCPTMAX=2", [0, 1]),
            ("RCPTDOMAINMAX=3", None),
            ("RCPTDOMAINMAX=1", [0, 2]),
            ("RCPTDOMAINMAX=2", [0, 1, 2, 4]),
            ("RCPTDOMAINMAX=2 RCPTMAX=3", [0, 1, 2]),
        ):
            found = admitted(recipients, {"LIMITS": text})
            self.assertEqual(places, found if found is None else list(found), text)
