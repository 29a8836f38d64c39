"""Lists of hosts: every bad item is a mistake at its line, and the check says yes exactly where the relay does."""

from __future__ import annotations

from tests.config.common import LEAST, ConfigCase

HANDOVER = "[handover]\n"


class HostsTests(ConfigCase):
    """[handover] and [[hostlist]]."""

    def test_right(self) -> None:
        """H03: every kind of item, in every list."""
        self.secret("hosts", "# ours\nmx.example.org\n!10.0.0.0/8\n")
        items = (
            f'"*", "", "!mx.a.org", "*.a.org", ".a.org", "^mx[0-9]+", "10.0.0.0/8", "2001:db8::1", "<; 2001:db8::/32 ; !*.b.org", "a : b",'
            f' "@[]", "+ours", "{self.directory}/hosts"'
        )
        text = "".join(f"hosts_{name}_tls = [{items}]\n" for name in ("pass", "nopass", "clear"))
        settings = self.load(f'{LEAST}{HANDOVER}{text}[[hostlist]]\nname = "ours"\nhosts = ["*.c.org", "!*"]\n')
        self.assertEqual(13, len(settings.handover.hosts_clear_tls))

    def test_wrong(self) -> None:
        """H03: a bad item is a mistake of the configuration, whichever list it is in."""
        for name in ("pass", "nopass", "clear"):
            key = f"hosts_{name}_tls"
            self.say(
                f'{HANDOVER}{key} = ["a.org",\n "300.1.1.1",\n "+nix"]',
                f"3: handover.{key}[1]: host list item '300.1.1.1': not an IP address",
                f"4: handover.{key}[2]: host list item '+nix': no [[hostlist]] has this name",
            )

    def test_files(self) -> None:
        """H03: a file that cannot be read, one with a bad line, one that is not text."""
        path = self.directory / "hosts"
        list_of = f'{HANDOVER}hosts_pass_tls = "{path}"'
        self.say(list_of, "2: handover.hosts_pass_tls[0]: host list item 'DIR/hosts': No such file or directory")
        path.write_text("a.org\n^(\n")
        [mistake] = self.mistakes(LEAST + list_of)
        self.assertIn("host list item '^('", mistake)
        path.write_bytes(b"\xff")
        [mistake] = self.mistakes(LEAST + list_of)
        self.assertIn("DIR/mta.toml:4: handover.hosts_pass_tls[0]: host list item 'DIR/hosts': ", mistake)

    def test_named_lists(self) -> None:
        """H03: names once each and fit for "+name"; their items are looked at whether or not somebody uses them."""
        entry = '[[hostlist]]\nname = "{}"\nhosts = "{}"\n'
        self.say(
            entry.format("a b", "x.org") + entry.format("d", "+d"),
            "2: hostlist[0].name: letters, digits, '.', '_' and '-' are wanted, not 'a b'",
            "6: hostlist[1].hosts[0]: host list item '+d': host list item '+d': the list is a part of itself",
        )
        [mistake] = self.mistakes(LEAST + entry.format("c", "y z"))
        self.assertTrue(mistake.startswith("DIR/mta.toml:5: hostlist[0].hosts[0]: host list item 'y z': "), mistake)
        self.say(
            entry.format("c", "x.org") * 2,
            "2: hostlist[0].name: another [[hostlist]] is called 'c' too",
            "5: hostlist[1].name: another [[hostlist]] is called 'c' too",
        )
