"""Mistakes of [access], each with its exact text."""

from __future__ import annotations

from ipaddress import ip_network

from tests.config.common import LEAST, ConfigCase

RULE = '[[access.rule]]\nname = "r"\naction = "reject"\n'


class RuleTests(ConfigCase):
    """[[access.rule]]."""

    def test_right(self) -> None:
        """All of its keys."""
        text = (
            '[[listen]]\nendpoint = "tcp:25"\n'
            f'{RULE}client = ["192.0.2.0/24", "2001:db8::/32"]\nclient_name = ["unknown", "*.dyn.example"]\n'
            'helo = ["localhost", "[192.0.2.1]", "[IPv6:::1]", "*.lan"]\ntls = ["none", "TLSv1.2"]\ntls_name = "mx.example"\n'
            'sender = ["<>", "a@b.example", "*.example"]\nrecipient = "x@y.example"\naccount = "*"\nlisten = "tcp:25"\n'
            'reply = "554 5.7.9 Go away"\n'
            '[[access.rule]]\nname = "all"\naction = "warn"\nat = "rcpt"\n'
        )
        self.assertEqual(["r", "all"], [rule.name for rule in self.load(LEAST + text).access.rule])

    def test_lists(self) -> None:
        """`client` takes "+name" of a [[hostlist]] that has addresses alone; whatever else it leads to is a mistake."""
        lists = (
            '[[hostlist]]\nname = "ours"\nhosts = ["!10.0.0.1", "10.0.0.0/30"]\n'
            '[[hostlist]]\nname = "mx"\nhosts = ["192.0.2.1", "mx.example.org"]\n'
        )
        [rule] = self.load(f'{LEAST}{RULE}client = ["192.0.2.0/24", "+ours"]\n{lists}').access.rule
        self.assertEqual((ip_network("192.0.2.0/24"), "+ours"), rule.client)
        self.say(
            f'{RULE}client = ["+ours", "+mx", "+nix", "192.0.2.1"]\n{lists}',
            "4: access.rule[0].client[1]: host list item 'mx.example.org': addresses and networks are wanted here",
            "4: access.rule[0].client[2]: host list item '+nix': no [[hostlist]] has this name",
        )
        self.say(
            f'{RULE}client = ["ours"]\n{lists}',
            '4: access.rule[0].client[0]: a network or an address is wanted ("192.0.2.0/24", "2001:db8::1"), not \'ours\'',
        )

    def test_listeners(self) -> None:
        """By the name of a [[listen]] or by its endpoint; names once each."""
        listen = '[[listen]]\nendpoint = "tcp:{}"\nname = "{}"\n'
        text = f'{RULE}listen = ["mx", "tcp:587"]\n' + listen.format(25, "mx") + listen.format(587, "")
        self.assertEqual(("mx", "tcp:587"), self.load(LEAST + text).access.rule[0].listen)
        self.say(
            f'{RULE}listen = ["mail", "tcp:26"]\n' + listen.format(25, "mx") + listen.format(26, "mx") + listen.format(27, "a:b"),
            "4: access.rule[0].listen[0]: no [[listen]] has this name or endpoint",
            "10: listen[1].name: listen[0] is called 'mx' too",
            "13: listen[2].name: letters, digits, '.', '_' and '-' are wanted, not 'a:b'",
        )

    def test_names_and_words(self) -> None:
        """A name that can be looked for, once; known actions, stages, versions."""
        self.say(
            '[[access.rule]]\nname = "a b"\naction = "refuse"\nat = "data"\ntls = "TLSv1.4"\n'
            '[[access.rule]]\nname = "x"\naction = "warn"\nat = "mail"\n[[access.rule]]\nname = "x"\naction = "warn"\nat = "mail"\n',
            "2: access.rule[0].name: letters, digits, '.', '_' and '-' are wanted, not 'a b'",
            "3: access.rule[0].action: 'accept', 'reject', 'defer', 'hold', 'discard' or 'warn' is wanted, not 'refuse'",
            "4: access.rule[0].at: 'connect', 'helo', 'auth', 'mail' or 'rcpt' is wanted, not 'data'",
            "5: access.rule[0].tls[0]: 'none', 'any', 'TLSv1', 'TLSv1.1', 'TLSv1.2' or 'TLSv1.3' is wanted, not 'TLSv1.4'"
            "; did you mean 'TLSv1.3'?",
            "7: access.rule[1].name: another rule is called 'x' too",
            "11: access.rule[2].name: another rule is called 'x' too",
        )

    def test_patterns(self) -> None:
        """What can never match is a mistake."""
        self.say(
            f'[[listen]]\nendpoint = "tcp:2525"\n{RULE}client_name = "no name"\nhelo = "[x]"\ntls_name = "*"\nsender = "a@@b"\n'
            'recipient = ["<>", "ok.example"]\nlisten = "tcp:25"\n',
            "6: access.rule[0].client_name[0]: a name or '*.domain' is wanted, not 'no name'",
            "7: access.rule[0].helo[0]: a name or '*.domain' is wanted, not '[x]'",
            "8: access.rule[0].tls_name[0]: a name or '*.domain' is wanted, not '*'",
            "9: access.rule[0].sender[0]: user@domain, a domain or '*.domain' is wanted, not 'a@@b'",
            "10: access.rule[0].recipient[0]: user@domain, a domain or '*.domain' is wanted, not '<>'",
            "11: access.rule[0].listen[0]: no [[listen]] has this name or endpoint; did you mean 'tcp:2525'?",
        )

    def test_stage(self) -> None:
        """Too early, no message to hold, and a rule for everybody that does not say so."""
        self.say(
            '[[access.rule]]\nname = "r"\naction = "reject"\nat = "helo"\nsender = "a.example"\n'
            '[[access.rule]]\nname = "s"\naction = "hold"\nat = "connect"\nclient = "192.0.2.1"\n'
            '[[access.rule]]\nname = "t"\naction = "reject"\n',
            "4: access.rule[0].at: what it asks about is not known at 'helo' yet, or there is no message to reject"
            "; 'mail' is the first that can be",
            "9: access.rule[1].at: what it asks about is not known at 'connect' yet, or there is no message to hold"
            "; 'mail' is the first that can be",
            "11: access.rule[2]: it has no condition; if everybody is meant, say at which stage (at)",
        )

    def test_replies(self) -> None:
        """They say what the action says."""
        rows = (("reject", "450 4.7.1 Later"), ("defer", "421 4.7.1 Bye"), ("accept", "250 2.0.0 Ok"), ("defer", "450 Later"))
        text = "".join(
            f'[[access.rule]]\nname = "r{at}"\naction = "{action}"\nat = "rcpt"\nreply = "{reply}"\n'
            for at, (action, reply) in enumerate(rows)
        )
        self.say(
            text,
            "5: access.rule[0].reply: 'reject' is answered 5xx, not 450",
            "10: access.rule[1].reply: 421 ends the connection, and a rule does not; 450 or 451 is wanted",
            "15: access.rule[2].reply: 'accept' has no reply of its own",
            "20: access.rule[3].reply: a code, an enhanced code and a text in ASCII are wanted, like '450 4.7.1 Not you'",
        )


class OtherTests(ConfigCase):
    """Lists, recipients, greylisting."""

    def test_right(self) -> None:
        """As one would write it."""
        text = (
            'local_domains = "a.example"\n[access]\ndnsbl_reject = 3\ndnsbl_defer = 0\nrelay_domains = "b.example"\n'
            '[[access.dnsbl]]\nzone = "bl.example"\nscore = 2\nanswers = ["127.0.0.2", "127.0.0.8/29"]\ntimeout = "3s"\n'
            'text = "{client} is in {zone}: {txt}"\n'
            '[[access.dnsbl]]\nzone = "good.example"\nscore = -2\n'
            '[[access.recipients]]\ndomains = ["b.example"]\nfile = "b.txt"\n[access.greylist]\ndelay = "1m"\npass_after = 0\n'
        )
        (self.directory / "b.txt").write_text("ann@b.example\n")
        access = self.load(LEAST + text).access
        self.assertEqual((2, -2), tuple(dnsbl.score for dnsbl in access.dnsbl))
        assert access.greylist is not None
        self.assertEqual(
            (True, 60.0, self.directory / "b.txt"), (access.greylist.enabled, access.greylist.delay, access.recipients[0].file)
        )

    def test_off(self) -> None:
        """Nothing of it is on unless it is said."""
        access = self.load(LEAST).access
        self.assertEqual(
            ((), (), (), None, False), (access.rule, access.dnsbl, access.recipients, access.greylist, access.reverse_dns)
        )

    def test_mistakes(self) -> None:
        """Each key."""
        (self.directory / "b").write_text("ann@b.example\nbob\n")
        self.say(
            '[[access.dnsbl]]\nzone = "no zone"\nscore = 0\nanswers = ["127.0.0.2", "203.0.113.0/24", "::1"]\n'
            '[[access.dnsbl]]\nzone = "b.example"\nanswers = []\n'
            '[[access.recipients]]\ndomains = ["x.example", "y z"]\nfile = "b"\n[[access.recipients]]\ndomains = []\nfile = "c"\n'
            '[access.greylist]\ndelay = "2d"\nv4_prefix = 33\nv6_prefix = 129\nnames = "a b"\nrecipients = "@"\n',
            "2: access.dnsbl[0].zone: a domain name is wanted, not 'no zone'",
            "3: access.dnsbl[0].score: 0 would do nothing; more, or less for a list of good ones, is wanted",
            "4: access.dnsbl[0].answers[1]: lists answer out of 127.0.0.0/8 (RFC 5782), not 203.0.113.0/24",
            "4: access.dnsbl[0].answers[2]: lists answer out of 127.0.0.0/8 (RFC 5782), not ::1/128",
            "7: access.dnsbl[1].answers: at least one address is wanted",
            "9: access.recipients[0].domains[0]: 'x.example' is in neither local_domains nor relay_domains: no mail for it is taken",
            "9: access.recipients[0].domains[1]: a domain name is wanted, not 'y z'",
            "10: access.recipients[0].file: 'DIR/b' is wrong in line 2; user@domain is wanted",
            "12: access.recipients[1].domains: at least one domain is wanted",
            "13: access.recipients[1].file: 'DIR/c' cannot be read: No such file or directory",
            "15: access.greylist.delay: delay (172800) is not less than retry_window (172800): nobody would ever pass",
            "16: access.greylist.v4_prefix: at most 32 is wanted, not 33",
            "17: access.greylist.v6_prefix: at most 128 is wanted, not 129",
            "18: access.greylist.names[0]: a name or '*.domain' is wanted, not 'a b'",
            "19: access.greylist.recipients[0]: user@domain, a domain or '*.domain' is wanted, not '@'",
        )

    def test_texts(self) -> None:
        """What is said to a listed client: one line, ASCII, places that stand for something."""
        long = "x" * 201
        self.say(
            f'[[access.dnsbl]]\nzone = "a.example"\ntext = "gr\u00fc\u00df"\n'
            f'[[access.dnsbl]]\nzone = "b.example"\ntext = "{long}"\n'
            '[[access.dnsbl]]\nzone = "c.example"\ntext = "a\\r\\n250 b"\n'
            '[[access.dnsbl]]\nzone = "d.example"\ntext = "see {zone} {url} {txt}"\n'
            '[[access.dnsbl]]\nzone = "e.example"\ntext = "Not you"\n',
            "3: access.dnsbl[0].text: one line of at most 200 characters in ASCII is wanted",
            "6: access.dnsbl[1].text: one line of at most 200 characters in ASCII is wanted",
            "9: access.dnsbl[2].text: one line of at most 200 characters in ASCII is wanted",
            "12: access.dnsbl[3].text: {url} stands for nothing; {client}, {zone}, {txt} do",
        )
