#!/bin/sh
# Maintainer script of @NAME@; this first part is the same in all of them (deploy/package/script-head.sh).
set -e
name=@NAME@
unit=$name.service
ping_settings=/etc/sysctl.d/60-$name.conf
ping_range=/proc/sys/net/ipv4/ping_group_range

under_systemd() { [ -d /run/systemd/system ]; }

# Lets the group extranet-ping, and nobody else, open ICMP datagram sockets (icmp(7)), so that the service needs no
# capability. A wider range that somebody else chose stays as it is.
open_ping() {
	gid=$(getent group extranet-ping | cut -d: -f3)
	[ -n "$gid" ] && [ -r "$ping_range" ] || return 0
	# Not by "read": it takes bytes one by one, of which the kernel gives the first only.
	range=$(tr '\t' ' ' <"$ping_range")
	first=${range% *} last=${range#* }
	if [ "$first" -gt "$last" ] || [ "$range" = "$gid $gid" ]; then
		cat >"$ping_settings" <<-END
			# Written by the package $name: ICMP datagram sockets for the group extranet-ping.
			net.ipv4.ping_group_range = $gid $gid
		END
		echo "$gid $gid" 2>/dev/null >"$ping_range" || echo "$name: net.ipv4.ping_group_range is read-only here" >&2
	elif [ "$first" -gt "$gid" ] || [ "$last" -lt "$gid" ]; then
		echo "$name: net.ipv4.ping_group_range is $range, which leaves out extranet-ping ($gid); it is not" >&2
		echo "$name: changed, and ICMP checks will report no_privilege until it includes that group." >&2
	fi
}

# Takes back what open_ping did, unless another package of ours still needs it.
close_ping() {
	[ -e "$ping_settings" ] || return 0
	rm -f "$ping_settings"
	for others in /etc/sysctl.d/60-extranet-*.conf; do
		if [ -e "$others" ]; then return 0; fi
	done
	gid=$(getent group extranet-ping | cut -d: -f3)
	if [ "$(tr '\t' ' ' <"$ping_range")" = "$gid $gid" ]; then
		echo '1 0' 2>/dev/null >"$ping_range" || true
	fi
}

# As dh_installsystemd does: enabled when new, and as the administrator left it afterwards.
enable_unit() {
	deb-systemd-helper unmask "$unit" >/dev/null || true
	if deb-systemd-helper --quiet was-enabled "$unit"; then
		deb-systemd-helper enable "$unit" >/dev/null || true
	else
		deb-systemd-helper update-state "$unit" >/dev/null || true
	fi
	if under_systemd; then systemctl --system daemon-reload >/dev/null || true; fi
}

