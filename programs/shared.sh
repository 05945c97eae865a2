# What programs of ours on a server share: messages, settings, the bucket, and what only the passphrase opens.
# `folders.sh` comes before. A program sets `conf`, and before it calls `bucket`, the functions `access_key` and `secret_key`.

# Who may write a configuration: whoever else can could choose what root sends, and where to.
owner=root

say() { printf '%s\n' "$*"; }
fail() {
    say "$*" >&2
    exit 1
}
# FILE KEY: the values of a key in a file of `key=value` lines, one a line. They are read, never run.
values() { sed -n "s/^$2=//p" -- "$1"; }
# KEY: its values in the configuration; the second is for a key that is there once.
settings() { values "$conf" "$1"; }
setting() { settings "$1" | head -n 1; }
# Refuses a configuration that somebody else may have written, or put in its place.
configured() {
    only_root "$conf" >&2 || exit
    [ -n "$(find "$conf" -prune -type f -user "$owner" ! -perm /022 2>/dev/null)" ] ||
        fail "$conf is missing, is no file of $owner's, or can be written by others"
}
# FILE: the last line of what a program said, without what a terminal would obey.
last_line() { grep -v '^[[:space:]]*$' "$1" 2>/dev/null | tail -n 1 | tr -d '\000-\037'; }

# SECONDS WORD...: rclone, with the key of this server's backups in its environment and nowhere else; the bucket is below
# `S3:`. rclone knows AWS by a name that makes it put the bucket into the host's name, whatever else it is told. After an
# upload it would ask for that very version, which this key may not.
bucket() {
    limit=$1
    shift
    RCLONE_CONFIG_S3_TYPE=s3 RCLONE_CONFIG_S3_PROVIDER=Other RCLONE_CONFIG_S3_REGION=$(setting region) \
        RCLONE_CONFIG_S3_ENDPOINT=https://s3.$(setting region).amazonaws.com RCLONE_CONFIG_S3_FORCE_PATH_STYLE=true \
        RCLONE_CONFIG_S3_NO_CHECK_BUCKET=true RCLONE_CONFIG_S3_NO_HEAD=true RCLONE_CONFIG_S3_ACCESS_KEY_ID=$(access_key) \
        RCLONE_CONFIG_S3_SECRET_ACCESS_KEY=$(secret_key) RCLONE_RETRIES=3 RCLONE_LOW_LEVEL_RETRIES=3 \
        RCLONE_CONTIMEOUT=10s timeout -k 10 "$limit" rclone --config '' "$@" </dev/null
}

# The passphrase of the backups, in one line.
pass=/etc/seawall/backup.pass
# FROM TO: both ways of what is stored in the bucket.
seal() { openssl enc -aes-256-cbc -pbkdf2 -salt -pass "file:$pass" -in "$1" -out "$2"; }
unseal() { openssl enc -d -aes-256-cbc -pbkdf2 -pass "file:$pass" -in "$1" -out "$2"; }
