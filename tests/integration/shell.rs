//! What surrounds the commands: completion, manual pages, the version, and the name that the binary is started by.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

const PINSTREAM: &str = env!("CARGO_BIN_EXE_pinstream");

/// Standard output and standard error of a program that succeeds.
fn run(program: &Path, arguments: &[&str]) -> (String, String) {
    let output = Command::new(program).args(arguments).env_clear().output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}");
    (text(output.stdout), text(output.stderr))
}

#[test]
fn completions_know_commands_and_flags() {
    for shell in ["bash", "zsh", "fish"] {
        let (script, stderr) = run(Path::new(PINSTREAM), &["completion", shell]);
        assert!(["pinstream", "resolve", "in-place", "explain"].iter().all(|word| script.contains(word)), "{shell}");
        assert_eq!(stderr, "");
    }
}

#[test]
fn completion_of_bash_is_a_script_that_bash_reads() {
    let (script, _) = run(Path::new(PINSTREAM), &["completion", "bash"]);
    Command::new("bash").args(["-n"]).write_stdin(script).assert().success();
}

#[test]
fn every_command_has_a_manual_page_with_examples() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("man/man1");
    run(Path::new(PINSTREAM), &["man", "--out", out.to_str().unwrap()]);
    let commands = <pinstream::cli::Cli as clap::CommandFactory>::command();
    for command in commands.get_subcommands() {
        let page = fs::read_to_string(out.join(format!("pinstream-{}.1", command.get_name()))).unwrap();
        assert!(page.contains(".TH") && page.contains("Examples:"), "{page}");
    }
    assert!(fs::read_to_string(out.join("pinstream.1")).unwrap().contains("pinstream\\-resolve"));
}

#[test]
fn version_is_printed_for_people_and_programs() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(run(Path::new(PINSTREAM), &["version"]).0, format!("Client Version: {version}\n"));
    let json: Value = serde_json::from_str(&run(Path::new(PINSTREAM), &["version", "-o", "json"]).0).unwrap();
    assert_eq!(json["clientVersion"]["version"], version);
    let (yaml, _) = run(Path::new(PINSTREAM), &["version", "-o", "yaml"]);
    assert!(yaml.starts_with("clientVersion:\n"), "{yaml}");
}

#[test]
fn plugin_of_kubectl_is_named_so_in_its_help() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-pinstream");
    symlink(PINSTREAM, &plugin).unwrap();
    assert!(run(&plugin, &["--help"]).0.contains("Usage: kubectl pinstream "));
    assert!(run(&plugin, &["create", "is", "--help"]).0.contains("Usage: kubectl pinstream create is "));
    assert!(run(Path::new(PINSTREAM), &["resolve", "--help"]).0.contains("Usage: pinstream resolve "));
    let wrong = Command::new(&plugin).args(["resolve"]).env_clear().output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    let stderr = String::from_utf8(wrong.stderr).unwrap();
    assert!(stderr.contains("Usage: kubectl pinstream resolve "), "{stderr}");
}
