# The copy in the bucket of everything below $root that a rebuilt server needs. It is sealed with a passphrase and stored with
# credentials that nobody but root has: rclone's crypt authenticates what it encrypts, so what opens was made by this program.

# A small object, or a network that does not answer.
bucket_limit_s=60
# An AWS credentials file with one profile.
credentials=$root/certificate.credentials
# What seals it, in one line.
seal_pass=$root/certificate.pass
access_key() { sed -n 's/^aws_access_key_id *= *//p' -- "$credentials" | head -n 1; }
secret_key() { sed -n 's/^aws_secret_access_key *= *//p' -- "$credentials" | head -n 1; }

# Where it is: `S3:$target/$object` in words of rclone, and sealed `COPY:$first.tar`; `$copy` is empty where none is wanted.
where() {
    target=$(setting bucket)/$(setting folder) object=$first.tar.bin copy=
    [ -z "$(setting bucket)" ] || copy=$(setting folder)/$object
}
ready() { [ -s "$credentials" ] && [ -s "$seal_pass" ] && [ ! -e "$work/hands-off" ]; }
# FROM TO: copies a file to or from the bucket, where `COPY:` is what is sealed. The passphrase is in rclone's environment alone.
sealed() {
    RCLONE_CONFIG_COPY_TYPE=crypt RCLONE_CONFIG_COPY_REMOTE=S3:$target RCLONE_CONFIG_COPY_FILENAME_ENCRYPTION=off \
        RCLONE_CONFIG_COPY_DIRECTORY_NAME_ENCRYPTION=false RCLONE_CONFIG_COPY_PASSWORD=$(rclone --config '' obscure - <"$seal_pass") \
        bucket "$bucket_limit_s" copyto "$1" "$2"
}
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
    { say "$target/$object" && sha256sum <"$seal_pass" && cd "$root" && find issued ca acme -type f -exec sha256sum {} + 2>/dev/null | sort; } | sha256sum
}
# Whether something is missing that a copy may have. A server that never stored one may be a rebuilt one.
needs_copy() {
    [ ! -e "$state/stored" ] || [ ! -s "$issued/server.crt" ] || { [ "$issuer" = private ] && [ ! -s "$ca/ca.key" ]; }
}
# What keep_copy packs, in this order. The last is an empty file: an archive that was cut does not have it.
packed='issued ca acme whole'
# ARCHIVE FOLDER: files and folders only, with nobody's rights but root's. What else is in it was not put there by keep_copy.
unpack() {
    ! tar -t -f "$1" | grep -Evq '^(issued|ca|acme)/|^whole$' &&
        tar -x --no-same-owner --no-same-permissions -C "$2" -f "$1" && [ -f "$2/whole" ] &&
        find "$2" ! -type f ! -type d -delete && chmod -R u=rwX,go=,ug-s,o-t -- "$2"
}
# Where something is missing, the copy is the truth, the CA that clients pin above all.
recall() {
    if ! needs_copy || ! ready || ! listed; then return 0; fi
    mkdir -- "$work/copied"
    if ! sealed "COPY:$first.tar" "$work/copy.tar" 2>"$work/complaint"; then
        hands_off "the copy in the bucket cannot be read with $seal_pass, and was left as it is: $(last_line "$work/complaint")"
        return 0
    fi
    if ! unpack "$work/copy.tar" "$work/copied"; then
        hands_off "the copy in the bucket is not whole; it was left as it is"
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
    true >"$work/whole"
    set --
    for part in $packed; do
        if [ "$part" = whole ]; then set -- "$@" -C "$work" whole; elif [ -d "$root/$part" ]; then set -- "$@" "$part"; fi
    done
    if tar -c -C "$root" -f "$work/new.tar" "$@" && sealed "$work/new.tar" "COPY:$first.tar" 2>"$work/complaint"; then
        contents >"$work/stored" && place "$work/stored" "$state/stored" 0600 root && rm -f -- "$state/uncopied"
        say "stored a copy in the bucket"
    else
        hands_off "the copy could not be stored in the bucket: $(last_line "$work/complaint")"
    fi
}
