# LOGIN: ways to a login or to root that nobody declared, one a line, in words. Reads only.
login=$1
# A search of whole folders ends after so many seconds, and says so.
search_s=5
setuid='runs with the rights of its owner or group (setuid)'
# Accounts: another one with root's number, passwords that can be used, keys.
awk -F: '
    NR == FNR { usable[$1] = ($2 ~ /^\$/ || $2 == ""); next }
    $3 == 0 && $1 != "root" { print $1 " is root under another name" }
    usable[$1] { print $1 " has a password that can be used" }
' /etc/shadow /etc/passwd
while IFS=: read -r name _ _ _ _ home _; do
    [ "$name" != "$login" ] || continue
    for keys in "$home/.ssh/authorized_keys" "$home/.ssh/authorized_keys2"; do
        if [ -f "$keys" ] && grep -q '^[[:space:]]*[^#[:space:]]' "$keys"; then echo "$name has keys in $keys"; fi
    done
done </etc/passwd
for group in sudo docker disk lxd shadow root; do
    for member in $(getent group "$group" | cut -d : -f 4 | tr ',' ' '); do
        [ "$member" = "$login" ] || echo "$member is in the group $group, which is as good as root"
    done
done
# sudo: every line but Debian's own, the image's for this user, and ours.
for file in /etc/sudoers /etc/sudoers.d/*; do
    # sudo reads no name with a dot in it, and none that ends with a tilde.
    case ${file##*/} in README | 90-seawall-* | *.* | *~) continue ;; esac
    [ -f "$file" ] || continue
    sed -e 's/^[[:space:]]*//' -e '/^$/d' -e '/^#\($\|[^i]\|i[^n]\)/d' -- "$file" | while read -r line; do
        case $line in
        'Defaults'*'env_reset' | 'Defaults'*'mail_badpass' | 'Defaults'*'secure_path='* | 'Defaults'*'use_pty') ;;
        '@includedir /etc/sudoers.d' | '#includedir /etc/sudoers.d' | 'root'*'ALL=(ALL:ALL) ALL' | '%sudo'*'ALL=(ALL:ALL) ALL') ;;
        "$login "*) ;;
        *) echo "$file says \`$line\`" ;;
        esac
    done
done
# What runs by itself: not a package's, and not ours.
{
    cat /var/lib/dpkg/info/*.conffiles 2>/dev/null
    echo '=='
    for file in /etc/cron.d/* /etc/cron.hourly/* /etc/cron.daily/* /etc/cron.weekly/* /etc/cron.monthly/* /var/spool/cron/crontabs/* \
        /etc/systemd/system/*.service /etc/systemd/system/*.timer; do
        case $file in */seawall-*) continue ;; esac
        if [ -f "$file" ] && [ ! -L "$file" ]; then echo "$file"; fi
    done
} | awk '$0 == "==" { list = 1; next } !list { known[$1] = 1; next } !($0 in known) { print $0 " runs things by itself" }'
[ ! -s /etc/ld.so.preload ] || echo "/etc/ld.so.preload puts code into every program"
# Programs that run as somebody else: none belongs where packages put nothing, and elsewhere these are known.
timeout "$search_s" find /etc /home /opt /root /srv /tmp /usr/local /var/tmp /var/lib/postgresql /dev/shm -xdev -type f -perm /6000 \
    -printf "%p $setuid\n" 2>/dev/null
[ $? != 124 ] || echo "there may be more: the search for setuid programs had not ended after $search_s s"
find /usr/bin /usr/sbin /usr/libexec /usr/lib/openssh /usr/lib/dbus-1.0 /usr/lib/polkit-1 -xdev -type f -perm -4000 -printf "%p $setuid\n" 2>/dev/null |
    grep -Ev '/(chfn|chsh|dbus-daemon-launch-helper|fusermount3?|gpasswd|mount|newgrp|newgidmap|newuidmap|ntfs-3g|passwd|pkexec|polkit-agent-helper-1|ssh-keysign|su|sudo|umount) runs with'
exit 0
