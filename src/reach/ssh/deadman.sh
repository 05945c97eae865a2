# The timer that puts a guarded change back, as files on disk: it is there again after a reboot.
units=/etc/systemd/system timer=seawall-deadman-$id
arm_timer() {
    printf '[Unit]\nDescription=Seawall puts back what it found before change %s\n\n[Service]\nType=oneshot\nExecStart=/bin/sh %s\n' \
        "$id" "$state/deadman/$id/revert" >"$units/$timer.service" || return
    printf '[Unit]\nDescription=Seawall waits for a login that proves change %s\n\n[Timer]\nOnActiveSec=%s\nAccuracySec=100ms\n\n[Install]\nWantedBy=timers.target\n' \
        "$id" "$1" >"$units/$timer.timer" || return
    chmod 0644 "$units/$timer.service" "$units/$timer.timer"
    sync -- "$units/$timer.service" "$units/$timer.timer" "$units"
    systemctl daemon-reload && systemctl enable --quiet --now "$timer.timer" && sync
}
forget_timer() {
    systemctl disable --quiet "$timer.timer"
    rm -f -- "$units/$timer.service" "$units/$timer.timer"
    systemctl stop "$timer.timer"
    systemctl daemon-reload
} 2>/dev/null
