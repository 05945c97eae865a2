//! What a Compose file may say, by key. A key that is not here is refused: Compose invents new ones, and the next may be
//! another way to the server. Each list is a decision that a reader sees (decision 47).

/// Keys at the top. Those that begin with `x-` say nothing to Compose.
pub(super) const TOP: [&str; 5] = ["version", "name", "services", "volumes", "networks"];

/// Keys of a service. What some of them may hold is judged besides.
pub(super) const SERVICE: [&str; 57] = [
    "attach",
    "cap_add",
    "cap_drop",
    "command",
    "container_name",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_shares",
    "cpus",
    "cpuset",
    "depends_on",
    "deploy",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "environment",
    "expose",
    "extra_hosts",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "ipc",
    "labels",
    "links",
    "logging",
    "mac_address",
    "mem_limit",
    "mem_reservation",
    "mem_swappiness",
    "memswap_limit",
    "network_mode",
    "networks",
    "pids_limit",
    "platform",
    "ports",
    "privileged",
    "profiles",
    "pull_policy",
    "read_only",
    "restart",
    "scale",
    "security_opt",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "tmpfs",
    "tty",
    "ulimits",
    "user",
    "volumes",
    "working_dir",
];

/// Keys of a service that bring in something from outside of the file.
pub(super) const FROM_ELSEWHERE: [&str; 8] =
    ["build", "extends", "env_file", "label_file", "configs", "secrets", "develop", "models"];

/// Keys of a service that give a container a part of the server: its processes, devices, kernel parameters, groups of
/// processes, other containers, or the hands of Docker itself.
pub(super) const TO_THE_SERVER: [&str; 19] = [
    "blkio_config",
    "cgroup",
    "cgroup_parent",
    "credential_spec",
    "device_cgroup_rules",
    "devices",
    "external_links",
    "gpus",
    "group_add",
    "isolation",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "provider",
    "runtime",
    "storage_opt",
    "sysctls",
    "use_api_socket",
    "uts",
];

/// Keys of [`TO_THE_SERVER`] in the older and rarer forms, and two that bring both.
pub(super) const TO_THE_SERVER_TOO: [&str; 4] = ["userns_mode", "volumes_from", "volume_driver", "post_start"];

/// Keys at the top that bring in something from outside of the file.
pub(super) const TOP_FROM_ELSEWHERE: [&str; 4] = ["include", "configs", "secrets", "models"];

/// Rights that `cap_add` may give back after `cap_drop: [ALL]`: those that Docker gives every container anyway, without the
/// two with which it makes devices and raw packets, and one to use ports below 1024.
pub(super) const RIGHTS: [&str; 11] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
];

/// What `security_opt` may say: it only takes.
pub(super) const SECURITY: [&str; 3] = ["no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"];

/// What the namespaces that may be named may be: a container's own.
pub(super) const NETWORK_MODES: [&str; 2] = ["bridge", "none"];
pub(super) const IPC: [&str; 3] = ["private", "none", "shareable"];

/// Where Docker may write what a container says: its other drivers write as root to sockets and addresses.
pub(super) const LOGGING: [&str; 3] = ["json-file", "local", "journald"];

/// What `deploy` may say; the rest is for clusters, or gives devices.
pub(super) const DEPLOY: [&str; 4] = ["labels", "replicas", "resources", "restart_policy"];
pub(super) const RESOURCES: [&str; 3] = ["cpus", "memory", "pids"];

/// Keys of a volume and of a network at the top.
pub(super) const VOLUME: [&str; 3] = ["external", "name", "labels"];
pub(super) const NETWORK: [&str; 8] =
    ["attachable", "driver", "driver_opts", "external", "internal", "ipam", "labels", "name"];
pub(super) const NETWORK_OPTIONS: [&str; 1] = ["com.docker.network.driver.mtu"];

/// Keys of a mount in the long form, and of the part for its type.
pub(super) const MOUNT: [&str; 8] = ["bind", "consistency", "read_only", "source", "target", "tmpfs", "type", "volume"];
pub(super) const MOUNT_BIND: [&str; 2] = ["create_host_path", "selinux"];
pub(super) const MOUNT_VOLUME: [&str; 2] = ["nocopy", "subpath"];
pub(super) const MOUNT_TMPFS: [&str; 2] = ["mode", "size"];

/// What may follow the second colon of a mount. Propagation is not among it: it would let mounts out to the server.
pub(super) const MOUNT_OPTIONS: [&str; 8] = ["ro", "rw", "z", "Z", "nocopy", "cached", "delegated", "consistent"];

/// Folders below which a container may have a folder of the server; `/var/lib/PROJECT` is another.
pub(super) const FOLDERS: [&str; 2] = ["/srv", "/opt"];
/// Files of the server that a container may read.
pub(super) const READABLE: [&str; 3] = ["/etc/localtime", "/etc/timezone", "/etc/ssl/certs"];
/// What must not be within reach of a container, whatever a project is called: the database, its backups' keys, Seawall's own
/// records, and what Docker keeps.
pub(super) const KEPT_OUT: [&str; 10] = [
    "/var/lib/apt",
    "/var/lib/containerd",
    "/var/lib/docker",
    "/var/lib/dpkg",
    "/var/lib/fail2ban",
    "/var/lib/pgbackrest",
    "/var/lib/postgresql",
    "/var/lib/seawall",
    "/var/lib/sudo",
    "/var/lib/systemd",
];
