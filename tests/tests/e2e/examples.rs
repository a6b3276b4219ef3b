//! The clients of docs/examples, as they stand there, against a daemon.

use std::process::Command;

use astromech_e2e::paths::repository;
use astromech_e2e::{Daemon, wait_until, world};

use crate::scenario::{STREAM_DEADLINE, Scenario};

const ITEMS: usize = 20;

/// What the program said; it must end well.
fn run(program: &str, example: &str, url: &str) -> String {
    let mut command = Command::new(program);
    let output =
        command.arg(repository().join("docs/examples").join(example)).arg(url).env("PYTHONDONTWRITEBYTECODE", "1").output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{example}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

#[test]
fn the_example_clients_search_re_score_and_embed() {
    let world = world();
    let scenario = Scenario::new(&world, "examples");
    let items = scenario.items(ITEMS, 1);
    scenario.produce(&items);
    let daemon = Daemon::start(&scenario.config);
    wait_until("everything is indexed", STREAM_DEADLINE, || {
        let applied = daemon.metric("astromech_records_applied_total", &[]) as usize;
        if applied == ITEMS { Ok(()) } else { Err(format!("{applied} of {ITEMS}")) }
    });
    let url = daemon.url("");
    let said = run("python3", "client.py", &url);
    assert!(said.contains("by the single tower: ['") && said.contains(" numbers in space "), "{said}");
    let said = run("bash", "client.sh", &url);
    let answers: Vec<serde_json::Value> = said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(answers.len(), 4, "{said}");
    assert!(answers[0]["hits"]["image"].as_array().is_some_and(|hits| hits.len() == 5), "{said}");
    assert!(answers[1]["rescore_ms"].is_number() && answers[2]["problems"].is_array(), "{said}");
    assert!(answers[3]["texts"][0].is_array(), "{said}");
}
