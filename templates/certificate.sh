#!/bin/sh
# managed by Seawall ({{ address }}); changes here are undone by the next apply
# `certificate ensure` keeps this server's certificate: it is issued where there is none, renewed when less than a third of
# its lifetime is left, put in place, taken up by what serves it, and looked at as it is served. What a consumer does not
# take up is put back. seawall-certificate.timer runs this twice a day, `seawall apply` whenever something differs.
# No secret is in this file, and none is ever an argument of a program.
LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/lib/seawall/certificate
export LC_ALL PATH HOME
set -u
umask 077

# One run at a time, the timer's or an apply's. Two orders and a deployment end within this.
lock_wait_s=420
{% for authority in authorities %}# Days. Short, because the timer renews it: a key that leaks is worth nothing soon.
private_days=90
# Days. Clients pin it, so it must outlive the server.
authority_days=3650
{% endfor %}{% for service in services %}# Validation and issuance take seconds; an issuer that is busy gets this long.
order_limit_s=150
# Let's Encrypt refuses a name for an hour after five failed validations in one: never be the cause.
orders_an_hour=3
{% endfor %}# A reload takes milliseconds; a database with thousands of connections gets this long.
reload_limit_s=20
{% for copy in copies %}# A small object, or a network that does not answer.
bucket_limit_s=60
{% endfor %}
root=/etc/seawall tls=/etc/seawall/tls ca=/etc/seawall/ca acme=/etc/seawall/acme state=$HOME
issuer={{ issuer }}
issued=$root/issued/$issuer
wanted='{% for name in names %}{{ name }}
{% endfor %}'

say() { printf '%s\n' "$*"; }
fail() {
    say "$*" >&2
    exit 1
}
# PATH: the names in a certificate, one a line.
names_in() { openssl x509 -in "$1" -noout -ext subjectAltName 2>/dev/null | tr ',' '\n' | sed -n 's/^ *DNS://p' | sort -u; }
fingerprint() { openssl x509 -noout -fingerprint -sha256 2>/dev/null; }
# PATH: whether less than a third of a certificate's own lifetime is left. One that cannot be read is due.
due() {
    begin=$(date -d "$(openssl x509 -in "$1" -noout -startdate | sed 's/^[^=]*=//')" +%s) || return 0
    end=$(date -d "$(openssl x509 -in "$1" -noout -enddate | sed 's/^[^=]*=//')" +%s) || return 0
    [ $(((end - $(date +%s)) * 3)) -lt $((end - begin)) ]
}
# AUTHORITY PATH: whether a certificate leads to an authority by its own chain, whoever else is trusted here.
verified() { openssl verify -no-CApath -no-CAstore -partial_chain -CAfile "$1" -untrusted "$2" "$2" >/dev/null 2>&1; }
# FOLDER: whether what an issuer gave can be used: the key fits, the names are those that are wanted, it is not due.
good() {
    [ -s "$1/server.crt" ] && [ -s "$1/server.key" ] && [ -s "$1/ca.crt" ] || return 1
    [ "$(openssl x509 -in "$1/server.crt" -noout -pubkey 2>&1)" = "$(openssl pkey -in "$1/server.key" -pubout 2>&1)" ] || return 1
    [ "$(names_in "$1/server.crt")" = "$(printf '%s' "$wanted" | sort -u)" ] || return 1
    ! due "$1/server.crt" || return 1
    verified "$1/ca.crt" "$1/server.crt" || return 1
    [ "$issuer" != private ] || { [ -s "$ca/ca.key" ] && cmp -s -- "$ca/ca.crt" "$1/ca.crt"; }
}
# FROM TO MODE GROUP: whole or not at all, also after a power cut.
place() {
    install -o root -g "$4" -m "$3" -- "$1" "$2.new" && sync -- "$2.new" && mv -T -f -- "$2.new" "$2" && sync -- "${2%/*}"
}
# FOLDER: takes over what an issuer gave.
accept() {
    install -d -m 0700 -- "$root/issued" "$issued" || return 1
    for part in ca.crt server.key server.crt; do
        place "$1/$part" "$issued/$part" 0600 root || return 1
    done
}
{% for authority in authorities %}
# This server's own authority.
private() {
    cat >"$work/openssl.cnf" <<'END'
[req]
prompt = no
distinguished_name = subject
[subject]
CN = {{ authority.common_name }}
[authority_name]
CN = Seawall private CA
OU = {{ authority.common_name }}
[authority]
basicConstraints = critical, CA:true, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
# It can sign for these domains and for nothing else, so that trusting it is no risk to anybody's other connections.
nameConstraints = critical{% for domain in authority.domains %}, permitted;DNS:{{ domain }}{% endfor %}, excluded;IP:0.0.0.0/0.0.0.0, excluded;IP:0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0
[server]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {% for name in names %}{% if not loop.first %}, {% endif %}DNS:{{ name }}{% endfor %}
END
    install -d -m 0700 -- "$ca" || return 1
    # Never by itself: every client has pinned it.
    if [ ! -s "$ca/ca.key" ] && [ -s "$ca/ca.crt" ]; then
        say "the private CA's key $ca/ca.key is gone, and nobody can make the same one again. Put it back; or remove $ca and $root/issued/private{% for copy in copies %} here and {{ copy.folder }}/{{ copy.object }} in the bucket{% endfor %} for a new CA, whose $tls/ca.crt every client then needs" | tee "$work/said"
        return 1
    fi
    if [ ! -s "$ca/ca.key" ]; then
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$work/ca.key" 2>&1 &&
            place "$work/ca.key" "$ca/ca.key" 0600 root || return 1
    fi
    if [ ! -s "$ca/ca.crt" ]; then
        sed 's/^distinguished_name = .*/distinguished_name = authority_name/' "$work/openssl.cnf" >"$work/authority.cnf" &&
            openssl req -x509 -new -config "$work/authority.cnf" -extensions authority -key "$ca/ca.key" -sha256 \
                -set_serial "0x$(openssl rand -hex 16)" -days "$authority_days" -out "$work/ca.crt" 2>&1 &&
            place "$work/ca.crt" "$ca/ca.crt" 0600 root || return 1
    fi
    new=$work/new
    mkdir -p -- "$new" && cp -- "$ca/ca.crt" "$new/ca.crt" &&
        openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$new/server.key" 2>&1 &&
        openssl req -new -config "$work/openssl.cnf" -key "$new/server.key" -out "$work/server.csr" 2>&1 &&
        openssl x509 -req -in "$work/server.csr" -CA "$ca/ca.crt" -CAkey "$ca/ca.key" -sha256 -days "$private_days" \
            -set_serial "0x$(openssl rand -hex 16)" -extfile "$work/openssl.cnf" -extensions server -out "$new/server.crt" 2>&1 || return 1
    openssl verify -CAfile "$ca/ca.crt" "$new/server.crt" 2>&1 || {
        say "the private CA of this server may not sign for these names. Remove $ca and $root/issued/private{% for copy in copies %} here and {{ copy.folder }}/{{ copy.object }} in the bucket{% endfor %} for a new CA, whose $tls/ca.crt every client then needs" | tee "$work/said"
        return 1
    }
    accept "$new"
}
{% endfor %}{% for service in services %}
{% for base in service.acme_dns %}# An acme-dns service answers for the names, each with an account of its own. Debian's lego is built without acme-dns.
accounts=$acme/acme-dns
# NAME KEY: a value of what the service said when the name was registered.
account() { tr -d '\n' <"$accounts/$1.json" | sed -n "s/.*\"$2\" *: *\"\([^\"]*\)\".*/\1/p"; }
service() { curl --silent --show-error --fail --max-time 30 --header 'Content-Type: application/json' "$@"; }
register() {
    install -d -m 0700 -- "$accounts" || return 1
    : >"$work/said"
    for name in{% for name in names %} {{ name }}{% endfor %}; do
        [ ! -s "$accounts/$name.json" ] || continue
        service --request POST {{ base }}/register >"$work/account" 2>"$work/said" &&
            place "$work/account" "$accounts/$name.json" 0600 root || return 1
        [ -n "$(account "$name" fulldomain)" ] || {
            rm -f -- "$accounts/$name.json"
            say "{{ base }} is no acme-dns service" >"$work/said"
            return 1
        }
        say "set this record at your DNS provider, once, and apply again: _acme-challenge.$name CNAME $(account "$name" fulldomain)" |
            tee -a "$work/said"
    done
    [ ! -s "$work/said" ]
}
# RECORD VALUE: what the issuer will look for.
present() {
    name=${1#_acme-challenge.} name=${name%.}
    [ -s "$accounts/$name.json" ] || fail "$name is not registered with {{ base }}"
    # The password goes over standard input, where no list of processes shows it.
    printf 'header = "X-Api-User: %s"\nheader = "X-Api-Key: %s"\n' "$(account "$name" username)" "$(account "$name" password)" |
        service --config - --data "{\"subdomain\":\"$(account "$name" subdomain)\",\"txt\":\"$2\"}" {{ base }}/update
}
{% endfor %}# DIRECTORY FOLDER: one order at an ACME service.
order() {
    install -d -m 0700 -- "$acme" "$2" || return 1{% for base in service.acme_dns %}
    register || return 1
    # lego calls this program for each name: `present` or `cleanup`, the name of the record, its value.
    EXEC_PATH=$0
    export EXEC_PATH{% endfor %}
    ask "$@" && return 0
    # An account that the issuer does not know, or no longer, ordered nothing: make a new one.
    grep -q accountDoesNotExist "$work/said" && rm -rf -- "$2/accounts" && ask "$@"
}
ask() {
    timeout -k 5 "$order_limit_s" lego --server "$1" --path "$2" --accept-tos --key-type ec256 --email {{ service.contact }} \
        {% for name in names %}--domains {{ name }} {% endfor %}{{ service.challenge }} run >"$work/said" 2>&1
    status=$?
    cat -- "$work/said"
    [ "$status" != 124 ] || say "the issuer did not answer within $order_limit_s s" | tee -a "$work/said"
    return "$status"
}
{% if service.production %}production() {
    # A name that was never issued may not point here yet, or its port may be closed. The staging service, which has no
    # tight limits, finds out first.
    if [ "$(names_in "$issued/server.crt")" != "$(printf '%s' "$wanted" | sort -u)" ]; then
        say "asking Let's Encrypt's staging service first"
        order https://acme-staging-v02.api.letsencrypt.org/directory "$acme/letsencrypt-staging" || return 1
    fi
    order https://acme-v02.api.letsencrypt.org/directory "$acme/letsencrypt" && delivered "$acme/letsencrypt"
}
{% else %}staging() {
    order https://acme-staging-v02.api.letsencrypt.org/directory "$acme/letsencrypt-staging" &&
        delivered "$acme/letsencrypt-staging"
}
{% endif %}# FOLDER: what lego wrote there. The last certificate of the chain is its top.
delivered() {
    new=$work/new given=$1/certificates/{{ names | first }}
    mkdir -p -- "$new" && cp -- "$given.crt" "$new/server.crt" && cp -- "$given.key" "$new/server.key" &&
        awk '/BEGIN CERTIFICATE/ { text = "" } { text = text $0 "\n" } END { printf "%s", text }' "$given.crt" >"$new/ca.crt" &&
        accept "$new"
}
{% endfor %}{% for port in ports %}# The inventory opens this port to anywhere, and an apply changes the host's firewall after everything else: for the first
# order it may not be open yet. What is open already stays so, and what is opened here is closed at the end.
port() {
    for tables in iptables ip6tables; do
        "$tables" -w 10 "$1" INPUT -p tcp --dport {{ port }} -m comment --comment 'seawall certificate' -j ACCEPT
    done >/dev/null 2>&1
}
{% endfor %}
issue() {
{% for service in services %}    hour_ago=$(($(date +%s) - 3600))
    recent=$(awk -v since="$hour_ago" '$1 > since' "$state/failures" 2>/dev/null | wc -l)
    [ "$recent" -lt "$orders_an_hour" ] ||
        fail "$recent orders for {{ names | first }} failed within the last hour, and Let's Encrypt closes itself to a name that fails too often: try again in an hour"
{% endfor %}    if {{ issue }} && good "$issued"; then
        rm -f -- "$state/failures"
        return 0
    fi
    reason=$(grep -v '^[[:space:]]*$' "$work/said" 2>/dev/null | tail -n 1 | tr -d '\000-\037')
    printf '%s %s\n' "$(date +%s)" "${reason:-the issuer gave nothing that can be used}" >>"$state/failures"
    tail -n 20 -- "$state/failures" >"$work/failures" && place "$work/failures" "$state/failures" 0600 root
    kept="there is no certificate yet"
    [ ! -e "$tls/server.crt" ] || kept="the certificate in use was left as it is"
    fail "no certificate for {{ names | first }} from $issuer: ${reason:-see above}; $kept"
}

# Unit and port of everything that serves the certificate.
consumers() {
    :{% for consumer in consumers %}
    say {{ consumer.unit }} {{ consumer.port }}{% endfor %}
}
# PORT: the fingerprint of the certificate that is served, `silent` where nothing listens.
served() {
    said=$(timeout 5 openssl s_client -starttls postgres -connect "127.0.0.1:$1" </dev/null 2>&1)
    case $said in
    *'BEGIN CERTIFICATE'*) printf '%s\n' "$said" | fingerprint ;;
    *'connect:errno='*) say silent ;;
    *) say none ;;
    esac
}
# UNIT PORT FINGERPRINT: reloads a unit and waits until it serves a certificate.
take_up() {
    systemctl reload "$1" </dev/null || return 1
    until=$(($(date +%s) + reload_limit_s))
    while [ "$(served "$2")" != "$3" ]; do
        [ "$(date +%s)" -lt "$until" ] || return 1
        sleep 0.2
    done
}
in_place() {
    cmp -s -- "$issued/server.crt" "$tls/server.crt" && cmp -s -- "$issued/server.key" "$tls/server.key" &&
        cmp -s -- "$issued/ca.crt" "$tls/ca.crt" &&
        [ "$(stat -c '%a %U:%G' -- "$tls/server.crt" "$tls/server.key" "$tls/ca.crt" | tr '\n' ' ')" = \
            '644 root:root 640 root:ssl-cert 644 root:root ' ]
}
# FOLDER: puts three files where consumers read them.
exchange() {
    install -d -o root -g root -m 0755 -- "$root" "$tls" && place "$1/ca.crt" "$tls/ca.crt" 0644 root &&
        place "$1/server.key" "$tls/server.key" 0640 ssl-cert && place "$1/server.crt" "$tls/server.crt" 0644 root
}
deploy() {
    old=$(fingerprint 2>/dev/null <"$tls/server.crt") || old=
    new=$(fingerprint <"$issued/server.crt")
    consumers | while read -r unit port; do served "$port" >"$work/before.$port"; done
    mkdir -- "$work/old" && cp -a -- "$tls/server.crt" "$tls/server.key" "$tls/ca.crt" "$work/old/" 2>/dev/null
    in_place || exchange "$issued" || fail "the certificate could not be put in place in $tls"
    consumers | while read -r unit port; do
        before=$(cat -- "$work/before.$port")
        if [ "$before" = "$new" ] || ! systemctl is-active --quiet "$unit"; then continue; fi
        if [ "$before" = silent ]; then
            systemctl reload "$unit" </dev/null
            continue
        fi
        take_up "$unit" "$port" "$new" && continue
        if [ "$(served "$port")" = "$before" ] && [ "$before" != "$old" ]; then
            say "$unit serves a certificate that is not from $tls: its own configuration names another"
        else
            say "$unit" >"$work/refused"
            exit 1
        fi
    done && return 0
    # Nothing that worked before may stop working because of a renewal.
    if [ -s "$work/old/server.crt" ] && [ -s "$work/old/server.key" ] && [ -s "$work/old/ca.crt" ]; then
        exchange "$work/old"
        consumers | while read -r unit port; do
            if systemctl is-active --quiet "$unit"; then take_up "$unit" "$port" "$old"; fi
        done
        fail "$(cat -- "$work/refused") did not take up the new certificate; the files from before were put back in $tls"
    fi
    fail "$(cat -- "$work/refused") did not take up the certificate"
}
{% for copy in copies %}
# The copy of everything below $root that a rebuilt server needs, encrypted with the passphrase of the backups.
credentials={{ copy.credentials }} pass={{ copy.pass }}
target={{ copy.bucket }}/{{ copy.folder }} object={{ copy.object }}
# rclone knows AWS by a name that makes it put the bucket into the host's name, whatever else it is told.
bucket() {
    AWS_SHARED_CREDENTIALS_FILE=$credentials AWS_PROFILE=$(sed -n 's/^\[\(.*\)\][[:space:]]*$/\1/p' "$credentials" | head -n 1) \
        AWS_EC2_METADATA_DISABLED=true RCLONE_S3_PROVIDER=Other RCLONE_S3_ENV_AUTH=true RCLONE_S3_REGION={{ copy.region }} \
        RCLONE_S3_ENDPOINT=https://s3.{{ copy.region }}.amazonaws.com RCLONE_S3_FORCE_PATH_STYLE=true \
        RCLONE_S3_NO_CHECK_BUCKET=true RCLONE_RETRIES=2 RCLONE_LOW_LEVEL_RETRIES=3 RCLONE_CONTIMEOUT=10s \
        timeout -k 5 "$bucket_limit_s" rclone --config '' "$@" </dev/null
}
ready() { [ -s "$credentials" ] && [ -s "$pass" ] && [ ! -e "$work/hands-off" ]; }
# WHY: nothing is written over what could not be read.
hands_off() {
    say "$1" | tee -- "$state/uncopied" >&2
    true >"$work/hands-off"
}
# Whether there is a copy: status 0 or 1, or 2 where that is not known.
listed() {
    bucket lsf ":s3:$target" >"$work/listing" 2>"$work/complaint"
    # 3: there is no such folder.
    case $? in
    0) grep -Fxq -- "$object" "$work/listing" ;;
    3) return 1 ;;
    *)
        hands_off "the bucket did not answer: $(grep -v '^[[:space:]]*$' "$work/complaint" | tail -n 1 | tr -d '\000-\037')"
        return 2
        ;;
    esac
}
# The same text as the question that a plan asks.
contents() {
    { say "$target/$object" && cd "$root" && find issued ca acme -type f -exec sha256sum {} + 2>/dev/null | sort; } | sha256sum
}
# Whether something is missing that a copy may have. A server that never stored one may be a rebuilt one.
bereft() {
    [ ! -e "$state/stored" ] || [ ! -s "$issued/server.crt" ] || { [ "$issuer" = private ] && [ ! -s "$ca/ca.key" ]; }
}
# Then the copy is the truth, the CA that clients pin above all.
recall() {
    if ! bereft || ! ready || ! listed; then return 0; fi
    if ! bucket copyto ":s3:$target/$object" "$work/copy"; then
        hands_off "the copy in the bucket could not be fetched"
        return 0
    fi
    mkdir -- "$work/copied"
    if ! openssl enc -d -aes-256-cbc -pbkdf2 -pass "file:$pass" -in "$work/copy" -out "$work/copy.tar" 2>/dev/null ||
        ! tar -x --no-same-owner -C "$work/copied" -f "$work/copy.tar"; then
        hands_off "the copy in the bucket cannot be read with $pass; it was left as it is"
        return 0
    fi
    if [ -s "$work/copied/ca/ca.key" ] && [ -s "$work/copied/ca/ca.crt" ]; then
        { install -d -m 0700 -- "$ca" && place "$work/copied/ca/ca.crt" "$ca/ca.crt" 0600 root &&
            place "$work/copied/ca/ca.key" "$ca/ca.key" 0600 root; } || fail "the CA could not be restored to $ca"
    fi
    [ -d "$acme" ] || [ ! -d "$work/copied/acme" ] || cp -a -- "$work/copied/acme" "$acme"
    if good "$work/copied/issued/$issuer"; then accept "$work/copied/issued/$issuer"; fi
    say "restored from the copy in the bucket"
}
keep_copy() {
    ready || return 0
    if [ "$(cat -- "$state/stored" 2>/dev/null)" = "$(contents)" ]; then
        listed && rm -f -- "$state/uncopied"
        [ $? = 1 ] || return 0
    fi
    folders=
    for folder in issued ca acme; do [ ! -d "$root/$folder" ] || folders="$folders $folder"; done
    # shellcheck disable=SC2086 # three words
    if tar -c -C "$root" -f "$work/new.tar" $folders &&
        openssl enc -aes-256-cbc -pbkdf2 -salt -pass "file:$pass" -in "$work/new.tar" -out "$work/new.enc" &&
        bucket copyto "$work/new.enc" ":s3:$target/$object" 2>"$work/complaint"; then
        contents >"$work/stored" && place "$work/stored" "$state/stored" 0600 root && rm -f -- "$state/uncopied"
        say "stored a copy in the bucket"
    else
        hands_off "the copy could not be stored in the bucket: $(grep -v '^[[:space:]]*$' "$work/complaint" | tail -n 1 | tr -d '\000-\037')"
    fi
}
{% endfor %}
case "$*" in{% for service in services %}{% for base in service.acme_dns %}
'present _acme-challenge.'*)
    present "$2" "$3"
    exit
    ;;
# The service keeps two values and forgets the older by itself.
'cleanup _acme-challenge.'*) exit 0 ;;{% endfor %}{% endfor %}
ensure | 'ensure opening') ;;
*)
    say "usage: certificate ensure [opening]" >&2
    exit 64
    ;;
esac
install -d -m 0700 -- "$state" || exit
exec 9>"$state/lock"
flock -w "$lock_wait_s" 9 || fail "another run of this program has not ended within $lock_wait_s s"
work=$state/work
rm -rf -- "$work" && mkdir -- "$work" || exit
{% for port in ports %}ended() {
    rm -rf -- "$work"
    [ "$1" != opening ] || port -D
}
trap 'ended "${2:-}"' EXIT
[ "${2:-}" != opening ] || good "$issued" || port -I
{% else %}trap 'rm -rf -- "$work"' EXIT
{% endfor %}trap 'exit 1' HUP INT TERM
{% for copy in copies %}recall
{% endfor %}for private in "$ca" "$ca/ca.key"; do
    [ ! -e "$private" ] || { chown root:root -- "$private" && chmod go= -- "$private"; } || exit
done
good "$issued" || issue
deploy
{% for copy in copies %}keep_copy
{% endfor %}# A failure of the timer's that this made good.
systemctl reset-failed seawall-certificate.service 2>/dev/null
exit 0
