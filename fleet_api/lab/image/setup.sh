# Runs while a node's image is made: the user, sshd, and what a container must leave to the machine that carries it.
set -eu
user=$1

useradd --create-home --shell /bin/bash --comment "Lab user" "$user"
usermod -aG sudo "$user"

# Each node has host keys and a machine id of its own, made at its first boot.
rm -f /etc/ssh/ssh_host_*
: > /etc/machine-id
ln -sf /etc/machine-id /var/lib/dbus/machine-id
mkdir -p /etc/systemd/system/ssh.service.d
printf '[Service]\nExecStartPre=\nExecStartPre=/usr/bin/ssh-keygen -A\nExecStartPre=/usr/sbin/sshd -t\n' > /etc/systemd/system/ssh.service.d/lab.conf
printf 'UseDNS no\nMaxStartups 60:30:120\n' > /etc/ssh/sshd_config.d/lab.conf

# The kernel's boot id is the machine's; a node that starts again shall have another. It is there before the journal begins, whose entries
# would else be of another boot than "journalctl -f" shows.
cat > /etc/systemd/system/fleet-lab-boot.service << 'END'
[Unit]
Description=A boot id of the node's own
DefaultDependencies=no
Before=sysinit.target systemd-journald.service

[Service]
Type=oneshot
StandardOutput=null
StandardError=null
RemainAfterExit=yes
ExecStart=/bin/sh -c 'cat /proc/sys/kernel/random/uuid > /run/fleet-lab-boot-id && mount --bind /run/fleet-lab-boot-id /proc/sys/kernel/random/boot_id'

[Install]
WantedBy=sysinit.target
END
systemctl enable fleet-lab-boot.service

# The kernel, its settings and its consoles are the machine's.
systemctl mask systemd-sysctl.service systemd-modules-load.service systemd-remount-fs.service console-getty.service getty.target \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount systemd-udevd.service 2> /dev/null
systemctl set-default multi-user.target
rm -rf /var/log/apt /var/log/dpkg.log /var/log/bootstrap.log /var/cache/apt/*.bin
