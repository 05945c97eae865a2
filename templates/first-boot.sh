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
install -d -m 0700 -o "$user" -g "$user" "$home/.ssh"
touch "$home/.ssh/authorized_keys"
chown "$user:$user" "$home/.ssh/authorized_keys"
chmod 0600 "$home/.ssh/authorized_keys"

# Each declared key once; what Lightsail put there stays.
while read -r key; do
    grep -qxF -- "$key" "$home/.ssh/authorized_keys" || printf '%s\n' "$key" >> "$home/.ssh/authorized_keys"
done <<'KEYS'
{% for key in keys %}{{ key }}
{% endfor %}KEYS
