//! The daemon as its users have it: the binary, a configuration file, signals, HTTP, a log.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::kafka::Topics;
use crate::wait::{block_on, wait_for, wait_until};
use crate::world::{World, scratch, unique};
use crate::{bundle, paths};

/// From start to ready: loads the bundle, replays the golden vectors, joins the group.
const READY_TIMEOUT: Duration = Duration::from_mins(1);
/// From SIGTERM to the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(40);
/// For one answer over HTTP.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);
/// Lines of the log that a failed test prints.
const LOG_TAIL_LINES: usize = 60;

/// What a test can set; the rest are the daemon's defaults.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// Folder of the bundle.
    pub bundle: PathBuf,
    /// `cpu` or `cuda`.
    pub provider: String,
    /// Folder of the embedded engine; without it a server holds the index.
    pub embedded: Option<PathBuf>,
    /// Point of a roll at which the daemon kills itself.
    pub kill_at: Option<&'static str>,
    /// gRPC address of Qdrant.
    pub qdrant_url: String,
    /// Address of the broker.
    pub brokers: String,
    /// The topics.
    pub topics: Topics,
    /// Consumer group.
    pub group: String,
    /// Folders that `file:` pictures may lie in.
    pub file_roots: Vec<PathBuf>,
    /// Hosts that pictures may be fetched from.
    pub http_hosts: Vec<String>,
    /// Whether those hosts may be in private networks, as the tests' own are.
    pub allow_private_networks: bool,
    /// Silence after which the group takes the daemon for dead; it drains for at most two thirds of it.
    pub session_timeout_ms: u32,
    /// More keys of `[index]`, lines of TOML.
    pub index_keys: String,
    /// More keys of `[index.qdrant]`, lines of TOML.
    pub qdrant_keys: String,
    /// More keys of `[kafka.properties]`, lines of TOML.
    pub kafka_properties: String,
    /// Environment beside the harness's own.
    pub env: Vec<(String, String)>,
    /// Where the versions of the topic of changes come from.
    pub version: &'static str,
    /// More keys of `[[kafka.topics]]`, lines of TOML.
    pub topic_keys: String,
    /// How long it serves after SIGTERM; the tests need no balancer to notice.
    pub drain_grace_ms: u32,
    /// More TOML, appended as it is: whole tables.
    pub extra: String,
}

impl DaemonConfig {
    /// The daemon for `topics` in `world`, with a consumer group of its own.
    pub fn new(world: &World, topics: &Topics) -> Self {
        Self::at(&world.qdrant.url, &world.kafka.bootstrap, topics)
    }

    /// As [`DaemonConfig::new`], for servers of the caller's.
    pub fn at(qdrant_url: &str, brokers: &str, topics: &Topics) -> Self {
        Self {
            bundle: bundle::path(),
            provider: "cpu".to_owned(),
            embedded: None,
            kill_at: None,
            qdrant_url: qdrant_url.to_owned(),
            brokers: brokers.to_owned(),
            topics: topics.clone(),
            group: unique("group"),
            file_roots: Vec::new(),
            http_hosts: Vec::new(),
            allow_private_networks: true,
            session_timeout_ms: 6000,
            index_keys: String::new(),
            qdrant_keys: String::new(),
            kafka_properties: String::new(),
            env: Vec::new(),
            version: "field",
            topic_keys: String::new(),
            drain_grace_ms: 0,
            extra: String::new(),
        }
    }

    /// The configuration file's text, listening on `port`.
    pub fn to_toml(&self, port: u16) -> String {
        // JSON's strings and lists of strings are TOML's too.
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        let path = |path: &Path| quote(&path.to_string_lossy());
        let list = |items: Vec<String>| format!("[{}]", items.join(", "));
        let roots = list(self.file_roots.iter().map(|root| path(root)).collect());
        let hosts = list(self.http_hosts.iter().map(|host| quote(host)).collect());
        let mut text = String::new();
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "[bundle]\npath = {bundle}\n[runtime]\nprovider = {provider}\n\
             [index]\n{index}\n{engine}\n\
             [kafka]\nbrokers = {brokers}\ngroup = {group}\nresults_topic = {results}\ndead_letter_topic = {dead}\n\
             session_timeout_ms = {session}\ndrain_timeout_ms = {drain}\ncommit_interval_ms = 200\ntopics_refresh_ms = 1000\n\
             [kafka.properties]\n\"heartbeat.interval.ms\" = \"500\"\n\"reconnect.backoff.max.ms\" = \"1000\"\n{properties}\n\
             [[kafka.topics]]\nname = {changes}\nversion = {version}\n{topic}\
             [media]\nfile_roots = {roots}\nhttp_hosts = {hosts}\nallow_private_networks = {private}\n\
             [http]\nlisten = \"127.0.0.1:{port}\"\ndrain_grace_ms = {grace}\n{extra}",
            bundle = path(&self.bundle),
            provider = quote(&self.provider),
            engine = self.embedded.as_ref().map_or_else(
                || format!(
                    "engine = \"qdrant\"\n[index.qdrant]\nurl = {}\ntimeout_ms = 3000\n{}",
                    quote(&self.qdrant_url),
                    self.qdrant_keys
                ),
                |folder| format!("engine = \"embedded\"\n[index.embedded]\npath = {}", path(folder)),
            ),
            brokers = quote(&self.brokers),
            group = quote(&self.group),
            results = quote(&self.topics.results),
            dead = quote(&self.topics.dead_letters),
            changes = quote(&self.topics.changes),
            index = self.index_keys,
            properties = self.kafka_properties,
            version = quote(self.version),
            topic = self.topic_keys,
            session = self.session_timeout_ms,
            drain = self.session_timeout_ms / 3 * 2,
            private = self.allow_private_networks,
            grace = self.drain_grace_ms,
            extra = self.extra,
        );
        text
    }
}

/// A running daemon. Killed when dropped; a failing test prints the end of its log.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Daemon {
    /// Starts the daemon and waits until it is ready.
    pub fn start(config: &DaemonConfig) -> Self {
        let mut daemon = Self::spawn(config);
        daemon.wait_ready();
        daemon
    }

    /// Starts the daemon and doesn't wait.
    pub fn spawn(config: &DaemonConfig) -> Self {
        let dir = scratch("daemon");
        let (port, file, log) = (free_port(), dir.join("astromech.toml"), dir.join("log"));
        std::fs::write(&file, config.to_toml(port)).expect("the configuration is written");
        let out = std::fs::File::create(&log).expect("the log is created");
        let error = out.try_clone().expect("a second handle of the log");
        let mut command = outlived_by_nobody(paths::daemon_binary());
        command.arg("run").arg("--config").arg(&file).stdin(Stdio::null()).stdout(out).stderr(error);
        command.envs(config.env.iter().cloned());
        command.envs(config.kill_at.map(|point| ("ASTROMECH_KILL_AT", point)));
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", paths::daemon_binary().display()));
        Self { child, port, log }
    }

    /// Waits until the daemon says that it is ready; panics at once where it ends instead.
    pub fn wait_ready(&mut self) {
        let url = self.url("/readyz");
        wait_until("the daemon is ready", READY_TIMEOUT, || {
            self.expect_alive();
            match block_on(get(&url)) {
                Ok((200, _)) => Ok(()),
                Ok((status, body)) => Err(format!("{status}: {body}")),
                Err(error) => Err(error),
            }
        });
    }

    /// Panics with the end of the log where the daemon has ended.
    pub fn expect_alive(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
            panic!("the daemon ended with {status}; its log ends:\n{}", self.log_tail());
        }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// SIGTERM, and waits for the end; returns its status.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait_exit(STOP_TIMEOUT)
    }

    /// SIGTERM, and does not wait.
    pub fn ask_to_stop(&self) {
        self.signal("TERM");
    }

    /// SIGSTOP: the process freezes, its connections stay.
    pub fn suspend(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.expect("kill starts").success(), "SIG{name} to the daemon");
    }

    /// Waits until the daemon ends by itself.
    pub fn wait_exit(&mut self, deadline: Duration) -> ExitStatus {
        let mut status = None;
        let log = self.log.clone();
        wait_for(&format!("the daemon ends (log {})", log.display()), deadline, || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        });
        status.expect("set when the wait ended")
    }

    /// Whether the daemon still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be waited for").is_none()
    }

    /// Everything it has printed.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Its address of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// GET: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        block_on(get(&self.url(path))).unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    /// As [`Daemon::get`], of a daemon that may not listen yet.
    ///
    /// # Errors
    /// Nobody answers.
    pub fn get_when_up(&self, path: &str) -> Result<(u16, String), String> {
        block_on(get(&self.url(path)))
    }

    /// POST of JSON: status and body.
    pub fn post(&self, path: &str, body: &serde_json::Value) -> (u16, serde_json::Value) {
        let answer = block_on(async {
            let response = client().post(self.url(path)).json(body).send().await.map_err(|e| e.to_string())?;
            let status = response.status().as_u16();
            let text = response.text().await.map_err(|e| e.to_string())?;
            Ok::<_, String>((status, serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))))
        });
        answer.unwrap_or_else(|e| panic!("POST {path}: {e}"))
    }

    /// Sum of the metric `name` over the series whose labels hold every one of `labels`, for example `kind="image"`. 0 where there is none.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let (_, text) = self.get("/metrics");
        let values = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (metric, with) = series.split_once('{').unwrap_or((series, ""));
            let wanted = metric == name && labels.iter().all(|label| with.contains(label));
            wanted.then(|| value.parse::<f64>().ok()).flatten()
        });
        values.sum()
    }

    /// Largest resident size so far, bytes.
    pub fn rss_peak_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the daemon runs, on Linux");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel tells VmHWM");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("VmHWM is a number of kB");
        kib * 1024
    }

    /// Time of all its threads on a core so far.
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("the daemon runs, on Linux");
        let after_name = stat.rsplit_once(')').expect("the name is in parentheses").1;
        let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 10) // 100 ticks a second on Linux
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            paths::message(&format!("--- the daemon's log ends ({}):\n{}\n---", self.log.display(), self.log_tail()));
        }
    }
}

/// The daemon's command with `args`, run to its end: status and everything printed.
pub fn run_to_end(args: &[&str]) -> (ExitStatus, String) {
    run_to_end_with(args, &[])
}

/// As [`run_to_end`], with environment beside the harness's own.
pub fn run_to_end_with(args: &[&str], env: &[(String, String)]) -> (ExitStatus, String) {
    let output = Command::new(paths::daemon_binary()).args(args).envs(env.iter().cloned()).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}", paths::daemon_binary().display()));
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status, text)
}

/// A command that ends when the thread that started it does, killed or not; without util-linux's setpriv only when dropped.
fn outlived_by_nobody(binary: &Path) -> Command {
    let has_setpriv = Command::new("setpriv").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if has_setpriv.is_ok_and(|status| status.success()) {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(binary);
        return command;
    }
    Command::new(binary)
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    socket.local_addr().expect("a bound socket has an address").port()
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().timeout(HTTP_TIMEOUT).no_proxy().build().expect("an HTTP client is made")
}

async fn get(url: &str) -> Result<(u16, String), String> {
    let started = Instant::now();
    let response = client().get(url).send().await.map_err(|e| format!("{e} after {:?}", started.elapsed()))?;
    let status = response.status().as_u16();
    Ok((status, response.text().await.map_err(|e| e.to_string())?))
}
