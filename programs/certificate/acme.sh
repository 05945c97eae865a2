# Let's Encrypt, for `issuer=letsencrypt` and `issuer=letsencrypt-staging`: lego speaks to it.

# Validation and issuance take seconds; an issuer that is busy gets this long.
order_limit_s=150
# Let's Encrypt refuses a name for an hour after five failed validations in one: never be the cause.
orders_an_hour=3
production=https://acme-v02.api.letsencrypt.org/directory
# It has no tight limits.
staging=https://acme-staging-v02.api.letsencrypt.org/directory

# An acme-dns service answers for the names, each with an account of its own. Debian's lego is built without acme-dns.
accounts=$acme/acme-dns
# NAME KEY: a value of what the service said when the name was registered.
account() { tr -d '\n' <"$accounts/$1.json" | sed -n "s/.*\"$2\" *: *\"\([^\"]*\)\".*/\1/p"; }
service() { curl --silent --show-error --fail --max-time 30 --header 'Content-Type: application/json' "$@"; }
register() {
    base=$(setting acme_dns)
    install -d -m 0700 -- "$accounts" || return 1
    : >"$work/said"
    for name in $(settings name); do
        [ ! -s "$accounts/$name.json" ] || continue
        service --request POST "$base/register" >"$work/account" 2>"$work/said" &&
            place "$work/account" "$accounts/$name.json" 0600 root || return 1
        [ -n "$(account "$name" fulldomain)" ] || {
            rm -f -- "$accounts/$name.json"
            say "$base is no acme-dns service" >"$work/said"
            return 1
        }
        say "set this record at your DNS provider, once, and apply again: _acme-challenge.$name CNAME $(account "$name" fulldomain)" |
            tee -a "$work/said"
    done
    [ ! -s "$work/said" ]
}
# RECORD VALUE: what the issuer will look for.
present() {
    base=$(setting acme_dns)
    name=${1#_acme-challenge.} name=${name%.}
    [ -s "$accounts/$name.json" ] || fail "$name is not registered with $base"
    # The password goes over standard input, where no list of processes shows it.
    printf 'header = "X-Api-User: %s"\nheader = "X-Api-Key: %s"\n' "$(account "$name" username)" "$(account "$name" password)" |
        service --config - --data "{\"subdomain\":\"$(account "$name" subdomain)\",\"txt\":\"$2\"}" "$base/update"
}

# DIRECTORY FOLDER: one order at an ACME service.
order() {
    install -d -m 0700 -- "$acme" "$2" || return 1
    if [ "$(setting challenge)" = dns-01 ]; then
        register || return 1
        # lego calls this program for each name: `present` or `cleanup`, the name of the record, its value.
        EXEC_PATH=$0
        export EXEC_PATH
    fi
    ask "$@" && return 0
    # An account that the issuer does not know, or no longer, ordered nothing: make a new one.
    grep -q accountDoesNotExist "$work/said" && rm -rf -- "$2/accounts" && ask "$@"
}
ask() {
    directory=$1 folder=$2
    set --
    for name in $(settings name); do set -- "$@" --domains "$name"; done
    case $(setting challenge) in
    tls-alpn-01) set -- "$@" --tls --tls.port :443 ;;
    http-01) set -- "$@" --http --http.port :80 ;;
    dns-01) set -- "$@" --dns exec ;;
    esac
    timeout -k 5 "$order_limit_s" lego --server "$directory" --path "$folder" --accept-tos --key-type ec256 \
        --email "$(setting contact)" "$@" run >"$work/said" 2>&1
    status=$?
    cat -- "$work/said"
    [ "$status" != 124 ] || say "the issuer did not answer within $order_limit_s s" | tee -a "$work/said"
    return "$status"
}
order_letsencrypt() {
    # A name that was never issued may not point here yet, or its port may be closed. The staging service finds out first.
    if [ "$(names_in "$issued/server.crt")" != "$wanted" ]; then
        say "asking Let's Encrypt's staging service first"
        order "$staging" "$acme/letsencrypt-staging" || return 1
    fi
    order "$production" "$acme/letsencrypt" && delivered "$acme/letsencrypt"
}
order_staging() { order "$staging" "$acme/letsencrypt-staging" && delivered "$acme/letsencrypt-staging"; }
# FOLDER: what lego wrote there. The last certificate of the chain is its top.
delivered() {
    new=$work/new given=$1/certificates/$first
    mkdir -p -- "$new" && cp -- "$given.crt" "$new/server.crt" && cp -- "$given.key" "$new/server.key" &&
        awk '/BEGIN CERTIFICATE/ { text = "" } { text = text $0 "\n" } END { printf "%s", text }' "$given.crt" >"$new/ca.crt" &&
        accept "$new"
}
# How many orders failed within the last hour.
recent_failures() { awk -v since="$(($(date +%s) - 3600))" '$1 > since' "$state/failures" 2>/dev/null | wc -l; }
# VERB: the inventory opens a port to anywhere, and an apply changes the host's firewall after everything else: for the first
# order it may not be open yet. What is open already stays so, and what is opened here is closed at the end.
port() {
    case $issuer:$(setting challenge) in
    private:*) return 0 ;;
    *:tls-alpn-01) number=443 ;;
    *:http-01) number=80 ;;
    *) return 0 ;;
    esac
    for tables in iptables ip6tables; do
        "$tables" -w 10 "$1" INPUT -p tcp --dport "$number" -m comment --comment 'seawall certificate' -j ACCEPT
    done >/dev/null 2>&1
}
