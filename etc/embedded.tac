"""An application of your own with a mail server in it: `twistd -ny embedded.tac` (docs/embedding.md)."""

from pathlib import Path

from twisted.application.service import Application
from twisted.internet import reactor

from mta.config.loader import load
from mta.service import make_mta

application = Application("with-mail")
make_mta(load(Path(__file__).with_name("mta.toml")), reactor=reactor).setServiceParent(application)
