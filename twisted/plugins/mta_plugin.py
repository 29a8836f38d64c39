from twisted.application.service import ServiceMaker

MTA = ServiceMaker("MTA", "mta.service", "A mail transfer agent: SMTP in, durable queue, SMTP over TLS out", "mta")
