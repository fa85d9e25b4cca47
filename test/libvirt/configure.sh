#!/bin/sh
# Writes the configuration of a libvirtd that has no other's confinement, into DIR, its /etc/libvirt.
# usage: configure.sh DIR USER [SHARED]     as those of host.sh
set -eu
to=$1 user=$2 shared=${3:-}
cat >"$to/libvirtd.conf" <<CONF
unix_sock_group = "root"
auth_unix_ro = "none"
auth_unix_rw = "none"
host_uuid_source = "smbios"
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
CONF
cat >"$to/qemu.conf" <<CONF
user = "$user"
group = "$user"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
memory_backing_dir = "/var/lib/libvirt/qemu/ram"
CONF
if [ -n "$shared" ]; then
  cat >>"$to/qemu.conf" <<CONF
lock_manager = "lockd"
shared_filesystems = ["$shared"]
CONF
  mkdir -p "$shared/locks"
  echo "file_lockspace_dir = \"$shared/locks\"" >"$to/qemu-lockd.conf"
fi
