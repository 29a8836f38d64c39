"""Tables to classes: each kind of mistake in structure with its exact text, all at once, and none invented."""

from __future__ import annotations

from ipaddress import ip_network

import attrs

from mta.config.schema import tables
from mta.config.settings import RouteAuth, Settings
from mta.config.structure import STAND_INS
from tests.config.common import LEAST, LEVEL_WANTED, ConfigCase


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
                f"DIR/mta.toml:4: route[0].tls: {LEVEL_WANTED}, not 'vrfy'; did you mean 'verify'?",
            ],
            self.mistakes('[[listen]]\ntls = "none"\n[[route]]\ntls = "vrfy"\nrelay = "a.org"\n'),
        )

    def test_stand_ins(self) -> None:
        """Every key that must be given has its stand-in: without one the look at the rest would never come to an end."""
        must = {
            cls: {field.name for field in attrs.fields(cls) if field.default is attrs.NOTHING}
            for cls in (Settings, *tables().values())
        }
        self.assertEqual({cls: keys for cls, keys in must.items() if keys}, {cls: set(keys) for cls, keys in STAND_INS.items()})

    def test_missing_in_access(self) -> None:
        """Rows without what must be given, beside a mistake of another kind: each is one mistake, and the stand-in makes no more."""
        self.say(
            '[[access.rule]]\naction = "reject"\nhelo = ["a b"]\n[[access.rule]]\nname = "x"\nreply = "450 4.7.1 No"\n'
            "[[access.dnsbl]]\nscore = 0\n[[access.recipients]]\nfile = 1\n",
            "1: access.rule[0].name: missing; it must be given",
            "3: access.rule[0].helo[0]: a name or '*.domain' is wanted, not 'a b'",
            "4: access.rule[1].action: missing; it must be given",
            "7: access.dnsbl[0].zone: missing; it must be given",
            "8: access.dnsbl[0].score: 0 would do nothing; more, or less for a list of good ones, is wanted",
            "9: access.recipients[0].domains: missing; it must be given",
            "10: access.recipients[0].file: a string is wanted, not 1",
        )

    def test_one_string_for_a_list(self) -> None:
        """Where a list of strings is wanted one string will do; a list of tables is another matter."""
        text = 'local_domains = "a.org"\n[access]\nrelay_from = "10.0.0.0/8"\n[[route]]\nmatch = "local"\nrelay = "b.org"\n'
        settings = self.load(LEAST + text)
        self.assertEqual(("a.org",), settings.local_domains)
        self.assertEqual((ip_network("10.0.0.0/8"),), settings.access.relay_from)
        self.assertEqual(("local",), settings.route[0].match)
        self.say('listen = "tcp:25"', "1: listen: an array of tables, [[...]] for each, is wanted, not 'tcp:25'")

    def test_tables_in_tables(self) -> None:
        """S40: [[tls.sni]] and route.auth, with a header of their own or inline, are the same."""
        certificate, key = self.identity()
        secret = self.secret("relay.pw", "secret\n")
        files = f'certificate = "{certificate}"\nkey = "{key}"\n'
        settings = self.load(
            f'{LEAST}[tls]\n{files}[[tls.sni]]\nnames = "a.org"\n{files}[[tls.sni]]\nnames = ["b.org", "*.b.org"]\n{files}'
            '[[route]]\nmatch = "a.org"\nrelay = "[a.org]"\ntls = "verify"\n[route.auth]\nuser = "u"\npassword_file = "relay.pw"\n'
            '[[route]]\nmatch = "b.org"\nrelay = "[b.org]"\ntls = "verify"\nauth = {user = "v", password_file = "relay.pw"}\n'
            '[[route]]\nmatch = "*"\nrelay = "[c.org]"\n'
        )
        self.assertEqual([("a.org",), ("b.org", "*.b.org")], [entry.names for entry in settings.tls.sni])
        self.assertEqual(certificate, settings.tls.sni[1].certificate)
        first, second, third = (route.auth for route in settings.route)
        self.assertEqual((RouteAuth("u", secret), RouteAuth("v", secret), None), (first, second, third))

    def test_mistakes_in_tables_in_tables(self) -> None:
        """Unknown, missing and wrong keys below the first table, each at its line."""
        self.say(
            '[tls]\n[[tls.sni]]\nname = "a.org"\n[[route]]\nmatch = "*"\nrelay = "a.org"\n'
            'auth = {usr = "u", mechanisms = 5, password_file = "x"}\n[tls_client]\nsni = 1\n',
            "2: tls.sni[0].certificate: missing; it must be given",
            "2: tls.sni[0].key: missing; it must be given",
            "2: tls.sni[0].names: missing; it must be given",
            "3: tls.sni[0].name: unknown key; did you mean 'names'?",
            "7: route[0].auth.mechanisms: an array is wanted, not 5",
            "7: route[0].auth.password_file: 'DIR/x' cannot be read: No such file or directory",
            "7: route[0].auth.user: missing; it must be given",
            "7: route[0].auth.usr: unknown key; did you mean 'user'?",
            "9: tls_client.sni: unknown key; did you mean 'tls.sni'?",
        )
        self.say(
            '[tls]\nsni = {names = "a.org"}\n[[route]]\nmatch = "*"\nrelay = "a.org"\nauth = "u:p"\n',
            "2: tls.sni: an array of tables, [[...]] for each, is wanted, not one table",
            "6: route[0].auth: a table is wanted, not 'u:p'",
        )

    def test_dates(self) -> None:
        """TOML's own or as a string; nothing else is a day."""
        entry = '[[tls_policy]]\nmatch = "a.org"\nuntil = '
        for given in ("2027-01-01", '"2027-01-01"'):
            self.assertEqual("2027-01-01", self.load(LEAST + entry + given).tls_policy[0].until)
        self.assertEqual("", self.load(LEAST + entry + '""').tls_policy[0].until)
        self.say(entry + '"1.1.2027"', "3: tls_policy[0].until: a date is wanted (2027-01-01), not '1.1.2027'")
        self.say(entry + '"2027-02-30"', "3: tls_policy[0].until: a date is wanted (2027-01-01), not '2027-02-30'")
        self.say(entry + "2027-01-01T00:00:00", "3: tls_policy[0].until: a date is wanted (2027-01-01), not 2027-01-01 00:00:00")
