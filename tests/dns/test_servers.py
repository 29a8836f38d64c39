"""`mta.dns.servers`: the words for name servers."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mta.dns.servers import Server, parse_resolv_conf, parse_server


class ServerTests(SynchronousTestCase):
    """One server."""

    def test_good(self):
        """Both families, with and without a port."""
        for text, server in (
            ("127.0.0.1", Server("127.0.0.1", 53)),
            ("127.0.0.1:5353", Server("127.0.0.1", 5353)),
            ("::1", Server("::1", 53)),
            ("2001:DB8::53", Server("2001:db8::53", 53)),
            ("[2001:db8::53]", Server("2001:db8::53", 53)),
            ("[2001:db8::53]:5353", Server("2001:db8::53", 5353)),
            ("fe80::1%eth0", Server("fe80::1%eth0", 53)),
        ):
            self.assertEqual(parse_server(text), server)

    def test_bad(self):
        """Names, ports that are none, and noise."""
        for text in (
            "",
            "localhost",
            "127.0.0.1:",
            "127.0.0.1:0",
            "127.0.0.1:65536",
            "127.0.0",
            "[::1",
            "[]:53",
            "::1:53x",
            "1.2.3.4:5:6",
        ):
            with self.assertRaises(ValueError, msg=text):
                parse_server(text)

    def test_text_is_read_back(self):
        """What the log shows can be pasted into the configuration."""
        for server in (Server("127.0.0.1", 53), Server("::1", 5353)):
            self.assertEqual(parse_server(str(server)), server)

    @settings(deadline=None, max_examples=200)
    @given(st.text(max_size=30))
    def test_only_value_errors(self, text):
        """Whatever an operator types is a server or a ValueError."""
        try:
            parse_server(text)
        except ValueError:
            pass


class ResolvConfTests(SynchronousTestCase):
    """The file."""

    def test_servers_in_order(self):
        """Comments, search lists and options do not matter."""
        text = (
            "# made by hand\nsearch example.test\nnameserver 192.0.2.1\n  nameserver\t2001:db8::1  # second\noptions trust-ad\n"
        )
        self.assertEqual(parse_resolv_conf(text), (Server("192.0.2.1"), Server("2001:db8::1")))

    def test_three_at_most(self):
        """As resolv.conf(5) says."""
        text = "".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 6))
        self.assertEqual([server.host for server in parse_resolv_conf(text)], ["192.0.2.1", "192.0.2.2", "192.0.2.3"])

    def test_unreadable_lines_are_passed_over(self):
        """A bad line does not take the good one with it."""
        self.assertEqual(parse_resolv_conf("nameserver\nnameserver ns.example\nnameserver 192.0.2.1\n"), (Server("192.0.2.1"),))

    def test_nothing_means_this_machine(self):
        """As libc does."""
        self.assertEqual(parse_resolv_conf(""), (Server("127.0.0.1"),))
