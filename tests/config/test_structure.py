"""Tables to classes: each kind of mistake in structure with its exact text, all at once, and none invented."""

from __future__ import annotations

from ipaddress import ip_network

from tests.config.common import LEAST, ConfigCase


class StructureTests(ConfigCase):
    """Through the loader, as an operator meets it."""

    def test_unknown_key(self) -> None:
        """The nearest key of that table is named."""
        self.say("[limits]\nmesage_size = 1", "2: limits.mesage_size: unknown key; did you mean 'message_size'?")
        self.say("[limts]\nmessage_size = 1", "1: limts: unknown key; did you mean 'limits'?")
        self.say("[limits]\nqqq = 1", "2: limits.qqq: unknown key")
        self.say('"a b" = 1', '1: "a b": unknown key')

    def test_key_in_the_wrong_table(self) -> None:
        """The table where it belongs is named."""
        self.say("message_size = 1", "1: message_size: unknown key; did you mean 'limits.message_size'?")
        self.say(
            "[limits]\nlocal_domains = []",
            "2: limits.local_domains: unknown key here; 'local_domains' belongs at the top of the file, above the first [table]",
        )

    def test_not_built_yet(self) -> None:
        """A key of the finished server says that its time has not come."""
        self.say(
            '[tls]\nclient_cert = "ask"\n[service]\nworkers = 1\n[handover]\npreset = "keep"\nshutdown_wait = "2s"\n'
            '[[listen]]\nendpoint = "tcp:0"\nsubmission = false\n[[tls_policy]]\nmatch = ["x"]\n',
            "2: tls.client_cert: not built yet",
            "3: service: not built yet",
            "6: handover.preset: not built yet",
            "7: handover.shutdown_wait: not built yet",
            "10: listen[0].submission: not built yet",
            "11: tls_policy: not built yet",
        )

    def test_wrong_types(self) -> None:
        """Nothing is coerced, anywhere."""
        self.say(
            'local_domains = [1, "a.org"]\nlisten = 1\n[tls]\nstarttls_needs_ehlo = "no"\nhandshakes_at_once = "20"\ncertificate = 5\n'
            '[access]\nrelay_from = ["10.0.0.0/8",\n "10.0.0.1/8"]\n[limits]\nmessage_size = "50MB"\nerrors = true\n'
            '[timeouts]\ncommand = "300"\n[log]\nfile = 1\n',
            "1: local_domains[0]: a string is wanted, not 1",
            "2: listen: an array of tables, [[...]] for each, is wanted, not 1",
            "4: tls.starttls_needs_ehlo: true or false is wanted, not 'no'",
            "5: tls.handshakes_at_once: a whole number is wanted, not '20'",
            "6: tls.certificate: a string is wanted, not 5",
            "9: access.relay_from[1]: '10.0.0.1/8' has bits behind its prefix; did you mean '10.0.0.0/8'?",
            "11: limits.message_size: a size is wanted, not '50MB'; did you mean '50MiB'?",
            "12: limits.errors: a whole number is wanted, not true",
            "14: timeouts.command: a duration wants its unit: did you mean '300s'?",
            "16: log.file: a string is wanted, not 1",
        )

    def test_wrong_shapes(self) -> None:
        """A table where many are wanted, a value where a table is wanted, an array of the wrong things."""
        self.say('[listen]\nendpoint = "tcp:0"', "1: listen: an array of tables, [[...]] for each, is wanted, not one table")
        self.say("limits = 3\nroute = [7]", "1: limits: a table is wanted, not 3", "2: route[0]: a table is wanted, not 7")
        self.say("[[limits]]\nerrors = 3", "1: limits: a table is wanted, not [{'errors': 3}]")
        self.say("local_domains = 3", "1: local_domains: an array is wanted, not 3")
        self.say("local_domains = {}", "1: local_domains: an array is wanted, not one table")

    def test_missing(self) -> None:
        """What must be given, at the top and in rows; the rest of the file is looked at all the same."""
        self.assertEqual(
            [
                "DIR/mta.toml:1: data_dir: missing; it must be given",
                "DIR/mta.toml:1: hostname: missing; it must be given",
                "DIR/mta.toml:1: listen[0].endpoint: missing; it must be given",
                "DIR/mta.toml:3: route[0].match: missing; it must be given",
                "DIR/mta.toml:4: route[0].tls: 'none', 'may', 'encrypt' or 'verify' is wanted, not 'vrfy'; did you mean 'verify'?",
            ],
            self.mistakes('[[listen]]\ntls = "none"\n[[route]]\ntls = "vrfy"\nrelay = "a.org"\n'),
        )

    def test_one_string_for_a_list(self) -> None:
        """Where a list of strings is wanted one string will do; a list of tables is another matter."""
        text = 'local_domains = "a.org"\n[access]\nrelay_from = "10.0.0.0/8"\n[[route]]\nmatch = "local"\nrelay = "b.org"\n'
        settings = self.load(LEAST + text)
        self.assertEqual(("a.org",), settings.local_domains)
        self.assertEqual((ip_network("10.0.0.0/8"),), settings.access.relay_from)
        self.assertEqual(("local",), settings.route[0].match)
        self.say('listen = "tcp:25"', "1: listen: an array of tables, [[...]] for each, is wanted, not 'tcp:25'")
