"""Reading the event log back."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mta.testing.logs import Entry, parse_line, read_log


class ParseTests(SynchronousTestCase):
    """`parse_line`; that it is the inverse of the writer is shown in tests/control/test_log.py."""

    def test_line(self) -> None:
        """Plain and quoted values, every escape."""
        line = '3QA9: event=delivered time=T to=<a@b> reply="250 \\"ok\\" \\\\ \\n\\r\\t\\x00\\u202e\\U000e0001" e="" url=a=b'
        fields = {"to": "<a@b>", "reply": '250 "ok" \\ \n\r\t\0\u202e\U000e0001', "e": "", "url": "a=b"}
        self.assertEqual(Entry("3QA9", "delivered", "T", fields), parse_line(line))
        self.assertEqual("", parse_line("-: event=e time=T").queue_id)

    def test_wrong_lines(self) -> None:
        """Nothing is guessed."""
        for line in (
            "", "hello world", "3QA9 event=e time=T", "3QA9: event=e", "3QA9: time=T event=e", "-: event=e time=T x", "-: event=e time=T x=",
            '-: event=e time=T x="a', '-: event=e time=T x="a"b', "-: event=e time=T  x=1", "-:event=e time=T", '-: event=e time=T x="\\q"', '-: event=e time=T x="\\x0"', '-: event=e time=T x="\\U99999999"',
        ):  # fmt: skip
            with self.assertRaises(ValueError, msg=line):
                parse_line(line)

    def test_file(self) -> None:
        """Line by line; a line that is still being written waits."""
        file = Path(self.mktemp())
        file.write_text("-: event=a time=T\n-: event=b time=T v=\u2028\n-: event=c ti", encoding="utf-8")
        self.assertEqual(["a", "b"], [entry.event for entry in read_log(file)])
