# FOLDER: puts the line back that Debian's file has.
reads_conf_d() { sed -e '$a\' && printf "include_dir = 'conf.d'\n"; }
grep -Eq "^[[:space:]]*include_dir[[:space:]]*=?[[:space:]]*'conf.d'" "$1/postgresql.conf" || rewritten "$1/postgresql.conf" reads_conf_d
