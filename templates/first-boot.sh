#!/bin/sh
# managed by Seawall ({{ address }}): runs once, as root, at the server's first boot.
# It only prepares the login. Every process on this host can read it, so it holds no secret.
set -eu

user='{{ user }}'

# The image brings its own user; another name is made here.
if ! id -u "$user" >/dev/null 2>&1; then
    useradd --create-home --shell /bin/bash "$user"
fi

# Operators log in by key and have no password that sudo could ask for.
printf '%s ALL=(ALL) NOPASSWD:ALL\n' "$user" > /etc/sudoers.d/90-seawall-first-boot
chmod 0440 /etc/sudoers.d/90-seawall-first-boot

home=$(getent passwd "$user" | cut -d: -f6)
# As the user, whose home it is: what stands there could be a link, and root would follow it.
# Each declared key once; what Lightsail put there stays.
runuser -u "$user" -- sh -euc '
    umask 077
    mkdir -p -- "$1/.ssh"
    chmod 0700 -- "$1/.ssh"
    touch -- "$1/.ssh/authorized_keys"
    chmod 0600 -- "$1/.ssh/authorized_keys"
    while read -r key; do
        grep -qxF -- "$key" "$1/.ssh/authorized_keys" || printf "%s\n" "$key" >>"$1/.ssh/authorized_keys"
    done
' sh "$home" <<'KEYS'
{% for key in keys %}{{ key }}
{% endfor %}KEYS
