"""Small images on lab nodes, which have no registry: a shell and a few commands of the node itself."""

from __future__ import annotations

from tests.support.lab import Node

TICKS = "trap 'exit 0' TERM; i=0; while :; do echo tick $i on $(cat /etc/hostname); i=$((i+1)); sleep 1 & wait; done"
BREAKS = "echo 'no engine found' >&2; exit 3"

ROOT = r"""
set -e
d=$(mktemp -d); mkdir -p $d/bin $d/etc $d/tmp
for b in sh sleep cat echo; do cp -L /bin/$b $d/bin/; done
for f in $(ldd /bin/sh /bin/sleep /bin/cat | grep -o '/lib[^ ]*' | sort -u); do mkdir -p $d$(dirname $f); cp -L $f $d$f; done
tar -C $d -c . > /var/tmp/root.tar; rm -rf $d
"""


def load(node: Node, **images: str) -> None:
    """Give a node images by name, each with a command of the shell; a name's underscore stands for the colon."""
    node.shell(ROOT)
    for name, command in images.items():
        quoted = command.replace("\\", "\\\\").replace('"', '\\"')
        change = f'CMD ["/bin/sh","-c","{quoted}"]'
        node.run("docker", "import", "--change", change, "/var/tmp/root.tar", name.replace("_", ":"))
    node.shell("rm /var/tmp/root.tar")
