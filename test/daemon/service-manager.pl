# What systemd does with NOTIFY_SOCKET: prints each notification that arrives at the socket ARGV[0]
# on lines of their own. In Perl, which Debian always has: Node has no Unix datagram sockets.
use strict;
use Socket;
$| = 1;
socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die $!;
bind($socket, pack_sockaddr_un($ARGV[0])) or die $!;
print "bound\n";
while (defined recv($socket, my $notification, 65536, 0)) { print "$notification\n" }
