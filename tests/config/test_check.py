"""Meaning: words, ranges, names, and what one key demands of another; each with its exact text."""

from __future__ import annotations

from mta.tls.policy import LEVELS
from tests.config.common import LEAST, LEVEL_WANTED, ConfigCase


class WordsTests(ConfigCase):
    """Choices and levels."""

    def test_choices(self) -> None:
        """Every key with fixed words names them, and the nearest."""
        self.say(
            '[tls]\nmin_version = "TLSv1.1"\nerror = "x"\nstarttls_in_transaction = "rest"\n[tls_client]\nmandatory_5xx = "bounc"\n'
            '[handover]\nrset_test = "alway"\n[queue]\ncompletions = "lasy"\n[relay]\nprefer = "ipv5"\n[log]\nformat = "jsn"\n'
            '[[listen]]\nendpoint = "tcp:0"\ntls = "startls"\n',
            "2: tls.min_version: 'TLSv1.2' or 'TLSv1.3' is wanted, not 'TLSv1.1'; did you mean 'TLSv1.3'?",
            "3: tls.error: 'fatal' or 'offer-nothing' is wanted, not 'x'",
            "4: tls.starttls_in_transaction: 'reset' or 'refuse' is wanted, not 'rest'; did you mean 'reset'?",
            "6: tls_client.mandatory_5xx: 'defer' or 'bounce' is wanted, not 'bounc'; did you mean 'bounce'?",
            "8: handover.rset_test: 'always', 'idle' or 'never' is wanted, not 'alway'; did you mean 'always'?",
            "10: queue.completions: 'strict' or 'lazy' is wanted, not 'lasy'; did you mean 'lazy'?",
            "12: relay.prefer: 'any', 'ipv4' or 'ipv6' is wanted, not 'ipv5'; did you mean 'ipv6'?",
            "14: log.format: 'text' or 'json' is wanted, not 'jsn'; did you mean 'json'?",
            "17: listen[0].tls: 'none', 'starttls' or 'implicit' is wanted, not 'startls'; did you mean 'starttls'?",
        )

    def test_new_choices(self) -> None:
        """The words of TLS between servers; a word in another case has its suggestion."""
        self.say(
            '[tls]\nsni_unknown = "refuse"\nclient_cert = "asked"\n[tls_client]\nmin_version = "tlsv1.3"\ndane_insecure_mx = "no"\n'
            '[handover]\npreset = "exim2002"\n[[tls_policy]]\nmatch = "a.org"\nlevel = "sure"\nmin = "1.2"\nmax = "TLSv1.4"\n'
            'dane = "no"\nsts = "none"\n',
            "2: tls.sni_unknown: 'default' or 'reject' is wanted, not 'refuse'",
            "3: tls.client_cert: 'none', 'ask' or 'require' is wanted, not 'asked'; did you mean 'ask'?",
            "5: tls_client.min_version: 'TLSv1.2' or 'TLSv1.3' is wanted, not 'tlsv1.3'; did you mean 'TLSv1.3'?",
            "6: tls_client.dane_insecure_mx: 'dane', 'encrypt' or 'may' is wanted, not 'no'",
            "8: handover.preset: 'keep', 'exim2002-rset', 'nopass-default', 'pass-unset' or 'never' is wanted, not 'exim2002'"
            "; did you mean 'exim2002-rset'?",
            f"11: tls_policy[0].level: {LEVEL_WANTED}, not 'sure'; did you mean 'secure'?",
            "12: tls_policy[0].min: 'TLSv1', 'TLSv1.1', 'TLSv1.2' or 'TLSv1.3' is wanted, not '1.2'; did you mean 'TLSv1.2'?",
            "13: tls_policy[0].max: 'TLSv1', 'TLSv1.1', 'TLSv1.2' or 'TLSv1.3' is wanted, not 'TLSv1.4'; did you mean 'TLSv1.3'?",
            "14: tls_policy[0].dane: 'on' or 'off' is wanted, not 'no'",
            "15: tls_policy[0].sts: 'on' or 'off' is wanted, not 'none'; did you mean 'on'?",
        )

    def test_levels(self) -> None:
        """Every level but fingerprint may be everybody's; the nearest is named."""
        for level in set(LEVELS) - {"fingerprint"}:
            self.assertEqual(level, self.load(f'{LEAST}[tls_client]\nlevel = "{level}"').tls_client.level)
        self.say('[tls_client]\nlevel = "encypt"', f"2: tls_client.level: {LEVEL_WANTED}, not 'encypt'; did you mean 'encrypt'?")


class RangeTests(ConfigCase):
    """Numbers and durations."""

    def test_too_small_and_too_large(self) -> None:
        """No limit of nothing; ports are ports."""
        self.say(
            '[limits]\nconnections = 0\nmessage_size = 0\nerrors = -1\n[relay]\nport = 65536\n[timeouts]\nrset = 0\nmail = "4000d"\n'
            "[handover]\nidle_max_total = -1\n[dns]\nattempts = 99999999999\n",
            "2: limits.connections: at least 1 is wanted, not 0",
            "3: limits.message_size: at least 1 is wanted, not 0",
            "4: limits.errors: at least 1 is wanted, not -1",
            "6: relay.port: at most 65535 is wanted, not 65536",
            "8: timeouts.rset: more than 0 is wanted",
            "9: timeouts.mail: at most 3650d is wanted",
            "11: handover.idle_max_total: at least 0 is wanted, not -1",
            "13: dns.attempts: at most 2147483647 is wanted, not 99999999999",
        )

    def test_zero_where_it_means_something(self) -> None:
        """Never in clear, no limit, nothing kept idle."""
        text = '[tls_client]\nfallback_delay = "0"\n[handover]\nreuse_count_limit = 0\nidle_limit = 0\nidle_max_total = 0\n'
        settings = self.load(LEAST + text)
        self.assertEqual((0, 0), (settings.tls_client.fallback_delay, settings.handover.reuse_count_limit))

    def test_orders(self) -> None:
        """A minimum above its maximum, at whichever of the two the file has."""
        self.say(
            '[retry]\nminimal_backoff = "2h"\n[concurrency]\ntotal = 10\n',
            "2: retry.minimal_backoff: minimal_backoff (7200) is more than maximal_backoff (4000)",
            "4: concurrency.per_destination: per_destination (20) is more than total (10)",
        )

    def test_no_second_mistake_from_the_first(self) -> None:
        """A value that could not be read is not compared."""
        self.say(
            '[retry]\nminimal_backoff = "2h"\nmaximal_backoff = "9"',
            "3: retry.maximal_backoff: a duration wants its unit: did you mean '9s'?",
        )


class NamesTests(ConfigCase):
    """Names, addresses, endpoints."""

    def test_names(self) -> None:
        """Each element of a list at its line."""
        self.say(
            'local_domains = ["a.org",\n "b b"]\n[access]\nrelay_domains = ["*.org"]\n[dns]\nservers = ["localhost"]\n'
            '[relay]\nsource_address = ["10.0.0.1", "::1", "10.0.0.2", "eth0"]\n[tlsrpt]\ncontact = "x"\n[auth]\ncram_realm = "a b"\n',
            "2: local_domains[1]: a domain name is wanted, not 'b b'",
            "4: access.relay_domains[0]: a domain name is wanted, not '*.org'",
            '6: dns.servers[0]: an address is wanted ("127.0.0.1:53", "[::1]:53"), not \'localhost\'',
            "8: relay.source_address[2]: there is an IPv4 address already; one of each family is wanted",
            "8: relay.source_address[3]: an address is wanted, not 'eth0'",
            "10: tlsrpt.contact: an address is wanted, user@domain, not 'x'",
            "12: auth.cram_realm: a domain name is wanted, not 'a b'",
        )
        self.say('[dns]\ndnssec_probe = "a b"', "2: dns.dnssec_probe: a domain name is wanted, not 'a b'")
        self.say('[dns]\ndnssec_bogus_probe = "*.org"', "2: dns.dnssec_bogus_probe: a domain name is wanted, not '*.org'")
        for probe in (".", "", "org", "example.org."):
            self.assertEqual(probe, self.load(f'{LEAST}[dns]\ndnssec_probe = "{probe}"').dns.dnssec_probe)
            self.assertEqual(probe, self.load(f'{LEAST}[dns]\ndnssec_bogus_probe = "{probe}"').dns.dnssec_bogus_probe)
        wrong = self.mistakes('hostname = "mx1"\ndata_dir = "var"')
        self.assertEqual(["DIR/mta.toml:1: hostname: a full host name is wanted, like mx1.example.org, not 'mx1'"], wrong)

    def test_endpoints(self) -> None:
        """Wrong ones, and the same twice; port 0 is another port each time."""
        port = '[[listen]]\nendpoint = "tcp:2525"\n'
        self.say(port + port, "4: listen[1].endpoint: listen[0] has this endpoint already")
        self.say('[[listen]]\nendpoint = "25"', "2: listen[0].endpoint: an endpoint is wanted; did you mean 'tcp:25'?")
        self.assertEqual(2, len(self.load(LEAST + '[[listen]]\nendpoint = "tcp:0"\n' * 2).listen))
        self.say('[metrics]\nlisten = "tcp:99999"', "2: metrics.listen: a port from 0 to 65535 is wanted, not '99999'")


class RouteTests(ConfigCase):
    """[[route]]."""

    def route(self, text: str, *wanted: str) -> None:
        self.say(f'[[route]]\nmatch = "*"\n{text}\n', *wanted)

    def test_exactly_one_way(self) -> None:
        """Neither and both are mistakes; a misspelled one is one mistake, not two."""
        self.route("", "1: route[0]: one of relay and deliver is wanted, not none")
        self.route('relay = "a.org"\ndeliver = "maildir:/x"', "1: route[0]: one of relay and deliver is wanted, not both")
        self.route('relya = "a.org"', "3: route[0].relya: unknown key; did you mean 'relay'?")

    def test_relay(self) -> None:
        """A port without brackets has a suggestion."""
        self.route(
            'relay = "smart.example:587"',
            "3: route[0].relay: a port is for a host in brackets (no MX lookup); did you mean '[smart.example]:587'?",
        )

    def test_deliver(self) -> None:
        """Maildir only, with two placeholders; relative paths start at the file."""
        for given, text in (
            ("mbox:/x", "'maildir:/path' is wanted, not 'mbox:/x'"),
            ("maildir:", "'maildir:/path' is wanted, not 'maildir:'"),
            ("lmtp:/x", "lmtp: is not built yet; use maildir:"),
            ("maildir:/{usr}", "{domain} and {user} are the placeholders, not {usr}; did you mean 'user'?"),
            ("maildir:/{user", "a placeholder is {domain} or {user}; a single brace has no meaning in 'maildir:/{user'"),
        ):
            self.say(f'[[route]]\nmatch = "*"\ndeliver = "{given}"', f"3: route[0].deliver: {text}".replace(":/x", ":/x"))
        settings = self.load(f'{LEAST}[[route]]\nmatch = "*"\ndeliver = "maildir:../m/{{domain}}/{{user}}"')
        self.assertEqual(f"maildir:{self.directory.parent}/m/{{domain}}/{{user}}", settings.route[0].deliver)

    def test_level_of_a_mailbox(self) -> None:
        """There is none."""
        self.route('deliver = "maildir:/x"\ntls = "verify"', "4: route[0].tls: a delivery to a mailbox has no TLS")

    def test_match(self) -> None:
        """Patterns are looked at one by one; none at all is a mistake."""
        text = "a domain, '*.domain', 'user@domain', 'local' or '*' is wanted, not '@b'"
        self.say('[[route]]\nrelay = "a.org"\nmatch = ["local",\n"@b"]', f"4: route[0].match[1]: {text}")
        self.say('[[route]]\nrelay = "a.org"\nmatch = []', "3: route[0].match: at least one pattern is wanted")

    def test_names(self) -> None:
        """Given or by position, each only once, and fit to be part of a destination's name."""
        route = '[[route]]\nmatch = "*"\nrelay = "a.org"\n'
        settings = self.load(LEAST + route + 'name = "x"\n' + route)
        self.assertEqual(["x", "route2"], [entry.name for entry in settings.route])
        self.say(
            route + 'name = "route2"\n' + route,
            "4: route[0].name: another route is called 'route2' too",
            "5: route[1].name: another route is called 'route2' too",
        )
        self.say(route + 'name = "a/b"', "4: route[0].name: letters, digits, '.', '_' and '-' are wanted, not 'a/b'")
