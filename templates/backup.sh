#!/bin/sh
# managed by Seawall ({{ address }}); changes here are undone by the next apply
# One backup of the kind that is named: full, diff or incr. One at a time: a second one waits for the first.
# Ends with pgBackRest's own status.
set -u
# Whoever can open a lock can hold it: only PostgreSQL's user gets this far, and no other may read it.
umask 077
exec 9>/run/postgresql/.seawall-backup.lock || exit
if ! flock -w {{ wait }} 9; then
    echo "another backup has been running for {{ wait }} s; this one was not made" >&2
    exit 50
fi
exec pgbackrest --stanza={{ stanza }} --type="$1" --log-level-console=info backup
