//! `trainer refresh` from topics to a published and announced bundle, through kills at every boundary, and every way to end.

use std::path::{Path, PathBuf};

use astromech_e2e::corpus::corpus;
use astromech_e2e::items::{Item, inline_images};
use astromech_e2e::world::scratch;
use astromech_e2e::{Topics, refresh, wait_until};
use astromech_schemas::ModelAnnouncement;
use serde_json::Value;

use crate::{JOB_DEADLINE, Trainer, broker, click, json_file};

/// Seconds of a lease: a killed job is taken over after as long.
const LEASE_SECONDS: u32 = 2;

/// A job's folder, its topics and its configuration.
pub struct Setting {
    pub folder: PathBuf,
    pub topics: Topics,
}

impl Setting {
    pub fn new(name: &str) -> Self {
        let setting = Self { folder: scratch(name), topics: broker().1.topics(name) };
        refresh::write_training(&setting.folder);
        setting.write("");
        setting
    }

    /// Writes refresh.toml with more at its end.
    fn write(&self, more: &str) {
        let job = refresh::Job {
            brokers: &broker().0.bootstrap,
            items: &self.topics.changes,
            clicks: &self.topics.results,
            announcements: &self.topics.dead_letters,
            registry: "registry",
            registry_keys: "",
            lease_seconds: LEASE_SECONDS,
            collect: "",
        };
        job.write(&self.folder, more);
    }

    fn produce(&self, items: &[Item]) {
        broker().1.produce(&self.topics.changes, items.iter().map(Item::record).collect());
        let clicks = items.iter().step_by(3).map(|item| click(&item.title, &item.id, 100, 40)).collect();
        broker().1.produce(&self.topics.results, clicks);
    }

    fn run(&self) -> (i32, Value, String) {
        let (code, lines, said) = Trainer::run(&self.folder, &["refresh", "--config", "refresh.toml"]);
        (code, lines.last().cloned().unwrap_or_default(), said)
    }

    /// Runs the job once the lease of a killed one has expired.
    fn run_after_kill(&self) -> (i32, Value, String) {
        wait_until("the lease expires", JOB_DEADLINE, || match self.run() {
            (13, line, _) => Err(line.to_string()),
            other => Ok(other),
        })
    }

    /// Starts a job that waits at `point`, and waits until it is there. Where another's lease holds, it is started again.
    fn halted(&self, point: &str) -> Trainer {
        wait_until(point, JOB_DEADLINE, || {
            let mut trainer = Trainer::start(&self.folder, &["refresh", "--config", "refresh.toml", "--halt-at", point]);
            let lines = trainer.lines(|line| line["event"] == "halt");
            match lines.last() {
                Some(line) if line["event"] == "halt" => Ok(trainer),
                Some(line) if line["exit_code"] == 13 => Err(line.to_string()),
                other => panic!("{point}: {other:?}\n{}", trainer.said()),
            }
        })
    }

    fn state(&self) -> Value {
        json_file(&self.folder.join("work/state.json"))
    }

    fn releases(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.join("registry/releases")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| Path::new(name).extension().is_some_and(|ending| ending == "json"));
        names.sort();
        names
    }

    fn announcements(&self) -> Vec<ModelAnnouncement> {
        let read = broker().1.read_all(&self.topics.dead_letters);
        let message = |value: &[u8]| ModelAnnouncement::from_json(value).unwrap_or_else(|error| panic!("{error}"));
        read.iter().map(|sent| message(sent.record.value.as_deref().expect("an announcement has a value"))).collect()
    }

    /// The fingerprint that the registry points to.
    fn current(&self) -> String {
        json_file(&self.folder.join("registry/current.json"))["fingerprint"].as_str().expect("a fingerprint").to_owned()
    }
}

#[test]
fn a_job_goes_from_topics_to_an_announced_bundle_and_then_finds_nothing_new() {
    let setting = Setting::new("refresh");
    // Nothing on the topics.
    let (code, line, said) = setting.run();
    assert_eq!((code, &line["event"]), (11, &"no_data".into()), "{said}");
    let items = inline_images(corpus(), 80, 1);
    setting.produce(&items[..10]);
    // Too little of it.
    let (code, line, said) = setting.run();
    assert_eq!((code, &line["records_min"]), (11, &20.into()), "{said}");
    setting.produce(&items[10..60]);
    let (code, line, said) = setting.run();
    assert_eq!((code, &line["event"]), (0, &"published".into()), "{said}");
    let first = setting.current();
    assert_eq!(line["fingerprint"], first.as_str());
    let announced = setting.announcements();
    assert_eq!(announced.len(), 1);
    assert_eq!(announced[0].release.fingerprint.as_str(), first);
    assert_eq!(announced[0].release.parent, None);
    let manifest = json_file(&setting.folder.join(format!("registry/bundles/{first}/manifest.json")));
    assert!(manifest["training"]["metrics"].as_object().is_some_and(|metrics| !metrics.is_empty()), "{manifest:#}");
    assert!(setting.folder.join(format!("work/checkpoints/{first}.safetensors")).is_file());
    let metrics = std::fs::read_to_string(setting.folder.join("refresh.prom")).expect("metrics");
    assert!(metrics.contains("astromech_refresh_exit_code 0\n"), "{metrics}");
    assert!(metrics.contains("astromech_refresh_step_seconds{step=\"train\"}"), "{metrics}");
    // Nothing new since.
    let (code, line, said) = setting.run();
    assert_eq!((code, &line["event"]), (11, &"no_data".into()), "{said}");
    assert_eq!((setting.releases().len(), setting.current()), (1, first.clone()));
    // A bundle that the gate refuses is kept with its report and not published.
    setting.produce(&items[60..]);
    setting.write(GATE_IMPOSSIBLE);
    let (code, line, said) = setting.run();
    assert_eq!((code, &line["event"]), (10, &"refused".into()), "{said}");
    let report = PathBuf::from(line["report"].as_str().expect("where the report is"));
    assert!(setting.folder.join(&report).is_dir(), "{line}");
    assert_eq!((setting.releases().len(), setting.current()), (1, first));
    assert_eq!(setting.announcements().len(), 1);
    assert_eq!(setting.state()["closed"]["outcome"], "refused");
}

#[test]
fn a_job_that_is_killed_at_every_boundary_publishes_one_bundle() {
    let setting = Setting::new("refresh-killed");
    let items = inline_images(corpus(), 80, 1);
    setting.produce(&items[..60]);
    assert_eq!(setting.run().0, 0);
    let first = setting.current();
    setting.produce(&items[60..]);
    for point in POINTS {
        let mut trainer = setting.halted(point);
        trainer.kill();
        let state = setting.state();
        assert!(state["run"].is_object(), "{point}: {state:#}");
        // The live bundle serves until the new one is whole.
        let published = ["publish:output", "publish:done", "announce:output", "announce:done"].contains(&point);
        assert_eq!(setting.current() != first, published, "{point}");
    }
    let (code, line, said) = setting.run_after_kill();
    assert_eq!((code, &line["event"]), (0, &"published".into()), "{said}");
    let second = setting.current();
    assert_eq!(setting.releases().len(), 2);
    let announced = setting.announcements();
    assert!(announced.len() >= 2, "{announced:#?}");
    for announcement in &announced[..] {
        let release = &announcement.release;
        let expected = if release.fingerprint.as_str() == first { None } else { Some(first.as_str()) };
        assert!([&first, &second].contains(&&release.fingerprint.to_string()));
        assert_eq!(release.parent.as_ref().map(astromech_schemas::Fingerprint::as_str), expected, "it started from the live one");
    }
    let state = setting.state();
    assert_eq!((&state["run"], &state["published"]["fingerprint"]), (&Value::Null, &second.as_str().into()));
}

#[test]
fn one_job_works_at_a_time_and_a_stop_is_gone_on_with() {
    let setting = Setting::new("refresh-lease");
    setting.produce(&inline_images(corpus(), 60, 1));
    let mut holder = setting.halted("collect:output");
    // Longer than the lease: its heartbeat holds it.
    let began = std::time::Instant::now();
    wait_until("several leases' time", JOB_DEADLINE, || {
        let (code, line, said) = setting.run();
        assert_eq!((code, &line["event"]), (13, &"lease_held".into()), "{said}");
        assert!(line["error"].as_str().is_some_and(|error| error.contains("process")), "{line}");
        if began.elapsed().as_secs() > 2 * u64::from(LEASE_SECONDS) { Ok(()) } else { Err("not long enough".to_owned()) }
    });
    assert!(holder.is_running());
    holder.kill();
    // A long training is stopped in the middle, and goes on where it was.
    let long =
        std::fs::read_to_string(setting.folder.join("train.toml")).expect("train.toml").replace("steps = 6", "steps = 3000");
    std::fs::write(setting.folder.join("train.toml"), long).expect("train.toml");
    let begun = |trainer: &mut Trainer| {
        trainer.lines(|line| line["step"] == "train" && line["event"] == "progress" || line["exit_code"].is_number())
    };
    let mut job = wait_until("the lease expires", JOB_DEADLINE, || {
        let mut job = Trainer::start(&setting.folder, &["refresh", "--config", "refresh.toml"]);
        match begun(&mut job).pop() {
            Some(line) if line["event"] == "progress" => Ok(job),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(job.terminate(), 1, "{}", job.said());
    let state = setting.state();
    let done = state["run"]["done"].as_object().expect("steps that are done");
    assert!(done.contains_key("hold_out") && !done.contains_key("train"), "{state:#}");
    let run = state["run"]["id"].as_str().expect("a run");
    assert!(setting.folder.join("work/runs").join(run).join("train/state.safetensors").is_file());
    // The lease was given back: the next job goes on at once.
    let mut next = Trainer::start(&setting.folder, &["refresh", "--config", "refresh.toml"]);
    let lines = next.lines(|line| line["event"] == "progress" || line["exit_code"].is_number());
    assert!(lines.iter().any(|line| line["event"] == "resume" && line["run"] == run), "{lines:?}");
    let step = lines.last().and_then(|line| line["optimiser_step"].as_u64());
    assert!(step.is_some_and(|step| step > 0), "{lines:?}");
}

#[test]
fn what_has_to_change_first_ends_with_12_and_says_what() {
    let setting = Setting::new("refresh-broken");
    for (more, expected) in
        [("[gates]\n", "gates"), ("[gate.quality]\nrecall = 1\n", "recall"), ("[distil]\nconfig = \"none.toml\"\n", "none.toml")]
    {
        setting.write(more);
        let (code, line, said) = setting.run();
        assert_eq!((code, &line["event"]), (12, &"broken_input".into()), "{more}: {said}");
        assert!(line["error"].as_str().is_some_and(|error| error.contains(expected)), "{line}");
    }
    setting.write("");
    let path = setting.folder.join("refresh.toml");
    let good = std::fs::read_to_string(&path).expect("refresh.toml");
    std::fs::write(&path, good.replace(&setting.topics.changes, "no-such-topic")).expect("refresh.toml");
    let (code, line, said) = setting.run();
    assert_eq!(code, 12, "{said}");
    assert!(line["error"].as_str().is_some_and(|error| error.contains("no-such-topic")), "{line}");
    // Mostly garbage: no snapshot is made of it.
    std::fs::write(&path, good).expect("refresh.toml");
    setting.produce(&inline_images(corpus(), 4, 1));
    let garbage =
        (0..4).map(|at| astromech_e2e::Record { key: Some(vec![b'a' + at]), value: Some(b"{".to_vec()), ..Default::default() });
    broker().1.produce(&setting.topics.changes, garbage.collect());
    let (code, line, said) = setting.run();
    assert_eq!(code, 12, "{said}");
    assert!(line["error"].as_str().is_some_and(|error| error.contains("invalid_record 4")), "{line}");
    // A broker that is not there is no broken input: it may come back.
    let text = std::fs::read_to_string(&path).expect("refresh.toml").replace(&broker().0.bootstrap, "127.0.0.1:1");
    std::fs::write(&path, text).expect("refresh.toml");
    assert_eq!(setting.run_after_kill().0, 1);
}

/// Where the job is killed, in order.
const POINTS: [&str; 17] = [
    "collect:begin",
    "collect:output",
    "collect:done",
    "hold_out:output",
    "train:begin",
    "train:output",
    "train:done",
    "export:output",
    "export:done",
    "evaluate:output",
    "evaluate:done",
    "gate:output",
    "gate:done",
    "publish:output",
    "publish:done",
    "announce:output",
    "announce:done",
];

/// Thresholds that no bundle passes.
const GATE_IMPOSSIBLE: &str = "[gate.fresh]\nmean_recall_min = 1.0\n[gate.speed]\nsamples = 4\n";
