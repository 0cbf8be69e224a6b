"""The ``fleet`` command."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fleet_api.cli import (
    audit,
    backup,
    build,
    drain,
    engines,
    enrol,
    execute,
    exit_codes,
    export,
    generate,
    import_inventory,
    jobs,
    join,
    keys,
    lab,
    models,
    nodes,
    operations,
    outputs,
    registry,
    scan,
    schedule,
    services,
    simulate,
    status,
    storage,
    tls,
    up,
    vault,
    vision,
    webhook_secret,
)
from fleet_api.version import __version__

EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in exit_codes.MEANINGS.items()) + "."

ORDER = (
    "up", "serve", "status", "generate", "jobs", "outputs", "models", "engines", "vision", "nodes", "drain", "vault", "scan", "join",
    "import", "exec", "services", "clusters", "build", "catalogue", "deploy", "registry", "storage", "backup", "export",
    "doctor", "run", "retire", "operations", "schedule",
    "keys", "webhook-secret", "enrol", "tls", "audit", "simulate", "lab",
)  # fmt: skip


class InOrder(TyperGroup):
    """Lists the commands as one comes to need them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return their names."""
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    name="fleet",
    cls=InOrder,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("up", epilog=up.EXAMPLES)(up.up)
app.command("serve", epilog="Example: fleet serve")(up.serve)
app.command("generate", epilog=generate.EXAMPLES)(generate.generate)
app.command("jobs", epilog=jobs.EXAMPLES)(jobs.jobs)
app.command("nodes", epilog=nodes.EXAMPLES)(nodes.nodes)
app.command("drain", epilog=drain.EXAMPLES)(drain.drain)
app.command("join", epilog=join.EXAMPLES)(join.join)
app.command("import", epilog=import_inventory.EXAMPLES)(import_inventory.import_inventory)
app.command("operations", epilog=operations.EXAMPLES)(operations.operations)
app.command("run", epilog=operations.RUN_EXAMPLES)(operations.run)
app.command("retire", epilog=operations.RETIRE_EXAMPLES)(operations.retire)
app.command("doctor", epilog=operations.DOCTOR_EXAMPLES)(operations.doctor)
app.command("build", epilog=build.BUILD_EXAMPLES)(build.build)
app.command("catalogue", epilog=build.CATALOGUE_EXAMPLES)(build.catalogue)
app.command("deploy", epilog=build.DEPLOY_EXAMPLES)(build.deploy)
app.command("schedule", epilog=schedule.EXAMPLES)(schedule.schedule)
app.command("enrol", epilog=enrol.EXAMPLES)(enrol.enrol)
app.command("audit", epilog=audit.EXAMPLES)(audit.audit)
app.command("exec", cls=execute.AfterDashes, epilog=execute.EXAMPLES)(execute.execute)
app.command("scan", epilog=scan.EXAMPLES)(scan.scan)
app.command("simulate", epilog=simulate.EXAMPLES)(simulate.simulate)
app.command("services", epilog=services.EXAMPLES)(services.services)
app.command("clusters", epilog=services.CLUSTER_EXAMPLES)(services.clusters)
app.add_typer(outputs.app, name="outputs")
app.add_typer(models.app, name="models", epilog=models.EXAMPLES)
app.add_typer(engines.app, name="engines", epilog=engines.EXAMPLES)
app.add_typer(vault.app, name="vault")
app.add_typer(vision.app, name="vision")
app.add_typer(keys.app, name="keys")
app.add_typer(webhook_secret.app, name="webhook-secret")
app.add_typer(tls.app, name="tls")
app.add_typer(registry.app, name="registry")
app.add_typer(storage.app, name="storage")
app.add_typer(backup.app, name="backup")
app.command("export", epilog=export.EXAMPLES)(export.export)
app.add_typer(lab.app, name="lab")
app.command("status", epilog=status.EXAMPLES)(status.status)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fleet {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version")] = False,
) -> None:
    """Fleet Commander: one control plane for a fleet of GPU machines.

    Examples: fleet up; fleet generate 'a red circle on a blue background' -o out.png; fleet jobs --json
    """


def main() -> None:
    """Run the command."""
    app()
