#!/bin/sh
# A host of its own, with systemd as its process 1: this machine's root below a file system in memory, in namespaces of its
# own (mount, PID, UTS, IPC, network, cgroup). Nothing of the machine is changed.
# usage: host.sh DIR
set -eu
dir=$1
group=/sys/fs/cgroup/unified
[ -d $group ] || group=/sys/fs/cgroup
group=$group/${dir##*/}
if [ -z "${INSIDE:-}" ]; then
  trap 'find "$group" -depth -type d -exec rmdir {} +' EXIT
  mkdir "$group"
  INSIDE=1 sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' - "$group" \
    unshare --mount --uts --ipc --net --pid --cgroup --fork --kill-child --propagation private -- "$0" "$dir"
  exit
fi
root=$dir/root
mount -t tmpfs -o mode=755 tmpfs "$dir"
mkdir "$dir/upper" "$dir/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$dir/upper,workdir=$dir/work" overlay "$root"
# No unit but those of the distribution.
for place in dev run tmp etc/systemd/system; do mount -t tmpfs -o mode=755 tmpfs "$root/$place"; done
: >"$root/etc/fstab"
# Some machines that build images keep services from being stopped by packages.
rm -f "$root/usr/sbin/policy-rc.d"
for node in null zero full random urandom tty; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs tmpfs "$root/dev/shm"
# What there is one of for all namespaces may only be read.
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
hostname "${dir##*/}"
ip link set lo up
cd "$root"
pivot_root . mnt
exec env -i container=test PATH=/usr/sbin:/usr/bin chroot . sh -c \
  'umount -l /mnt; exec setpriv --bounding-set -sys_module,-sys_time /lib/systemd/systemd --unit=basic.target'
