//! Where things are: the repository, the cache, the daemon's binary, the material shared beside the repository.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::SystemTime;

/// Root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository").to_owned()
}

/// The folder of shared material, if it lies beside the repository.
pub fn shared() -> Option<PathBuf> {
    let path = repository().parent()?.join("shared");
    path.is_dir().then_some(path)
}

/// Folder of installed parts and of what the harness unpacks: `$ASTROMECH_CACHE`, else `~/.cache/astromech`.
pub fn cache() -> PathBuf {
    std::env::var_os("ASTROMECH_CACHE")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/astromech"), PathBuf::from)
}

/// The daemon's binary, beside the running test or bench. Built if it is not there.
pub fn daemon_binary() -> &'static Path {
    static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
        std::env::var_os("ASTROMECH_BINARY").map_or_else(|| find_binary("astromech", "astromech", DAEMON_SOURCES), PathBuf::from)
    });
    &BINARY
}

/// The trainer's binary, beside the running test. Built if it is not there.
pub fn trainer_binary() -> &'static Path {
    static BINARY: LazyLock<PathBuf> = LazyLock::new(|| find_binary("astromech-trainer", "trainer", TRAINER_SOURCES));
    &BINARY
}

/// Folders that a binary is made of.
const DAEMON_SOURCES: &[&str] = &["schemas/src", "daemon/src", "daemon/towers/src"];
const TRAINER_SOURCES: &[&str] = &["schemas/src", "daemon/towers/src", "daemon/registry/src", "trainer/src"];

fn find_binary(package: &str, name: &str, sources: &[&str]) -> PathBuf {
    let own = std::env::current_exe().expect("a process knows its own path");
    // target/PROFILE/deps/TEST-HASH, target/PROFILE/BIN or target/PROFILE/examples/EXAMPLE
    let folder = own.ancestors().skip(1).find(|path| !path.ends_with("deps") && !path.ends_with("examples"));
    let folder = folder.expect("a test lies in the target folder");
    let binary = folder.join(name);
    if !binary.is_file() {
        message(&format!("{} is not built: building it with cargo", binary.display()));
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "-p", package, "--bin", name]).current_dir(repository());
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.status().expect("cargo starts");
        assert!(status.success() && binary.is_file(), "cargo could not build {}: {status}", binary.display());
    }
    let built = modified(&binary);
    let newest = sources.iter().filter_map(|folder| newest(&repository().join(folder))).max();
    if newest > built {
        message(&format!("warning: {} is older than its sources; build it: cargo build -p {package}", binary.display()));
    }
    binary
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    entries.filter_map(|path| if path.is_dir() { newest(&path) } else { modified(&path) }).max()
}

/// One line for whoever reads the test's output.
#[expect(clippy::print_stderr, reason = "a test's output is for a person at a terminal")]
pub fn message(text: &str) {
    eprintln!("{text}");
}
