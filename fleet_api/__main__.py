"""``python -m fleet_api`` is the ``fleet`` command."""

from fleet_api.cli.main import main

main()
