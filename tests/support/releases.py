"""An agent's environment on a node, as if it were of another release."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.lab import Node

FOLDER = "/opt/fleet/agent"


@dataclass
class Release:
    """What a node's agent was installed from, and when its libraries were."""

    node: Node
    digest: str
    libraries: str

    @classmethod
    def of(cls, node: Node) -> Release:
        libraries = node.shell(f"stat -c '%n %i %Y' {FOLDER}/libraries-*/pyvenv.cfg")
        return cls(node, node.run("readlink", f"{FOLDER}/current").strip(), libraries)

    def pretend_another(self) -> None:
        """Give the environment in use another digest; its libraries stay."""
        self.node.shell(f"mv {FOLDER}/{self.digest} {FOLDER}/0f && ln -sfn 0f {FOLDER}/current")

    def names(self) -> list[str]:
        """What the folder of environments holds with this release in use."""
        return sorted([self.digest, "current", self.libraries.split("/")[4]])
