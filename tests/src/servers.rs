//! The real servers, through the scripts in deploy/local.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::paths;

/// Runs `deploy/local/SCRIPT VERB DIR`; the servers end with this process at the latest.
pub(crate) fn script(script: &str, verb: &str, dir: &Path) -> Result<(), String> {
    let path = paths::repository().join("deploy/local").join(script);
    // Output goes to a file: a server would keep a pipe open, and reading it would never end.
    let log_path = dir.join(format!("{script}.{verb}.log"));
    let log = std::fs::File::create(&log_path).map_err(|e| format!("{}: {e}", log_path.display()))?;
    let error_log = log.try_clone().map_err(|e| e.to_string())?;
    let mut command = Command::new("bash");
    command.arg(&path).arg(verb).arg(dir).env("ASTROMECH_OWNER_PID", std::process::id().to_string());
    let status = command.stdout(log).stderr(error_log).status().map_err(|e| format!("bash: {e}"))?;
    if status.success() {
        return Ok(());
    }
    let said = std::fs::read_to_string(&log_path).unwrap_or_default();
    Err(format!("{} {verb} {}: {status}\n{said}", path.display(), dir.display()))
}

pub(crate) fn read_env(path: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.trim_matches('"').to_owned())).collect()
}

pub(crate) fn fresh_folder(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
}

/// SIGSTOP or SIGCONT to the process `pid`; nothing where it is gone.
pub(crate) fn signal_pid(pid: &str, frozen: bool) {
    if !pid.is_empty() {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        // A process that ended meanwhile is nothing to freeze.
        let _ = Command::new("kill").args([signal, pid]).status();
    }
}

/// A broker (KRaft, one node) with its data in a folder. Stopped when dropped.
#[derive(Debug)]
pub struct Kafka {
    pub(crate) dir: PathBuf,
    /// `host:port` for clients.
    pub bootstrap: String,
}

impl Kafka {
    /// Starts a broker with its data in `dir`, or finds it running.
    pub fn start(dir: &Path) -> Self {
        fresh_folder(dir);
        script("kafka.sh", "start", dir).unwrap_or_else(|e| panic!("Kafka did not start: {e}"));
        let bootstrap = read_env(&dir.join("kafka.env"))["KAFKA_BOOTSTRAP"].clone();
        Self { dir: dir.to_owned(), bootstrap }
    }

    /// A broker that another process left in `dir`, to be stopped by dropping it.
    pub(crate) fn left_in(dir: &Path) -> Option<Self> {
        dir.is_dir().then(|| Self { dir: dir.to_owned(), bootstrap: String::new() })
    }

    /// Stops the broker; its data and ports stay for [`Self::start_again`].
    pub fn stop(&self) {
        script("kafka.sh", "stop", &self.dir).unwrap_or_else(|e| panic!("Kafka did not stop: {e}"));
    }

    /// Starts the stopped broker on the same data and ports; nothing where it runs.
    pub fn start_again(&self) {
        script("kafka.sh", "start", &self.dir).unwrap_or_else(|e| panic!("Kafka did not start again: {e}"));
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Err(e) = script("kafka.sh", "stop", &self.dir) {
            paths::message(&e);
        }
    }
}

/// A Qdrant server with its data in a folder. Stopped when dropped.
#[derive(Debug)]
pub struct QdrantServer {
    dir: PathBuf,
    /// gRPC address for clients.
    pub url: String,
}

impl QdrantServer {
    /// Starts a server with its data in `dir`, or finds it running.
    pub fn start(dir: &Path) -> Self {
        fresh_folder(dir);
        script("qdrant.sh", "start", dir).unwrap_or_else(|e| panic!("Qdrant did not start: {e}"));
        let url = read_env(&dir.join("qdrant.env"))["QDRANT_URL"].clone();
        Self { dir: dir.to_owned(), url }
    }

    /// A server that another process left in `dir`, to be stopped by dropping it.
    pub(crate) fn left_in(dir: &Path) -> Option<Self> {
        dir.is_dir().then(|| Self { dir: dir.to_owned(), url: String::new() })
    }

    /// Stops the server; its data and ports stay for [`Self::start_again`].
    pub fn stop(&self) {
        script("qdrant.sh", "stop", &self.dir).unwrap_or_else(|e| panic!("Qdrant did not stop: {e}"));
    }

    /// Ends the server without warning, as a crash does.
    pub fn kill(&self) {
        script("qdrant.sh", "kill", &self.dir).unwrap_or_else(|e| panic!("Qdrant was not killed: {e}"));
    }

    /// SIGSTOP or SIGCONT: the process freezes and its connections stay, or it goes on.
    pub fn freeze(&self, frozen: bool) {
        signal_pid(&read_env(&self.dir.join("qdrant.env"))["QDRANT_PID"], frozen);
    }

    /// Starts the stopped server on the same data and ports; nothing where it runs. One that is not ready in its time is started once more, as
    /// a probe would have it.
    pub fn start_again(&self) {
        let start = || script("qdrant.sh", "start", &self.dir);
        let started = start().or_else(|why| {
            paths::message(&format!("Qdrant did not start again, once more: {why}"));
            start()
        });
        started.unwrap_or_else(|e| panic!("Qdrant did not start again: {e}"));
    }
}

impl Drop for QdrantServer {
    fn drop(&mut self) {
        if let Err(e) = script("qdrant.sh", "stop", &self.dir) {
            paths::message(&e);
        }
    }
}

/// An S3 server over a folder. Stopped when dropped.
#[derive(Debug)]
pub struct S3Server {
    dir: PathBuf,
    /// Address for clients, unencrypted.
    pub endpoint: String,
    /// Key of its one account.
    pub access_key: String,
    /// Secret of that key.
    pub secret_key: String,
    /// The folder whose folders are buckets and whose files are objects.
    pub data: PathBuf,
}

impl S3Server {
    /// Starts a server with its buckets in `dir`, or finds it running.
    pub fn start(dir: &Path) -> Self {
        fresh_folder(dir);
        script("s3.sh", "start", dir).unwrap_or_else(|e| panic!("the S3 server did not start: {e}"));
        let mut env = read_env(&dir.join("s3.env"));
        let mut field = |name: &str| env.remove(name).unwrap_or_else(|| panic!("{name} is not in s3.env"));
        Self {
            dir: dir.to_owned(),
            endpoint: field("S3_ENDPOINT"),
            access_key: field("S3_ACCESS_KEY"),
            secret_key: field("S3_SECRET_KEY"),
            data: PathBuf::from(field("S3_DATA")),
        }
    }

    /// Makes a bucket and returns the folder of its objects.
    pub fn bucket(&self, name: &str) -> PathBuf {
        let folder = self.data.join(name);
        fresh_folder(&folder);
        folder
    }

    /// Stops the server; its data and port stay for [`Self::start_again`].
    pub fn stop(&self) {
        script("s3.sh", "stop", &self.dir).unwrap_or_else(|e| panic!("the S3 server did not stop: {e}"));
    }

    /// Starts the stopped server on the same data and port; nothing where it runs.
    pub fn start_again(&self) {
        script("s3.sh", "start", &self.dir).unwrap_or_else(|e| panic!("the S3 server did not start again: {e}"));
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Err(e) = script("s3.sh", "stop", &self.dir) {
            paths::message(&e);
        }
    }
}
