#!/bin/sh
# Runs in the new root: packages, and what makes the image generic (no identity, no keys, no password).
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

# Nothing may start while packages are unpacked.
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d

apt-get update -q
apt-get dist-upgrade -q -y
# shellcheck disable=SC2046  # one word a package is meant
apt-get install -q -y --no-install-recommends $(grep -v '^#' /run/image/packages.txt)
apt-get clean
rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d /var/log/*.log /var/log/apt/* /var/cache/debconf/*-old

# Each machine makes its own identity at its first boot.
rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id
: > /etc/machine-id
passwd --lock root

# Hardware, links and clock belong to the host here; package updates happen when somebody asks for them.
systemctl mask systemd-udevd.service systemd-udev-trigger.service systemd-udevd-kernel.socket \
    systemd-udevd-control.socket systemd-modules-load.service systemd-sysctl.service \
    systemd-networkd.service systemd-networkd-wait-online.service systemd-timesyncd.service \
    networking.service getty.target console-getty.service serial-getty@.service \
    apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service
systemctl set-default multi-user.target
