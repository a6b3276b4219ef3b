//! Snapshots of real topics, the job that refreshes a model from them through the trainer's own command, and the registry on a real S3
//! server that it publishes to. One binary, so that its tests share one broker and one server.

mod collect;
mod job;
mod readme;
mod registry_s3;
mod signed;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use astromech_e2e::kafka::KafkaClient;
use astromech_e2e::paths::trainer_binary;
use astromech_e2e::servers::Kafka;
use astromech_e2e::world::scratch;
use astromech_e2e::{Record, wait_until};
use astromech_schemas::{ClickCount, Kind};
use serde_json::Value;

/// For a job of seconds on two busy cores.
pub const JOB_DEADLINE: Duration = Duration::from_mins(4);

/// The broker and a client of it.
pub fn broker() -> &'static (Kafka, KafkaClient) {
    // A static is never dropped: the script's own watch ends the server with this process.
    static BROKER: LazyLock<(Kafka, KafkaClient)> = LazyLock::new(|| {
        let kafka = Kafka::start(&scratch("kafka"));
        let client = KafkaClient::new(&kafka.bootstrap);
        (kafka, client)
    });
    &BROKER
}

/// A trainer at work, killed when dropped.
pub struct Trainer {
    child: Child,
    log: PathBuf,
}

impl Trainer {
    /// Starts the trainer in `folder`; what it says to its standard error goes to a file there.
    pub fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_with(folder, arguments, &[])
    }

    /// As [`Self::start`], with these in its environment.
    pub fn start_with(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let log = folder.join(format!("trainer-{}.log", astromech_e2e::world::unique("run")));
        let file = std::fs::File::create(&log).expect("a log in the test's folder");
        let mut command = Command::new(trainer_binary());
        command.args(arguments).current_dir(folder).envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(file);
        Self { child: command.spawn().expect("the trainer starts"), log }
    }

    /// Runs it to its end; its exit code and the lines that it printed.
    pub fn run(folder: &Path, arguments: &[&str]) -> (i32, Vec<Value>, String) {
        Self::run_with(folder, arguments, &[])
    }

    /// As [`Self::run`], with these in its environment.
    pub fn run_with(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, Vec<Value>, String) {
        let mut trainer = Self::start_with(folder, arguments, environment);
        let lines = trainer.lines(|_| false);
        let status = trainer.child.wait().expect("the trainer ends");
        (status.code().unwrap_or(-1), lines, trainer.said())
    }

    /// Reads JSON lines until one is `wanted`, or to the end of the output.
    pub fn lines(&mut self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut lines = Vec::new();
        let output = self.child.stdout.as_mut().expect("it is piped");
        // Byte by byte: what is behind the wanted line must stay in the pipe.
        let mut reader = BufReader::with_capacity(1, output);
        let mut line = String::new();
        while reader.read_line(&mut line).expect("its output is read") > 0 {
            if let Ok(value) = serde_json::from_str::<Value>(&line) {
                let found = wanted(&value);
                lines.push(value);
                if found {
                    break;
                }
            }
            line.clear();
        }
        lines
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.child.kill().expect("the trainer is killed");
        self.child.wait().expect("the trainer is gone");
    }

    /// Asks it to stop, as Kubernetes and systemd do; its exit code.
    pub fn terminate(&mut self) -> i32 {
        let pid = self.child.id().to_string();
        let sent = Command::new("bash").args(["-c", "kill -TERM \"$1\"", "kill", &pid]).status().expect("bash starts");
        assert!(sent.success());
        self.lines(|_| false);
        self.child.wait().expect("the trainer ends").code().unwrap_or(-1)
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("the trainer is looked at").is_none()
    }

    /// What it said to its standard error.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Trainer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A count of the click log as a record.
pub fn click(query: &str, id: &str, impressions: u64, clicks: u64) -> Record {
    let count = ClickCount { query: query.to_owned(), kind: Kind::Image, id: id.to_owned(), impressions, clicks, time_ms: None };
    let value = serde_json::to_vec(&count).expect("JSON is written");
    Record { key: Some(query.as_bytes().to_vec()), value: Some(value), ..Record::default() }
}

/// A JSON file, once it is there.
pub fn json_file(path: &Path) -> Value {
    wait_until(&path.display().to_string(), JOB_DEADLINE, || {
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    })
}
