//! The gate on small bundles of the drawn corpus: what passes, and what each threshold refuses.

use std::path::{Path, PathBuf};
use std::process::Command;

use astromech_registry::{Registry, RegistryOptions, Trust};
use astromech_schemas::Release;
use astromech_schemas::manifest::Precision;
use astromech_trainer::checkpoint::MODEL_FILE;
use astromech_trainer::gate::{EXIT_BROKEN_INPUT, EXIT_REFUSED, GateConfig, Verdict, run};
use astromech_trainer::stop::StopFlag;
use astromech_trainer::train::train;

use crate::{one_run_at_a_time, release_support, synthetic};

/// A model of so many steps, as a bundle of those precisions.
fn bundle(folder: &Path, name: &str, steps: &str, precisions: &[Precision]) -> PathBuf {
    let _guard = one_run_at_a_time();
    let (corpus, run) = (folder.join("corpus"), folder.join(format!("run-{name}")));
    let overrides = [steps, "loss.dropout=0.0", "optim.ema=0.5", "eval.tasks=[]"];
    train(&synthetic::config(&corpus, &run, &overrides), false, &StopFlag::new()).unwrap();
    let out = folder.join(name);
    release_support::release_precisions(&corpus, &run.join(MODEL_FILE), &out, name, precisions);
    out
}

fn config(folder: &Path, thresholds: &str) -> PathBuf {
    let corpus = folder.join("corpus");
    let path = folder.join("gate.toml");
    let text = format!(
        "threads = 1\n[[set]]\nname = \"frozen\"\ncorpus = \"{corpus}\"\ntasks = [\"train.shape.long\"]\n\
         [[set]]\nname = \"newest\"\ncorpus = \"{corpus}\"\nnewest = {{ splits = [\"train\"], records_max = 20 }}\n{thresholds}",
        corpus = corpus.display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

const STRICT: &str = "[quality]\nrecall_drop_max = 0.05\nauc_drop_max = 0.05\naccuracy_drop_max = 1.0\n\
    [speed]\ndrift_cosine_min = 0.5\nimage_latency_ratio_max = 1000.0\ntext_latency_ratio_max = 1000.0\nsize_ratio_max = 1.1\nsamples = 8\n";

/// The thresholds that refused, each once.
fn refused_by(verdict: &Verdict) -> Vec<&str> {
    let mut names: Vec<&str> = verdict.refusals().map(|check| check.threshold.as_str()).collect();
    names.dedup();
    names
}

#[test]
fn an_equal_bundle_passes_and_a_worse_a_larger_and_a_drifting_one_are_refused_by_their_thresholds() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    synthetic::write_corpus(&folder.join("corpus"));
    let good = bundle(folder, "good", "optim.steps=120", &[Precision::F32]);
    let worse = bundle(folder, "worse", "optim.steps=1", &[Precision::F32]);
    let larger = folder.join("larger");
    let both = [Precision::F32, Precision::Int8];
    release_support::release_precisions(
        &folder.join("corpus"),
        &folder.join("run-good").join(MODEL_FILE),
        &larger,
        "larger",
        &both,
    );
    let read = |thresholds: &str| GateConfig::read(&config(folder, thresholds)).unwrap();

    let verdict = run(&read(STRICT), &good, Some(&good)).unwrap();
    assert!(verdict.passed, "{}", verdict.to_markdown());
    for threshold in ["recall_drop_max", "auc_drop_max", "accuracy_drop_max", "image_latency_ratio_max", "size_ratio_max"] {
        assert!(verdict.checks.iter().any(|check| check.threshold == threshold), "{threshold} was not held");
    }
    assert!(verdict.notes.iter().any(|note| note.starts_with("drift is not measured")), "{:?}", verdict.notes);
    let newest = verdict.candidate.report.tasks.iter().find(|task| task.task == "newest.records").unwrap();
    assert_eq!(newest.gallery, 20);

    let verdict = run(&read(STRICT), &worse, Some(&good)).unwrap();
    assert!(refused_by(&verdict).contains(&"recall_drop_max"), "{}", verdict.to_markdown());
    let text = verdict.refusals().next().unwrap().to_string();
    assert!(text.starts_with("recall_drop_max: frozen.train.shape.long: text to image R@1 is "), "{text}");
    assert!(text.contains("found ") && text.ends_with("allowed at most 0.05"), "{text}");
    // A first release has nothing to be held to but what is absolute.
    let first =
        run(&read("[quality]\nrecall_drop_max = 0.0\nmean_recall_min = 0.9\n[speed]\nsamples = 4\n"), &worse, None).unwrap();
    assert_eq!(refused_by(&first), ["mean_recall_min"]);

    let verdict = run(&read(STRICT), &larger, Some(&good)).unwrap();
    assert_eq!(refused_by(&verdict), ["size_ratio_max"], "{}", verdict.to_markdown());
    let exact = "[speed]\ndrift_cosine_min = 1.0\nsamples = 8\n";
    let verdict = run(&read(exact), &larger, Some(&good)).unwrap();
    assert_eq!(refused_by(&verdict), ["drift_cosine_min"], "{}", verdict.to_markdown());
    let slow = "[speed]\nimage_latency_ratio_max = 0.0001\nsamples = 4\n";
    assert_eq!(refused_by(&run(&read(slow), &good, Some(&good)).unwrap()), ["image_latency_ratio_max"]);

    command(folder, &good, &worse);
    publish(folder, &good);
}

/// The way on of trainer/README.md: a key, a signed release in a folder, and a reader with the key's line.
fn publish(folder: &Path, bundle: &Path) {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let commands = [
        "trainer keygen --out release.key",
        "trainer publish --bundle bundles/new --registry registry --key release.key --keep 5",
    ];
    std::fs::create_dir(folder.join("bundles")).unwrap();
    std::fs::rename(bundle, folder.join("bundles/new")).unwrap();
    let mut said = Vec::new();
    for command in commands {
        assert!(readme.lines().any(|line| line == command), "{command} is not in trainer/README.md");
        let arguments = command.split(' ').skip(1);
        let done = Command::new(env!("CARGO_BIN_EXE_trainer")).args(arguments).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        said.push(String::from_utf8(done.stdout).unwrap());
    }
    let release = Release::from_json(said[1].as_bytes()).unwrap();
    let trust = Trust::keys(&[said[0].trim()]).unwrap();
    let registry = Registry::open(&RegistryOptions::new(folder.join("registry").display().to_string())).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(registry.current()).unwrap(), Some(release.clone()));
    let fetched = runtime.block_on(registry.fetch(&release, &folder.join("fetched"), &trust)).unwrap();
    // What the daemon does with it.
    astromech_towers::Bundle::open(fetched).unwrap();
}

/// The command's exit codes and reports.
fn command(folder: &Path, good: &Path, worse: &Path) {
    let thresholds = config(folder, STRICT);
    let gate = |candidate: &Path, out: Option<&Path>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trainer"));
        command.arg("gate").arg("--candidate").arg(candidate).arg("--live").arg(good).arg("--config").arg(&thresholds);
        if let Some(out) = out {
            command.arg("--out").arg(out);
        }
        let done = command.output().unwrap();
        (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    let out = folder.join("report");
    assert_eq!(gate(good, Some(&out)).0, 0);
    let markdown = std::fs::read_to_string(out.join("report.md")).unwrap();
    assert!(markdown.contains("passed") && markdown.contains("](figure.svg)"), "{markdown}");
    assert!(std::fs::read_to_string(out.join("figure.svg")).unwrap().contains("frozen.train.shape.long"));

    let (code, said) = gate(worse, None);
    assert_eq!(code, i32::from(EXIT_REFUSED), "{said}");
    assert!(said.contains("refused: recall_drop_max"), "{said}");
    // The refused bundle stays where it is, its report beside it.
    let verdict: Verdict = serde_json::from_slice(&std::fs::read(folder.join("worse.gate/report.json")).unwrap()).unwrap();
    assert!(!verdict.passed && worse.join("manifest.json").is_file());

    let graph = worse.join("text.onnx");
    let mut bytes = std::fs::read(&graph).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&graph, bytes).unwrap();
    let (code, said) = gate(worse, None);
    assert_eq!(code, i32::from(EXIT_BROKEN_INPUT), "{said}");
    assert!(said.contains("text.onnx") && said.contains("expected sha-256"), "{said}");
}

#[test]
fn a_wrong_field_of_the_configuration_is_named_with_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    for (thresholds, part) in [
        ("[quality]\nrecall_drop_max = 2.0\n", "quality.recall_drop_max: 2.0 is outside 0 to 1"),
        ("[speed]\nsize_ratio_max = 0.0\n", "speed.size_ratio_max"),
        ("[speed]\nsamples = 0\n", "speed.samples: 0 is outside 1 to 4096"),
        ("[quality]\nrecal_drop_max = 0.1\n", "recal_drop_max"),
        ("[[set]]\nname = \"newest\"\ncorpus = \"x\"\ntasks = [\"t\"]\n", "set.name: `newest` is there twice"),
        ("[[set]]\nname = \"empty\"\ncorpus = \"x\"\n", "set.tasks: no task is given"),
    ] {
        let path = config(folder.path(), thresholds);
        let error = GateConfig::read(&path).unwrap_err().to_string();
        assert!(error.contains("gate.toml") && error.contains(part), "{error}");
        // On its line, which is one of those at the end.
        let line: usize = error.split("line ").nth(1).and_then(|rest| rest.split(':').next()).unwrap().parse().unwrap();
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(line + thresholds.lines().count() > lines, "{error}");
    }
}
