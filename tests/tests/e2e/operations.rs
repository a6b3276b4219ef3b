//! `astromech offsets` and `astromech plan` against a real broker and a real Qdrant.

use std::collections::BTreeMap;
use std::process::ExitStatus;

use astromech_e2e::daemon::run_to_end;
use astromech_e2e::kafka::Progress;
use astromech_e2e::world::scratch;
use astromech_e2e::{Daemon, block_on, wait_until, world};
use astromech_schemas::Kind;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::Value;

use crate::scenario::{STREAM_DEADLINE, Scenario};

const FIRST: usize = 40;
const MORE: usize = 12;

/// The command line with the scenario's own configuration.
struct Commands(String);

impl Commands {
    fn of(scenario: &Scenario<'_>) -> Self {
        let file = scratch("operations").join("astromech.toml");
        std::fs::write(&file, scenario.config.to_toml(1)).expect("the configuration is written");
        Self(file.to_string_lossy().into_owned())
    }

    fn run(&self, words: &[&str]) -> (ExitStatus, String) {
        run_to_end(&[words, &["--config", &self.0]].concat())
    }

    /// Exit code and the JSON that was printed.
    fn json(&self, words: &[&str]) -> (Option<i32>, Value) {
        let (status, said) = self.run(&[words, &["--json"]].concat());
        let first = serde_json::Deserializer::from_str(&said).into_iter().next();
        (status.code(), first.and_then(Result::ok).unwrap_or_else(|| panic!("no JSON:\n{said}")))
    }
}

fn sum(of: &Value, field: &str) -> u64 {
    of.as_array().expect("a list").iter().map(|one| one[field].as_u64().unwrap_or_default()).sum()
}

fn committed(progress: &BTreeMap<i32, Progress>) -> Vec<i64> {
    progress.values().map(|progress| progress.committed).collect()
}

#[test]
fn offsets_are_shown_by_partition_and_reset_only_while_the_group_is_empty() {
    let world = world();
    let scenario = Scenario::new(&world, "offsets");
    let commands = Commands::of(&scenario);
    let progress = || world.client.progress(&scenario.topics.changes, &scenario.config.group).expect("the broker answers");
    scenario.produce(&scenario.items(FIRST, 1));
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);

    // While a daemon is in the group: it is named, and nothing changes.
    let before = progress();
    let (status, said) = commands.run(&["offsets", "reset", "--to", "earliest"]);
    assert_eq!(status.code(), Some(1), "{said}");
    let told =
        ["1 active members: astromech (", "127.0.0.1 reads", "nothing was changed", &format!("{}:0", scenario.topics.changes)];
    assert!(told.iter().all(|part| said.contains(part)), "{said}");
    assert_eq!(progress(), before);
    assert!(daemon.terminate().success());

    let (code, shown) = commands.json(&["offsets", "show"]);
    assert_eq!((code, shown.as_array().map(Vec::len)), (Some(0), Some(1)), "{shown}");
    let (group, partitions) = (&shown[0], &shown[0]["partitions"]);
    assert_eq!((group["group"].as_str(), group["lag"].as_u64()), (Some(scenario.config.group.as_str()), Some(0)));
    assert_eq!((group["state"].as_str(), sum(partitions, "committed")), (Some("Empty"), FIRST as u64));
    assert!(partitions.as_array().expect("a list").iter().all(|line| line["age_ms"].is_null()), "{shown}");

    let newest = world.client.times(&scenario.topics.changes).into_iter().max().expect("there are records");
    scenario.produce(&scenario.items(MORE, 2));
    let (_, shown) = commands.json(&["offsets", "show"]);
    assert_eq!((shown[0]["lag"].as_u64(), sum(&shown[0]["partitions"], "end")), (Some(MORE as u64), (FIRST + MORE) as u64));
    for line in shown[0]["partitions"].as_array().expect("a list") {
        let (lags, age) = (line["lag"].as_u64() > Some(0), line["age_ms"].as_u64());
        assert!(lags == age.is_some() && age.unwrap_or_default() < 60_000, "{line}");
    }

    let behind_first = before.clone();
    let (code, moves) = commands.json(&["offsets", "reset", "--to", "earliest", "--dry-run"]);
    assert_eq!((code, sum(&moves["moves"], "again")), (Some(0), FIRST as u64), "{moves}");
    assert_eq!(committed(&progress()), committed(&behind_first), "a dry run changes nothing");
    assert!(commands.run(&["offsets", "reset", "--to", "latest"]).0.success());
    assert!(progress().values().all(|progress| progress.committed == progress.high));
    assert!(commands.run(&["offsets", "reset", "--to", &(newest + 1).to_string()]).0.success());
    assert_eq!(committed(&progress()), committed(&behind_first), "the first record after that time");
    let place = |offset: i64| format!("{}:0={offset}", scenario.topics.changes);
    assert!(commands.run(&["offsets", "reset", "--to", &place(1)]).0.success());
    assert_eq!(committed(&progress()), [&[1], &committed(&behind_first)[1..]].concat(), "the others stay");
    let (status, said) = commands.run(&["offsets", "reset", "--to", &place(4000)]);
    assert!(status.code() == Some(2) && said.contains("the partition has offsets 0 to "), "{said}");

    // From the oldest on: everything is read again.
    assert!(commands.run(&["offsets", "reset", "--to", "earliest"]).0.success());
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    assert_eq!(scenario.results(), (FIRST + FIRST + MORE) as u64);
}

#[test]
fn groups_of_generations_are_shown_and_a_reset_names_the_one_it_means() {
    let world = world();
    let scenario = Scenario::new(&world, "offsets-generations");
    let commands = Commands::of(&scenario);
    scenario.produce(&scenario.items(FIRST, 1));
    let group = &scenario.config.group;
    let generations = [format!("{group}-0a1b2c3d4e5f"), format!("{group}-ffffffffffff")];
    for generation in &generations {
        let (status, said) = commands.run(&["offsets", "reset", "--to", "latest", "--group", generation]);
        assert!(status.success(), "{said}");
        world.client.wait_lag_0(&scenario.topics.changes, generation, STREAM_DEADLINE, || {});
    }
    let (_, shown) = commands.json(&["offsets", "show"]);
    let mut names: Vec<_> = shown.as_array().expect("a list").iter().filter_map(|group| group["group"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, generations);
    let (status, said) = commands.run(&["offsets", "reset", "--to", "earliest"]);
    assert_eq!(status.code(), Some(2), "{said}");
    assert!(generations.iter().all(|generation| said.contains(generation)), "{said}");
    let (status, said) = commands.run(&["offsets", "show", "--group", "payments"]);
    assert!(status.code() == Some(2) && said.contains("no group of this configuration"), "{said}");
}

/// Everything that a plan could change by mistake.
fn outside(scenario: &Scenario<'_>) -> Vec<String> {
    // A broker's first question about a group makes its topic of offsets: the question is ours, not the plan's.
    let progress = wait_until("the group's coordinator answers", STREAM_DEADLINE, || {
        scenario.world.client.progress(&scenario.topics.changes, &scenario.config.group)
    });
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &scenario.config.brokers);
    let consumer: BaseConsumer = config.create().expect("a consumer is made");
    let metadata = consumer.fetch_metadata(None, STREAM_DEADLINE).expect("the broker answers");
    let mut state: Vec<String> =
        metadata.topics().iter().map(|topic| format!("topic {} {}", topic.name(), topic.partitions().len())).collect();
    let groups = consumer.fetch_group_list(None, STREAM_DEADLINE).expect("the broker answers");
    state.extend(groups.groups().iter().map(|group| format!("group {} {}", group.name(), group.members().len())));
    state.push(format!("{progress:?}"));
    let client = scenario.world.points.client();
    let (collections, aliases) = block_on(async { (client.list_collections().await, client.list_aliases().await) });
    let aliases = aliases.expect("Qdrant answers").aliases;
    state.extend(aliases.into_iter().map(|alias| format!("alias {} {}", alias.alias_name, alias.collection_name)));
    for collection in collections.expect("Qdrant answers").collections {
        let info = block_on(client.collection_info(collection.name.as_str())).expect("Qdrant answers").result.unwrap_or_default();
        let mut fields: Vec<String> = info.payload_schema.into_keys().collect();
        fields.sort_unstable();
        state.push(format!("collection {} {:?} {fields:?}", collection.name, info.points_count));
    }
    state.sort_unstable();
    state
}

/// Runs a plan, sees that nothing changed, and returns the exit code and the findings that are not right.
fn plan(scenario: &Scenario<'_>, commands: &Commands) -> (Option<i32>, Vec<(String, String)>) {
    let before = outside(scenario);
    let (code, plan) = commands.json(&["plan"]);
    assert_eq!(before, outside(scenario), "a plan changes nothing");
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    let findings = plan["findings"].as_array().unwrap_or_else(|| panic!("no findings: {plan}"));
    let other = findings.iter().filter(|finding| finding["verdict"] != "right");
    (code, other.map(|finding| (text(finding, "verdict"), text(finding, "subject"))).collect())
}

#[test]
fn a_plan_tells_what_a_start_would_make_or_refuse_and_changes_nothing() {
    let world = world();
    let mut scenario = Scenario::new(&world, "plan");
    let commands = Commands::of(&scenario);
    scenario.produce(&scenario.items(FIRST, 1));
    let (code, new) = plan(&scenario, &commands);
    assert_eq!(code, Some(10), "{new:?}");
    let made = |what: &str| new.iter().filter(|(verdict, subject)| verdict == "create" && subject.starts_with(what)).count();
    let kinds = Kind::ALL.len();
    assert_eq!((made("collection "), made("alias "), made("group "), new.len()), (kinds, kinds, 1, 2 * kinds + 1), "{new:?}");

    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    assert_eq!(plan(&scenario, &commands), (Some(0), Vec::new()), "also beside a running daemon");
    assert!(daemon.terminate().success());

    let client = world.points.client();
    let collection = |kind: Kind| format!("{}-{}", kind.collection(), astromech_e2e::bundle::manifest().fingerprint.short());
    let removed = qdrant_client::qdrant::DeleteFieldIndexCollectionBuilder::new(collection(Kind::Image), "tags").wait(true);
    block_on(client.delete_field_index(removed)).expect("Qdrant answers");
    let (code, changed) = plan(&scenario, &commands);
    let expected = ("change".to_owned(), format!("indexes of {}", collection(Kind::Image)));
    assert_eq!((code, changed), (Some(10), vec![expected]));

    // An alias on somebody else's collection, and a topic that does not exist.
    let foreign = qdrant_client::qdrant::CreateCollectionBuilder::new("foreign");
    block_on(async {
        client.create_collection(foreign).await.expect("Qdrant answers");
        client.delete_alias("ads").await.expect("Qdrant answers");
        client.create_alias(qdrant_client::qdrant::CreateAliasBuilder::new("foreign", "ads")).await.expect("Qdrant answers");
    });
    "nowhere".clone_into(&mut scenario.config.topics.results);
    let (code, wrong) = plan(&scenario, &Commands::of(&scenario));
    assert_eq!(code, Some(2));
    for subject in ["alias ads", "topic nowhere"] {
        assert!(wrong.contains(&("wrong".to_owned(), subject.to_owned())), "{wrong:?}");
    }
    let (status, said) = commands.run(&["plan"]);
    assert!(status.code() == Some(2) && said.contains("something that Astromech did not make"), "{said}");
}
