#!/bin/sh
# managed by Seawall ({{ address }}); changes here are undone by the next apply
# One backup of the kind that is named: full, diff or incr. One at a time: a second one waits for the first.
# Ends with pgBackRest's own status.
set -u
exec 9>/var/lib/postgresql/.seawall-backup.lock
if ! flock -w {{ wait }} 9; then
    echo "another backup has been running for {{ wait }} s; this one was not made" >&2
    exit 50
fi
exec pgbackrest --stanza={{ stanza }} --type="$1" --log-level-console=info backup
