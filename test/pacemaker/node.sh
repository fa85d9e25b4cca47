#!/usr/bin/env bash
# A node of a cluster: mount, UTS, IPC, network and PID namespaces of its own, with Pacemaker laid over /usr. Nothing of the
# machine is changed. SIGKILL to the process whose pid is in DIR/pid1 is its power switch.
# usage: node.sh DIR NAME TREE LAYER SHARED [LIBVIRT]     DIR/run is its /run, SHARED its /mnt; DIR/go says that it has a
# network; LIBVIRT is laid over /usr as well, and libvirtd runs before all else
set -euo pipefail
if [ -z "${INSIDE:-}" ]; then
  mkdir -p "$1"/run
  INSIDE=1 unshare --mount --uts --ipc --net --pid --fork --kill-child --propagation private -- "$0" "$@" &
  inner=$!
  trap 'kill -9 $inner 2>/dev/null' EXIT TERM INT
  until pid=$(cat /proc/$inner/task/$inner/children 2>/dev/null) && [ -n "$pid" ]; do sleep 0.02; done
  echo "$pid" >"$1/pid1.new"
  mv "$1/pid1.new" "$1/pid1"
  wait $inner || true
  exit 0
fi
unset INSIDE
dir=$1 name=$2 tree=$3 layer=$4 shared=$5 libvirt=${6:-}
mount -t proc proc /proc
hostname "$name"
mkdir -p "$dir"/{up,work}/{etc,var}
mount -t overlay -o "lowerdir=$layer/usr:$tree/usr${libvirt:+:$libvirt/usr}:/usr" overlay /usr
for place in etc var; do
  mount -t overlay -o "lowerdir=$tree/$place:/$place,upperdir=$dir/up/$place,workdir=$dir/work/$place" overlay /$place
done
mount --bind "$dir/run" /run
mount -t tmpfs -o size=512m shm /dev/shm # libqb has its rings here
mount --bind "$shared" /mnt
grep -q ^haclient: /etc/group || echo 'haclient:x:64900:' >>/etc/group
grep -q ^hacluster: /etc/passwd || echo 'hacluster:x:64900:64900::/var/lib/pacemaker:/usr/sbin/nologin' >>/etc/passwd
install -d -o 64900 -g 64900 -m 750 /var/lib/pacemaker /var/lib/pacemaker/{cib,pengine,blackbox,cores} /run/crm
install -d -o 64900 -g 64900 -m 770 /var/log/pacemaker
install -d /var/log/corosync /var/lib/corosync /run/resource-agents
[ -f /var/lib/pacemaker/cib/cib.xml ] || install -o 64900 -g 64900 -m 600 /mnt/cib.xml /var/lib/pacemaker/cib/cib.xml
mkdir -p /etc/corosync
cp /mnt/corosync.conf /etc/corosync/
ip link set lo up
if [ -n "$libvirt" ]; then
  # The QEMU driver insists that Debian's users are there, even if none of them is used.
  echo 'libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin' >>/etc/passwd
  printf 'libvirt-qemu:x:64055:\nlibvirt:x:64056:\n' >>/etc/group
  mkdir -p /etc/libvirt
  "$(dirname "$0")/../libvirt/configure.sh" /etc/libvirt root
  libvirtd >/var/log/libvirtd 2>&1 &
fi
until [ -e "$dir/go" ]; do sleep 0.05; done
export PCMK_logfile=/var/log/pacemaker/pacemaker.log PCMK_logfacility=none PATH=/usr/sbin:/usr/bin
corosync -f >/var/log/corosync/out 2>&1 &
until corosync-cfgtool -s >/dev/null 2>&1; do sleep 0.05; done
pacemakerd -f >/var/log/pacemaker/out 2>&1 &
while :; do wait || true; sleep 1; done
