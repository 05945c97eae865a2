#!/bin/sh
# managed by Seawall ({{ address }}); changes here are undone by the next apply
# fail2ban runs this with an address that failed to log in. Status 0: never ban it, because somebody logged in from there
# with a key in the last {{ days }} days. Everything else, errors included, means that it may be banned.
LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL PATH

# The address becomes part of a pattern: nothing but an address may get there.
case ${1:-} in '' | *[!0-9a-fA-F.:]*) exit 1 ;; esac
address=$(printf '%s' "$1" | sed 's/[.]/[.]/g')

# Only what sshd's own unit wrote: any user can write to the journal under any name, and not from within that unit. The
# pattern begins at the line's start, because a failed login's line holds a user name of the caller's choice.
accepted="^Accepted publickey for [^ ]+ from $address port [0-9]+ ssh2"

# A journal of weeks takes less than a second to search; what takes longer must not hold up the bans.
timeout 5 journalctl -q --no-pager -o cat --since=-{{ days }}d -n 1 --grep="$accepted" _SYSTEMD_UNIT=ssh.service |
    grep -q '^Accepted publickey '
