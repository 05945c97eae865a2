//! What a step does where a path leads over a link, or through a folder that others can write to: nothing.
//!
//! With owners other than root's, which only root can make: `tests/sandbox/attacks_paths.rs`.

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use fs_err as fs;

use crate::base::shell::{FOLDERS, UNSAFE};
use crate::plan::step::HostStep;
use crate::reach::ssh::event::Frame;
use crate::reach::ssh::tests::doing::Host;

/// Runs shell text after the functions; its status and what it prints.
fn sh(text: &str, word: &str) -> (i32, String) {
    let out = Command::new("sh").args(["-c", &format!("{FOLDERS}{text}"), "sh", word]).output().expect("sh runs");
    (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&out.stdout).trim_end().to_owned())
}

fn mode(path: &std::path::Path, bits: u32) {
    fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).expect("the folder is ours");
}

/// How a transaction of one step failed.
fn refused(host: &Host, id: &str, step: HostStep) -> (i32, String) {
    match host.act(id, vec![step], &[]).into_iter().nth(2) {
        Some(Frame::Failed { status, output, .. }) => (status, output),
        other => panic!("{id}: {other:?}"),
    }
}

#[test]
fn a_way_is_walked_from_the_top() {
    let host = Host::new();
    let root = host.dir.path();
    fs::create_dir_all(root.join("a/b")).expect("a folder");
    assert_eq!(sh("keeper \"$1\"", &host.at("a/b/file")), (0, "root".to_owned()));
    symlink(root.join("a"), root.join("link")).expect("a link");
    fs::write(root.join("file"), "").expect("a file");
    for path in ["link/b/file", "link/file", "file/x"] {
        let (status, said) = sh("keeper \"$1\"", &host.at(path));
        assert_eq!(status, UNSAFE, "{path}: {said}");
        assert!(said.contains("where a folder must be"), "{path}: {said}");
    }
    let (status, said) = sh("keeper \"$1\"", &host.at("none/file"));
    assert_eq!(status, 73, "{said}");
    for path in ["relative/x", "/a/../b", "/a/./b", "/a//b", "/a\nb/c", ""] {
        assert_eq!(sh("keeper \"$1\"", path).0, UNSAFE, "{path:?}");
    }
    // What others may write to is nobody's alone; a sticky folder on the way is, and at its end is not.
    for (bits, last, on_the_way) in
        [(0o777, UNSAFE, UNSAFE), (0o775, UNSAFE, UNSAFE), (0o1777, UNSAFE, 0), (0o755, 0, 0)]
    {
        mode(&root.join("a"), bits);
        let ask = |path: &str| sh("keeper \"$1\"", &host.at(path)).0;
        assert_eq!((ask("a/file"), ask("a/b/file")), (last, on_the_way), "{bits:o}");
    }
}

#[test]
fn no_step_follows_a_link() {
    let host = Host::new();
    let root = host.dir.path();
    fs::create_dir_all(root.join("treasure")).expect("a folder");
    fs::write(root.join("treasure/file"), "untouched").expect("a file");
    mode(&root.join("treasure"), 0o711);
    symlink(root.join("treasure"), root.join("conf.d")).expect("a link");
    symlink(root.join("treasure/file"), root.join("file")).expect("a link");
    let HostStep::WriteFile { owner, group, .. } = host.write("x", "", None) else { unreachable!() };
    let make = |name: &str| HostStep::MakeDirectory {
        path: host.at(name),
        owner: owner.clone(),
        group: group.clone(),
        mode: "0755".to_owned(),
    };
    for (id, step, status) in [
        ("t-1", make("conf.d"), UNSAFE),
        ("t-2", make("conf.d/below"), UNSAFE),
        ("t-3", make("file"), UNSAFE),
        ("t-4", host.write("conf.d/file", "mine", None), UNSAFE),
        ("t-5", host.write("file", "mine", None), 73),
        ("t-6", HostStep::RemoveFile { path: host.at("conf.d/file") }, UNSAFE),
    ] {
        let (found, said) = refused(&host, id, step);
        assert_eq!(found, status, "{id}: {said}");
        assert!(said.contains("link"), "{id}: {said}");
    }
    // A link that is in the way is one thing that can be removed, and what it leads to stays.
    host.act("t-7", vec![HostStep::RemoveFile { path: host.at("conf.d") }], &[]);
    assert!(!root.join("conf.d").is_symlink());
    assert_eq!(host.read("treasure/file").as_deref(), Some("untouched"));
    let bits = fs::metadata(root.join("treasure")).expect("there").permissions().mode() & 0o7777;
    assert_eq!((bits, fs::read_dir(root.join("treasure")).expect("a folder").count()), (0o711, 1));
}

#[test]
fn nothing_starts_where_others_could_change_what_root_runs() {
    let host = Host::new();
    fs::create_dir_all(host.dir.path().join("state")).expect("a folder");
    mode(&host.dir.path().join("state"), 0o777);
    let frames = host.act("t-1", vec![host.write("new", "x", None)], &[]);
    let [Frame::Refused(why)] = frames.as_slice() else { panic!("{frames:?}") };
    assert!(why.contains("state can be written by others"), "{why}");
    assert_eq!(host.read("new"), None);
}

#[test]
fn a_file_is_rewritten_whole_and_where_it_is() {
    let host = Host::new();
    let root = host.dir.path();
    fs::write(root.join("conf"), "one\ntwo\n").expect("a file");
    mode(&root.join("conf"), 0o640);
    assert_eq!(sh("rewritten \"$1\" sed 2d", &host.at("conf")), (0, String::new()));
    assert_eq!(host.read("conf").as_deref(), Some("one\n"));
    assert_eq!(fs::metadata(root.join("conf")).expect("there").permissions().mode() & 0o7777, 0o640);
    assert_eq!(sh("rewritten \"$1\" false", &host.at("conf")).0, 74);
    symlink(root.join("conf"), root.join("link")).expect("a link");
    assert_eq!(sh("rewritten \"$1\" sed d", &host.at("link")).0, 73);
    assert_eq!(host.read("conf").as_deref(), Some("one\n"));
    assert_eq!(fs::read_dir(root).expect("a folder").count(), 2, "no candidate stays");
}
