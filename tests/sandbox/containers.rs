//! Containers on a real Debian server with a real Docker: only this server reaches them, tampering is healed, volumes stay.
//!
//! No registry is reachable from here, so the image is made on the server from one static program.

use crate::support::rehearsal::Rehearsal;

const IMAGE: &str = "mkdir -p /tmp/image/bin && cp /bin/busybox /tmp/image/bin/ && tar -C /tmp/image -c . | docker import - local/web:1.0";
const STACK: &str = r#"services:
  web:
    image: local/web:1.0
    command: [/bin/busybox, httpd, -f, -p, "80", -h, /data]
    ports: ["127.0.0.1:8080:80"]
    volumes: ["data:/data"]
    environment: { TOKEN: "${TOKEN}" }
    restart: unless-stopped
  worker:
    image: local/web:1.0
    command: [/bin/busybox, sleep, "100000"]
    restart: unless-stopped
volumes:
  data: { external: true, name: web-data }
"#;
const TOKEN: &str = r#"s3cr"et $x %n"#;
const SECTION: &str = "    compose: { project: web, file: ../stack.yaml, secrets: { TOKEN: { file: token } } }\n";

/// What is done on the server. Every one is a difference of `host.compose/db`, and nothing else is.
const TAMPERINGS: [&str; 9] = [
    "docker stop -t 0 web_worker_1",
    "docker rm -f web_web_1",
    "sed -i s/127.0.0.1:// /etc/seawall/compose/web/compose.yaml",
    // The file is as it was, and what runs is not: open to everybody who passes the other firewall.
    "cd /etc/seawall/compose/web && sed s/127.0.0.1:8080/0.0.0.0:8080/ compose.yaml >/root/open.yaml &&
     docker-compose --project-directory . -p web -f /root/open.yaml up -d",
    "docker run -d --label com.docker.compose.project=web --label com.docker.compose.service=old
     --label com.docker.compose.oneoff=False --label com.docker.compose.config-hash=x local/web:1.0 /bin/busybox sleep 1000",
    "chmod 644 /etc/seawall/compose/web/.env",
    "rm /etc/docker/daemon.json && systemctl restart docker",
    "systemctl disable docker.service",
    "systemctl stop docker.socket docker.service",
];

#[test]
fn containers_run_and_only_this_server_reaches_them() {
    let Some(lab) = Rehearsal::base("containers_run_and_only_this_server_reaches_them") else { return };
    lab.edit_inventory(
        "    packages: [htop, jq]",
        "    packages: [htop, jq, docker.io, docker-compose, apparmor, busybox-static]",
    );
    lab.write_secret("token", TOKEN);
    std::fs::write(lab.path().join("stack.yaml"), STACK).expect("a Compose file of this rehearsal");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    lab.on_server(&["sh", "-c", IMAGE]);
    lab.edit_inventory("    swap: { size_mib: 1024 }", &format!("{SECTION}    swap: {{ size_mib: 1024 }}"));
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let plan = lab.expect(0, &["--sandbox", "plan"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);

    lab.on_server(&["sh", "-c", "echo kept >/var/lib/docker/volumes/web-data/_data/index.html"]);
    let fetch = ["docker", "exec", "web_worker_1", "/bin/busybox", "wget", "-q", "-O", "-", "http://web/"];
    assert_eq!(lab.on_server(&fetch).stdout, "kept\n", "services reach each other by name");
    let token = ["docker", "exec", "web_web_1", "/bin/busybox", "env"];
    assert!(lab.on_server(&token).stdout.contains(&format!("TOKEN={TOKEN}\n")), "the secret arrives as it is");
    let listens = lab.on_server(&["ss", "-Hltn", "sport", "=", ":8080"]).stdout;
    assert!(listens.contains("127.0.0.1:8080") && !listens.contains("0.0.0.0:8080"), "{listens}");
    // What names no address on Docker's own network is this server's, too.
    lab.on_server(&[
        "docker",
        "run",
        "-d",
        "--name",
        "other",
        "-p",
        "8090:80",
        "local/web:1.0",
        "/bin/busybox",
        "sleep",
        "1000",
    ]);
    assert_eq!(lab.on_server(&["docker", "port", "other"]).stdout, "80/tcp -> 127.0.0.1:8090\n");
    lab.on_server(&["docker", "rm", "-f", "other"]);

    for tampering in TAMPERINGS {
        let tampering = tampering.replace("\n    ", " ");
        lab.on_server(&["bash", "-c", &tampering]);
        let drift = lab.expect(2, &["--sandbox", "drift"]);
        assert!(drift.stdout.contains("host.compose/db"), "{tampering}: {}", drift.stdout);
        assert!(drift.stdout.contains("1 changed behind us"), "{tampering}: {}", drift.stdout);
        lab.expect(0, &["--sandbox", "apply", "--yes"]);
        let healed = lab.expect(0, &["--sandbox", "plan"]);
        assert!(healed.stdout.contains("No changes"), "{tampering}: {}", healed.stdout);
    }
    containers_live_on_while_docker_restarts(&lab);
    settings_of_somebody_else_are_not_overwritten(&lab);
    a_clean_up_does_not_take_the_volume(&lab);
    lab.edit_inventory(SECTION, "");
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    assert_eq!(lab.on_server(&["docker", "ps", "--all", "--quiet"]).stdout, "");
    assert_eq!(lab.on_server(&["cat", "/var/lib/docker/volumes/web-data/_data/index.html"]).stdout, "kept\n");
    lab.expect(0, &["--sandbox", "plan"]);
}

fn containers_live_on_while_docker_restarts(lab: &Rehearsal) {
    let started = || lab.on_server(&["docker", "inspect", "-f", "{{.State.StartedAt}}", "web_web_1"]).stdout;
    let before = started();
    lab.on_server(&["systemctl", "restart", "docker.service"]);
    assert_eq!(started(), before);
}

fn settings_of_somebody_else_are_not_overwritten(lab: &Rehearsal) {
    let path = "/etc/docker/daemon.json";
    lab.on_server(&["sh", "-c", "cp \"$1\" /root/kept && sed -i s/127.0.0.1/0.0.0.0/ \"$1\"", "sh", path]);
    let refused = lab.expect(3, &["--sandbox", "apply", "--yes"]);
    assert!(
        refused.stdout.contains("docker-settings") && refused.stdout.contains("it sets `ip`"),
        "{}",
        refused.stdout
    );
    lab.on_server(&["cp", "/root/kept", path]);
    lab.expect(0, &["--sandbox", "plan"]);
}

/// What cost somebody a database: the volume that a Compose file declares goes with it, unless it is external.
fn a_clean_up_does_not_take_the_volume(lab: &Rehearsal) {
    lab.on_server(&["sh", "-c", "cd /etc/seawall/compose/web && docker-compose -p web down -v"]);
    lab.expect(2, &["--sandbox", "drift"]);
    lab.expect(0, &["--sandbox", "apply", "--yes"]);
    let fetch = ["docker", "exec", "web_worker_1", "/bin/busybox", "wget", "-q", "-O", "-", "http://web/"];
    assert_eq!(lab.on_server(&fetch).stdout, "kept\n");
}
