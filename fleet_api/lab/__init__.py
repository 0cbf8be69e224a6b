"""Virtual nodes for people without Jetsons: containers with systemd, sshd and, where asked, a Docker Engine of their own."""
