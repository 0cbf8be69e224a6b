"""``fleet tls``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fleet_api.cli.common import Json, out, print_json, say
from fleet_api.cli.local import Home, explained, settings_of

app = typer.Typer(no_args_is_help=True, help="Show, renew or replace the certificate that an exposed control plane serves with.")

LIVE = "A control plane that runs serves it within seconds."


@app.command("show", epilog="Examples: fleet tls show; fleet tls show --json")
def show(home: Home = None, as_json: Json = False) -> None:
    """Show the certificate, its names, its end, and the authority that other machines are to trust."""
    from fleet_api.access import certificates

    settings = settings_of(home)
    folder = settings.tls_folder
    with explained():
        found = certificates.show(folder)
    if found is None:
        if as_json:
            print_json(None)
        else:
            out.print("No certificate yet. It is made at the first start on another address than loopback: fleet up --host 0.0.0.0")
        return
    until = datetime.fromtimestamp(found.not_after, UTC)
    authority = folder / certificates.CA_FILE
    if as_json:
        print_json(
            {
                "certificate": str(folder / certificates.CERTIFICATE), "names": list(found.names), "not_after": until.isoformat(),
                "sha256": found.fingerprint, "authority": str(authority) if found.ca_hash else None,
                "authority_sha256": found.ca_hash or None, "brought": found.brought,
            }
        )  # fmt: skip
        return
    left = (until - datetime.now(UTC)).days
    rows = [
        ("certificate", f"{folder / certificates.CERTIFICATE}{', brought from elsewhere' if found.brought else ''}"),
        ("names", ", ".join(found.names)),
        ("good until", f"{until:%Y-%m-%d %H:%M} UTC ({left} days){'' if found.brought else '; it is renewed by itself'}"),
        ("SHA-256", found.fingerprint),
        ("authority", f"{authority}  (copy it to machines that are to trust this one)" if found.ca_hash else "not known here"),
        ("its SHA-256", found.ca_hash or "-"),
    ]
    for name, value in rows:
        say(f"{name:12} {value}")


@app.command("renew", epilog="Example: fleet tls renew")
def renew(home: Home = None) -> None:
    """Make a new certificate from the fleet's own authority, with the addresses that this machine has now."""
    from fleet_api.access import addresses, certificates
    from fleet_api.kit.clock import SystemClock
    from fleet_api.kit.home import make

    settings = settings_of(home)
    with explained():
        make(settings.home)
        certificates.issue(settings.tls_folder, addresses.own_names(settings.names), SystemClock().now())
    out.print(f"Renewed. {LIVE}")


@app.command("use", epilog="Example: fleet tls use --cert fullchain.pem --key privkey.pem")
def use(
    cert: Annotated[Path, typer.Option("--cert", help="The certificate with its chain, PEM")],
    key: Annotated[Path, typer.Option("--key", help="Its private key, PEM, without a password")],
    authority: Annotated[Path | None, typer.Option("--ca", help="The authority that agents are to trust  [default: the system's]")] = None,
    home: Home = None,
) -> None:
    """Serve with a certificate from elsewhere; 'fleet tls renew' goes back to the fleet's own."""
    from fleet_api.access import certificates
    from fleet_api.kit.clock import SystemClock
    from fleet_api.kit.home import make

    settings = settings_of(home)
    with explained():
        make(settings.home)
        certificates.bring(settings.tls_folder, cert, key, authority, SystemClock().now())
    out.print(f"In use. {LIVE}")


@app.command("issue", epilog="Example: fleet tls issue registry.example.invalid 192.0.2.10 --out registry-tls")
def issue(
    names: Annotated[list[str], typer.Argument(help="Names and addresses by which the other machine is called", metavar="NAME...")],
    to: Annotated[Path, typer.Option("--out", help="A folder for server.crt, server.key and ca.crt; made if it is not there")],
    home: Home = None,
) -> None:
    """Make a certificate of the fleet's own authority for another machine; the authority's key stays here."""
    from fleet_api.access import authority, certificate_files, certificates
    from fleet_api.kit.clock import SystemClock
    from fleet_api.kit.home import make

    settings = settings_of(home)
    with explained():
        make(settings.home)
        made = certificates.sign_for(settings.tls_folder, names, SystemClock().now())
        to.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, part in (("server.crt", "certificate"), ("server.key", "key"), ("ca.crt", "authority")):
            certificate_files.write(to / name, made[part])
    say(f"Written to {to}. It is good for {authority.DAYS} days; run this again before.")
