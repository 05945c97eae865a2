# FILE: mode and owner of a userlist, then one line a member: the name, and the digest of its secret. The secret itself is
# in no argument, no environment and no output.
[ -e "$1" ] || exit 0
stat -c '%a %U:%G' -- "$1"
while IFS='"' read -r _ name _ secret _ || [ -n "$name" ]; do
    digest=$(printf %s "$secret" | sha256sum)
    printf '%s sha256:%s\n' "$name" "${digest%% *}"
done <"$1"
