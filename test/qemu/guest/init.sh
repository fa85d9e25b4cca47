#!/bin/busybox sh
# The first process of a test guest. What it does is on the kernel's command line: godwit.beat, godwit.mib,
# godwit.dirty and godwit.md5 (see Workload in workload.ts). It also uses the disk and the network card it finds.
busybox=/bin/busybox
$busybox mkdir -p /proc /sys /dev /data
$busybox mount -t proc none /proc
$busybox mount -t sysfs none /sys
$busybox mount -t devtmpfs none /dev
$busybox --install -s /bin
exec </dev/null >/dev/console 2>&1

option() {
  sed -n "s/.*godwit\.$1=\([0-9]*\).*/\1/p" /proc/cmdline
}

checker beat "$(option beat)" &

for module in $(cat /modules/order); do insmod "/modules/$module"; done

if [ "$(option mib)" != 0 ]; then checker memory "$(option mib)" "$(option dirty)"; fi

keep_file() {
  mount -t tmpfs -o mpol=interleave none /data
  { echo GODWITFILE && dd if=/dev/urandom bs=1M count="$1" 2>/dev/null; } >/data/file
  sum=$(md5sum /data/file)
  n=0
  while n=$((n + 1)); do
    now=$(md5sum /data/file)
    if [ "$now" = "$sum" ]; then echo "md5 ok $n"; else echo "BAD md5 $now, was $sum"; fi
    sleep 1
  done
}
if [ "$(option md5)" != 0 ]; then keep_file "$(option md5)" & fi

if [ -b /dev/vda ]; then checker disk /dev/vda & fi

# QEMU's own network (-netdev user) answers as 10.0.2.2. A lost answer is no fault: a network may lose packets.
ask_network() {
  ip addr add 10.0.2.15/24 dev eth0
  ip link set eth0 up
  n=0
  while n=$((n + 1)); do
    if ping -c 1 -W 1 10.0.2.2 >/dev/null; then echo "net ok $n"; else echo "net lost $n"; fi
    sleep 1
  done
}
if [ -d /sys/class/net/eth0 ]; then ask_network & fi

echo up
while :; do sleep 3600; done
