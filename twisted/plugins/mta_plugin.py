from twisted.application.service import ServiceMaker

MTA = ServiceMaker("MTA", "mta.entry", "A mail transfer agent: SMTP in, durable queue, SMTP over TLS out", "mta")
