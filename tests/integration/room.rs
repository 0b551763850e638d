//! A file system of a few hundred KiB, to be full: in a mount namespace that only the server that is tested is in.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::namespace::namespace;
use crate::support::Server;

/// What takes the room.
const FILLER: &str = "filler";
/// What a file of one byte takes.
const PAGE: usize = 4096;
/// Mounts, brings in what was prepared, takes what room is left if that is wanted, and becomes the server.
const SCRIPT: &str = r#"mount -t tmpfs -o "$1" none room && cp -a seed/. room || exit
[ "$2" = full ] && cat /dev/zero >room/filler 2>/dev/null
shift 2; exec "$@""#;

/// How a program gets into a mount namespace of its own, in which it may mount.
pub struct Room {
    namespace: Vec<&'static str>,
}

impl Room {
    /// `None` where nothing can be mounted, if that is not required.
    pub fn find() -> Option<Self> {
        namespace("--mount", &["mount", "-t", "tmpfs", "none", "/mnt"]).map(|namespace| Self { namespace })
    }

    /// Starts a server whose `streams` and `room` are on a file system with these options, and full at once if `is_full`.
    /// `prepare` is given the folder that they are made from.
    pub fn serve(&self, options: &str, is_full: bool, arguments: &[&str], prepare: impl FnOnce(&Path)) -> Server {
        let script = ["sh", "-c", SCRIPT, "sh", options, if is_full { "full" } else { "" }];
        Server::start_by(&[&self.namespace[..], &script].concat(), arguments, |folder| {
            fs::remove_dir(folder.join("streams")).unwrap();
            std::os::unix::fs::symlink("room/streams", folder.join("streams")).unwrap();
            fs::create_dir(folder.join("room")).unwrap();
            fs::create_dir_all(folder.join("seed/streams")).unwrap();
            prepare(&folder.join("seed"));
        })
    }
}

/// A path in the room of a server, as this process can reach it.
pub fn inside(server: &Server, path: &str) -> PathBuf {
    let seen = format!("/proc/{}/root{}", server.pid().as_raw_nonzero(), server.path("room").display());
    Path::new(&seen).join(path)
}

/// Takes all room that is left.
pub fn fill(server: &Server) {
    let mut filler = OpenOptions::new().create(true).append(true).open(inside(server, FILLER)).unwrap();
    while filler.write(&[0; PAGE]).is_ok() {}
}

/// Makes room for a small file.
pub fn give_back_a_page(server: &Server) {
    let filler = OpenOptions::new().write(true).open(inside(server, FILLER)).unwrap();
    let pages = filler.metadata().unwrap().len().div_ceil(PAGE as u64);
    filler.set_len((pages - 1) * PAGE as u64).unwrap();
}

/// Gives the room back.
pub fn clear(server: &Server) {
    fs::remove_file(inside(server, FILLER)).unwrap();
}

/// Runs a command where the server is, in the folder of its room.
pub fn run(server: &Server, arguments: &[&str]) -> Output {
    let pid = server.pid().as_raw_nonzero().to_string();
    let user: &[&str] = if has_own_user(server) { &["-U", "--preserve-credentials"] } else { &[] };
    let in_room = [r#"cd "$1" && shift && exec "$@""#, "sh"];
    let command = Command::new("nsenter")
        .args(["-t", &pid, "-m"])
        .args(user)
        .args(["sh", "-c"])
        .args(in_room)
        .arg(server.path("room"))
        .arg(env!("CARGO_BIN_EXE_pinstream"))
        .args(arguments)
        .output();
    command.unwrap()
}

fn has_own_user(server: &Server) -> bool {
    let user = |process: &str| fs::read_link(format!("/proc/{process}/ns/user")).unwrap();
    user(&server.pid().as_raw_nonzero().to_string()) != user("self")
}

/// Every file in a folder and those below, with what is in it, in order.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push((path.clone(), fs::read(path).unwrap())) }
    }
    found.sort();
    found
}
