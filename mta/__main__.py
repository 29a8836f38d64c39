"""`python -m mta`: the command mta."""

from mta.cli.main import main

main()
