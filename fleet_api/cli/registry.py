"""``fleet registry``."""

from __future__ import annotations

from typing import Annotated

import typer

from fleet_api.cli.common import Json, Url, calling, out, print_json, print_table
from fleet_api.cli.local import Home, explained, settings_of

app = typer.Typer(no_args_is_help=True, help="The fleet's registry: what it holds, and who it is.", epilog="Example: fleet registry images")


@app.command("images", epilog="Examples: fleet registry images; fleet registry images --json")
def images(
    limit: Annotated[int, typer.Option(help="Images to show, 1 to 500")] = 100,
    offset: Annotated[int, typer.Option(help="Images to leave out before")] = 0,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Show the images that the registry holds."""
    with calling(url) as client:
        answer = client.registry_images(limit, offset)
    if as_json:
        print_json(answer)
        return
    rows = [[each["full_image"], ", ".join(each["tags"])] for each in answer["images"]]
    print_table(["IMAGE", "TAGS"], rows, f"The registry {answer['registry']} holds nothing yet.")


@app.command("identity", epilog="Example: fleet registry identity 192.0.2.10:5000 registry.example.invalid")
def identity(
    address: Annotated[str, typer.Argument(help="Host and port by which engines reach it", metavar="HOST:PORT")],
    names: Annotated[
        list[str] | None, typer.Argument(help="Further names for its certificate", metavar="NAME...", show_default=False)
    ] = None,
    username: Annotated[str, typer.Option(help="Who signs in")] = "fleet",
    check: Annotated[bool, typer.Option("--check", help="Say what would be made, and make nothing")] = False,
    home: Home = None,
    as_json: Json = False,
) -> None:
    """Make the registry's certificate and password in the data folder, unless they are there. The playbook 'registry' calls this."""
    from fleet_api.access import registry_identity
    from fleet_api.kit.clock import SystemClock
    from fleet_api.kit.home import make

    settings = settings_of(home)
    now = SystemClock().now()
    with explained():
        wanted = registry_identity.Wanted(address, (address.rpartition(":")[0], *(names or [])), username)
        if check:
            made = registry_identity.missing(settings.registry_folder, settings.tls_folder, wanted, now)
        else:
            make(settings.home)
            made = registry_identity.ensure(settings.registry_folder, settings.tls_folder, wanted, now)
    if as_json:
        print_json({"folder": str(settings.registry_folder), "made": made})
        return
    word = "Would be made" if check else "Made"
    out.print(f"{word}: {', '.join(made)}." if made else "All of it is there.", markup=False)
