"""Work that the control plane does: one Ansible run is one operation, in a process of its own."""
