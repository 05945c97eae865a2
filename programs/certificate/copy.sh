# The copy in the bucket of everything below $root that a rebuilt server needs, sealed with the passphrase of the backups.

# A small object, or a network that does not answer.
bucket_limit_s=60
# An AWS credentials file with one profile.
credentials=$root/backup.credentials
access_key() { sed -n 's/^aws_access_key_id *= *//p' -- "$credentials" | head -n 1; }
secret_key() { sed -n 's/^aws_secret_access_key *= *//p' -- "$credentials" | head -n 1; }

# Where it is: `$target/$object` in words of rclone; `$copy` is empty where none is wanted.
where() {
    target=$(setting bucket)/$(setting folder) object=$first.tar.enc copy=
    [ -z "$(setting bucket)" ] || copy=$(setting folder)/$object
}
ready() { [ -s "$credentials" ] && [ -s "$pass" ] && [ ! -e "$work/hands-off" ]; }
# WHY: nothing is written over what could not be read.
hands_off() {
    say "$1" | tee -- "$state/uncopied" >&2
    true >"$work/hands-off"
}
# Whether there is a copy: status 0 or 1, or 2 where that is not known.
listed() {
    bucket "$bucket_limit_s" lsf "S3:$target" >"$work/listing" 2>"$work/complaint"
    # 3: there is no such folder.
    case $? in
    0) grep -Fxq -- "$object" "$work/listing" ;;
    3) return 1 ;;
    *)
        hands_off "the bucket did not answer: $(last_line "$work/complaint")"
        return 2
        ;;
    esac
}
# The same text as the question that a plan asks.
contents() {
    { say "$target/$object" && cd "$root" && find issued ca acme -type f -exec sha256sum {} + 2>/dev/null | sort; } | sha256sum
}
# Whether something is missing that a copy may have. A server that never stored one may be a rebuilt one.
needs_copy() {
    [ ! -e "$state/stored" ] || [ ! -s "$issued/server.crt" ] || { [ "$issuer" = private ] && [ ! -s "$ca/ca.key" ]; }
}
# ARCHIVE FOLDER: files and folders only, with nobody's rights but root's. What else is in it was not put there by keep_copy.
unpack() {
    tar -x --no-same-owner --no-same-permissions -C "$2" -f "$1" &&
        find "$2" ! -type f ! -type d -delete && chmod -R u=rwX,go=,ug-s,o-t -- "$2"
}
# Where something is missing, the copy is the truth, the CA that clients pin above all.
recall() {
    if ! needs_copy || ! ready || ! listed; then return 0; fi
    if ! bucket "$bucket_limit_s" copyto "S3:$target/$object" "$work/copy"; then
        hands_off "the copy in the bucket could not be fetched"
        return 0
    fi
    mkdir -- "$work/copied"
    if ! unseal "$work/copy" "$work/copy.tar" 2>/dev/null || ! unpack "$work/copy.tar" "$work/copied"; then
        hands_off "the copy in the bucket cannot be read with $pass; it was left as it is"
        return 0
    fi
    if [ -s "$work/copied/ca/ca.key" ] && [ -s "$work/copied/ca/ca.crt" ]; then
        { install -d -m 0700 -- "$ca" && place "$work/copied/ca/ca.crt" "$ca/ca.crt" 0600 root &&
            place "$work/copied/ca/ca.key" "$ca/ca.key" 0600 root; } || fail "the CA could not be restored to $ca"
    fi
    [ -d "$acme" ] || [ ! -d "$work/copied/acme" ] || cp -r -- "$work/copied/acme" "$acme"
    if good "$work/copied/issued/$issuer"; then accept "$work/copied/issued/$issuer"; fi
    say "restored from the copy in the bucket"
}
keep_copy() {
    ready || return 0
    if [ "$(cat -- "$state/stored" 2>/dev/null)" = "$(contents)" ]; then
        listed && rm -f -- "$state/uncopied"
        [ $? = 1 ] || return 0
    fi
    set --
    for folder in issued ca acme; do [ ! -d "$root/$folder" ] || set -- "$@" "$folder"; done
    if tar -c -C "$root" -f "$work/new.tar" "$@" && seal "$work/new.tar" "$work/new.enc" &&
        bucket "$bucket_limit_s" copyto "$work/new.enc" "S3:$target/$object" 2>"$work/complaint"; then
        contents >"$work/stored" && place "$work/stored" "$state/stored" 0600 root && rm -f -- "$state/uncopied"
        say "stored a copy in the bucket"
    else
        hands_off "the copy could not be stored in the bucket: $(last_line "$work/complaint")"
    fi
}
