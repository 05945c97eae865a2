//! Programs that run on a server and are the same on every one: what is wanted there is in a configuration beside them.
//!
//! Each is one file on the server, put together here from the parts of `programs/`, so that no part can be missing or of
//! another version. A configuration is `key=value` lines that the program reads and never runs. Deliberately absent:
//! anything of an inventory in a program's text.

use serde_json::json;

use crate::base::address::Address;
use crate::kinds::parts::file::File;
use crate::render::render;

/// Beside each other, the parts are functions and fixed values; the last line is the only one that does something.
macro_rules! program {
    ($($part:literal),+ $(,)?) => {
        concat!(
            "#!/bin/sh\n# managed by Seawall; changes here are undone by the next apply\n",
            $(include_str!(concat!("../../programs/", $part)), "\n",)+
            "main \"$@\"\n",
        )
    };
}

/// Issues, renews and deploys a server's certificate.
pub const CERTIFICATE: &str = program!(
    "certificate/begin.sh",
    "../src/base/folders.sh",
    "shared.sh",
    "certificate/judge.sh",
    "certificate/authority.sh",
    "certificate/acme.sh",
    "certificate/copy.sh",
    "certificate/deploy.sh",
    "certificate/run.sh",
);

/// Makes, lists, restores and thins out logical dumps.
pub const DUMP: &str = program!("dump.sh", "../src/base/folders.sh", "shared.sh");

/// Keeps WAL for a second repository, sends it there, and makes its backups.
pub const COPY: &str = program!("copy.sh", "../src/base/folders.sh", "shared.sh");

/// Restores from the repository, beside the database or in its place, and proves how far it got.
pub const RESTORE: &str = program!(
    "restore/begin.sh",
    "../src/base/folders.sh",
    "shared.sh",
    "restore/recover.sh",
    "restore/wal.sh",
    "restore/prove.sh",
    "restore/hooks.sh",
    "restore/place.sh",
    "restore/drill.sh",
    "restore/run.sh",
);

/// A configuration with its settings in the order in which they are given; a key may come more than once. `group` may
/// read it, root alone may write it: a program refuses any other.
pub(crate) fn configuration(
    address: &Address,
    path: &'static str,
    group: &'static str,
    program: &str,
    settings: &[(&str, String)],
) -> File {
    let line = |(key, value): &(&str, String)| {
        // A line break would be a setting of its own. What inventories allow has none.
        let value: String = value.chars().filter(|c| !c.is_control()).collect();
        json!({ "key": key, "value": value })
    };
    let settings: Vec<_> = settings.iter().map(line).collect();
    let context = json!({ "address": address, "program": program, "settings": settings });
    let text = render("program.conf", &context).expect("the template and its context are tested together");
    let mut file = File::private(path, group, text);
    if group == "root" {
        file.mode = "0600";
    }
    file
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::path::PathBuf;
    use std::process::{Command, Output, Stdio};

    use super::*;

    /// A program of ours in a folder of its own that stands for the server's `/`, with tools of the test's before the
    /// real ones, whose functions can be called one by one.
    pub(crate) struct Bench {
        folder: tempfile::TempDir,
        functions: String,
    }

    impl Bench {
        /// `conf` is the configuration's path on a server.
        pub(crate) fn new(program: &str, conf: &File) -> Self {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let functions = program.strip_suffix("main \"$@\"\n").expect("the last line is the call").to_owned();
            let bench = Self { folder, functions };
            for part in ["etc/seawall/tls", "var/lib/seawall/certificate/work", "var/lib/postgresql", "bin"] {
                std::fs::create_dir_all(bench.at(part)).expect("a temporary folder is writable");
            }
            bench.write(conf.path.trim_start_matches('/'), &conf.text);
            bench
        }

        pub(crate) fn at(&self, path: &str) -> PathBuf {
            self.folder.path().join(path)
        }

        pub(crate) fn write(&self, path: &str, text: &str) {
            let path = self.at(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a temporary folder is writable");
            std::fs::write(&path, text).expect("a temporary folder is writable");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("the file is ours");
        }

        /// A tool that is found before the real one.
        pub(crate) fn tool(&self, name: &str, body: &str) {
            self.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{body}\n"));
            let executable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(self.at(&format!("bin/{name}")), executable).expect("the file is ours");
        }

        /// Runs shell text after the program's functions. Paths of the server lead into the folder, and whoever runs the
        /// test stands for root.
        pub(crate) fn run(&self, text: &str) -> Output {
            let root = self.folder.path().display().to_string();
            let owner = std::fs::metadata(self.folder.path()).expect("the folder is there").uid();
            let mut functions = self.functions.clone();
            for path in ["/etc/seawall", "/var/lib/seawall", "/var/lib/postgresql", "/etc/pgbackrest", "/var/spool"] {
                functions = functions.replace(&format!("={path}"), &format!("={root}{path}"));
            }
            let functions = functions.replace("\nowner=root\n", &format!("\nowner={owner}\n"));
            self.write("script", &format!("{functions}\nPATH={root}/bin:$PATH\n{text}\n"));
            Command::new("sh").arg(self.at("script")).stdin(Stdio::null()).output().expect("sh runs")
        }

        /// What a text prints that ends with status 0.
        #[track_caller]
        pub(crate) fn says(&self, text: &str) -> String {
            let ended = self.run(text);
            let (said, complaint) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
            assert!(ended.status.success(), "{text}: {}\n{said}{complaint}", ended.status);
            said.into_owned()
        }
    }

    fn settings(values: &[(&str, String)]) -> File {
        let address = "host.certificate/db".parse().expect("an address");
        configuration(&address, "/etc/seawall/certificate.conf", "root", "/p", values)
    }

    #[test]
    fn a_configuration_is_read_and_never_run() {
        let conf = settings(&[
            ("issuer", "private".to_owned()),
            ("name", "$(touch /tmp/ran) `id` '\"; x=1".to_owned()),
            ("name", "second\nissuer=staging".to_owned()),
        ]);
        assert!(
            conf.text.ends_with("issuer=private\nname=$(touch /tmp/ran) `id` '\"; x=1\nname=secondissuer=staging\n")
        );
        let bench = Bench::new(CERTIFICATE, &conf);
        assert_eq!(bench.says("settings name"), "$(touch /tmp/ran) `id` '\"; x=1\nsecondissuer=staging\n");
        assert_eq!(
            bench.says("setting name; setting issuer; setting nothing"),
            "$(touch /tmp/ran) `id` '\"; x=1\nprivate\n"
        );
    }

    #[test]
    fn a_configuration_that_others_may_write_is_refused() {
        let bench = Bench::new(
            CERTIFICATE,
            &settings(&[("issuer", "private".to_owned()), ("name", "a.example.org".to_owned())]),
        );
        let path = bench.at("etc/seawall/certificate.conf");
        let refused = |bench: &Bench| !bench.run("wish").status.success();
        assert!(!refused(&bench));
        for mode in [0o620, 0o602] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("the file is ours");
            assert!(refused(&bench), "{mode:o}");
        }
        std::fs::rename(&path, bench.at("elsewhere")).expect("a temporary folder is writable");
        assert!(refused(&bench), "there is none");
        std::os::unix::fs::symlink(bench.at("elsewhere"), &path).expect("a temporary folder is writable");
        assert!(refused(&bench), "a link may lead anywhere");
    }

    #[test]
    fn every_program_is_one_for_a_shell() {
        for text in [CERTIFICATE, COPY, DUMP, RESTORE] {
            let mut shell = Command::new("sh").arg("-n").stdin(Stdio::piped()).spawn().expect("a shell");
            shell.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("a shell reads");
            assert!(shell.wait().expect("a shell ends").success());
            assert!(!text.contains("{{") && !text.contains("{%"), "a program is no template");
        }
    }
}
