# How a transaction becomes a process that outlives the connection.
unit_start() {
    systemd-run --quiet --collect --unit="seawall-apply-$id" --description="Seawall transaction $id" \
        -p Type=exec -p RuntimeMaxSec="$limit" -p UMask=0077 -p StandardOutput=null -- /bin/sh "$run/$id/program"
}
# A guarded change that nobody has decided on holds its host, too.
unit_active() { systemctl is-active --quiet "seawall-apply-$1.service" "seawall-deadman-$1.timer"; }
unit_pid() { systemctl show -p MainPID --value "seawall-apply-$id.service"; }
