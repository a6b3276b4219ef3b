//! Three real brokers in one KRaft quorum: one may die at any moment and nothing acknowledged is lost.

use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use crate::paths;
use crate::servers::{fresh_folder, read_env, script, signal_pid};

/// Nodes of the cluster, each broker and controller.
pub const NODES: usize = 3;

/// The cluster. Stopped when dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    /// `host:port,host:port,host:port` for clients.
    pub bootstrap: String,
}

impl Cluster {
    /// Starts the brokers with their data below `dir`.
    pub fn start(dir: &Path) -> Self {
        fresh_folder(dir);
        // Made first, so that what has started is stopped where the rest has not.
        let mut cluster = Self { dir: dir.to_owned(), bootstrap: String::new() };
        script("kafka-cluster.sh", "start", dir).unwrap_or_else(|e| panic!("the cluster did not start: {e}"));
        cluster.bootstrap = read_env(&dir.join("kafka.env")).remove("KAFKA_BOOTSTRAP").unwrap_or_default();
        cluster
    }

    fn node(&self, node: usize) -> PathBuf {
        self.dir.join(format!("node-{}", node + 1))
    }

    /// SIGKILL to one node, 0 to 2.
    pub fn kill(&self, node: usize) {
        script("kafka.sh", "kill", &self.node(node)).unwrap_or_else(|e| panic!("node {node} was not killed: {e}"));
    }

    /// Starts a node again on its data and ports, beside whatever the caller does; the thread panics where it does not start.
    pub fn start_again(&self, node: usize) -> JoinHandle<()> {
        let dir = self.node(node);
        std::thread::spawn(move || {
            script("kafka.sh", "start", &dir).unwrap_or_else(|e| panic!("a node did not start again: {e}"));
        })
    }

    /// SIGSTOP or SIGCONT to one node.
    pub fn freeze(&self, node: usize, frozen: bool) {
        signal_pid(&read_env(&self.node(node).join("kafka.env"))["KAFKA_PID"], frozen);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(e) = script("kafka-cluster.sh", "stop", &self.dir) {
            paths::message(&e);
        }
    }
}
