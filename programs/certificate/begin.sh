# `certificate ensure` keeps this server's certificate: it is issued where there is none, renewed when less than a third of
# its lifetime is left, put in place, taken up by what serves it, and looked at as it is served. What a consumer does not
# take up is put back. seawall-certificate.timer runs this twice a day, `seawall apply` whenever something differs.
# What is wanted is in /etc/seawall/certificate.conf. No secret is in either file, and none is ever an argument of a program.
LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/lib/seawall/certificate
export LC_ALL PATH HOME
set -u
umask 077

# One run at a time, the timer's or an apply's. Two orders and a deployment end within this.
lock_wait_s=420
# A reload takes milliseconds; a database with thousands of connections gets this long.
reload_limit_s=20

root=/etc/seawall
conf=$root/certificate.conf tls=$root/tls ca=$root/ca acme=$root/acme state=$HOME
