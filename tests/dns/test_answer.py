"""`mta.dns.answer`: found, does not exist and failed are three different things."""

from twisted.trial.unittest import SynchronousTestCase

from mta.dns.answer import Answer, Mx, question_name


class AnswerTests(SynchronousTestCase):
    """Exactly one of the three holds."""

    def kinds(self, rcode, records=()):
        answer = Answer("example.test", "MX", rcode, records=records)
        return answer.found, answer.exists_not, answer.failed

    def test_found(self):
        """Records make it found."""
        self.assertEqual(self.kinds("NOERROR", (Mx(10, "mx.example.test"),)), (True, False, False))

    def test_no_data_is_exists_not(self):
        """A name without such a record is a certain no."""
        self.assertEqual(self.kinds("NOERROR"), (False, True, False))

    def test_nxdomain_is_exists_not(self):
        """So is a name that does not exist."""
        self.assertEqual(self.kinds("NXDOMAIN"), (False, True, False))

    def test_everything_else_failed(self):
        """Any other code is a doubt, and mail is never bounced by a doubt."""
        for rcode in (
            "SERVFAIL",
            "REFUSED",
            "FORMERR",
            "NOTIMP",
            "TIMEOUT",
            "UNREACHABLE",
            "GARBLED",
            "CLOSED",
            "YXDOMAIN",
            "17",
        ):
            self.assertEqual(self.kinds(rcode), (False, False, True), rcode)

    def test_text_for_the_log(self):
        """It says what was asked, what came and why."""
        answer = Answer("example.test", "MX", "SERVFAIL", reason="EDE 6 (DNSSEC Bogus)")
        self.assertEqual(str(answer), "example.test MX: SERVFAIL (EDE 6 (DNSSEC Bogus))")
        self.assertEqual(str(Answer("example.test", "A", "TIMEOUT")), "example.test A: TIMEOUT")

    def test_one_spelling(self):
        """Case and the final dot do not matter."""
        self.assertEqual(question_name("MX.Example.TEST."), "mx.example.test")
        self.assertEqual(question_name("."), "")
