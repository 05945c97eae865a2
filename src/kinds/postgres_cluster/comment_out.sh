# FILE LINE NAME: takes a line that sets NAME out of effect and leaves it readable. PostgreSQL told of the line, and whoever can
# make it tell something else is not root: so the file is one of root's, and the line is looked at.
file=$1 line=$2 name=$3
only_root "$file" || exit
if [ -L "$file" ] || ! sed -n "${line}p" -- "$file" | grep -Eiq "^[[:space:]]*${name}[[:space:]=]"; then
    echo "line $line of $file does not set $name; it was left as it is"
    exit 65
fi
rewritten "$file" sed -e "${line}s/^/# not in effect by Seawall: /"
