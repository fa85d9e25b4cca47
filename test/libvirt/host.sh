#!/bin/sh
# A host with libvirt: a mount and UTS namespace of its own, with libvirt laid over /usr and /run, /etc/libvirt and
# /var/{lib,log,cache}/libvirt of its own. Its processes are put into it with nsenter; this one keeps it. Nothing of the
# machine is changed.
# usage: host.sh DIR NAME TREE USER [SHARED]
# DIR/run is its /run; USER runs QEMUs; SHARED is a directory that other hosts have as well, where disks and their locks
# are: libvirt's lock manager keeps all but one host from a disk.
set -eu
if [ -z "${INSIDE:-}" ]; then
  INSIDE=1 exec unshare --mount --uts --propagation private -- "$0" "$@"
fi
dir=$1 name=$2 tree=$3 user=$4 shared=${5:-}
mkdir -p "$dir/run" "$dir/etc/libvirt" "$dir/var/lib/libvirt" "$dir/var/log/libvirt" "$dir/var/cache/libvirt"
hostname "$name"
"${0%/*}/configure.sh" "$dir/etc/libvirt" "$user" "$shared"
# The QEMU driver insists that Debian's users are there, even if none of them is used.
cp /etc/passwd /etc/group "$dir/etc/"
echo 'libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin' >>"$dir/etc/passwd"
printf 'libvirt-qemu:x:64055:\nlibvirt:x:64056:\n' >>"$dir/etc/group"
mount -t overlay -o "lowerdir=$tree/usr:/usr" overlay /usr
mount -t overlay -o "lowerdir=$dir/etc:/etc" overlay /etc
mount --bind "$dir/etc/libvirt" /etc/libvirt
for place in lib log cache; do
  mount -t overlay -o "lowerdir=$dir/var/$place:/var/$place" overlay "/var/$place"
  mount --bind "$dir/var/$place/libvirt" "/var/$place/libvirt"
done
mount --bind "$dir/run" /run
# What probes a QEMU is root and has KVM, what runs it may not: libvirt would probe it anew (4 s) whenever it looks.
if [ "$user" != root ] && [ -e /dev/kvm ]; then
  (umask 077 && : >"$dir/no-kvm")
  mount --bind "$dir/no-kvm" /dev/kvm
fi
[ -z "$shared" ] || /usr/sbin/virtlockd --daemon
echo ready
exec tail -f /dev/null
