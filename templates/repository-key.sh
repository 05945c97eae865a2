#!/bin/sh
# managed by Seawall ({{ address }}); changes here are undone by the next apply
# VERB CREDENTIALS TARGET: an access key as pgBackRest reads it, made of an AWS credentials file. `check` says whether the
# target is what `write` would make of it, and shows nothing of either.
set -u
umask 027
made() {
    sed -n -e '1i [global]' -e 's/^aws_access_key_id *= */repo1-s3-key=/p' -e 's/^aws_secret_access_key *= */repo1-s3-key-secret=/p' -- "$1"
}
case $1 in
check)
    if [ ! -f "$2" ]; then echo "no credentials"
    elif [ ! -f "$3" ]; then echo none
    elif made "$2" | cmp -s - "$3"; then echo current
    else echo another
    fi
    ;;
write)
    new=$(mktemp -- "${3%/*}/.seawall-XXXXXXXX") || exit
    trap 'rm -f -- "$new"' EXIT
    made "$2" >"$new" && [ "$(grep -c '^repo1-s3-key' "$new")" = 2 ] || { echo "$2 holds no access key"; exit 65; }
    chown root:postgres "$new" && chmod 0640 "$new" && sync -- "$new" && mv -T -- "$new" "$3"
    ;;
esac
