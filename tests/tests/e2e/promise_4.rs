//! Nothing after revoke: members join, leave, die and freeze in the middle of the stream, and the end state is right.

use std::collections::BTreeMap;
use std::time::Duration;

use astromech_e2e::checks::assert_stored;
use astromech_e2e::items::Expected;
use astromech_e2e::paths::message;
use astromech_e2e::{Daemon, bundle, wait_until, world};

use crate::scenario::{STREAM_DEADLINE, Scenario};

const ITEMS: usize = 2000;
/// The daemon's default of pipeline.records_in_flight_max.
const RECORDS_IN_FLIGHT_MAX: usize = 1024;
/// One joins, one leaves, one joins.
const CHANGES_OF_MEMBERS: usize = 3;

/// Committed offsets, seen again and again: they never go back.
#[derive(Default)]
struct Commits(BTreeMap<i32, i64>);

impl Commits {
    fn look(&mut self, scenario: &Scenario) -> bool {
        let progress =
            scenario.world.client.progress(&scenario.topics.changes, &scenario.config.group).expect("the broker answers");
        for (partition, progress) in &progress {
            let seen = self.0.insert(*partition, progress.committed).unwrap_or_default();
            assert!(
                progress.committed >= seen,
                "partition {partition} was committed up to {seen}, now only to {}",
                progress.committed
            );
        }
        progress.values().all(|p| p.committed == p.high)
    }

    fn wait_done(&mut self, scenario: &Scenario) {
        wait_until(
            "all is committed",
            STREAM_DEADLINE,
            || {
                if self.look(scenario) { Ok(()) } else { Err(format!("{:?}", self.0)) }
            },
        );
    }
}

#[test]
fn promise_4_members_join_and_leave_in_the_middle_of_the_stream() {
    let world = world();
    let mut scenario = Scenario::new(&world, "members");
    scenario.config.session_timeout_ms = 45_000; // nobody dies here: leaving is announced
    let items = scenario.items(ITEMS, 1);
    let mut commits = Commits::default();
    let mut at = Vec::new();
    let sent = std::thread::scope(|scope| {
        let producer = scope.spawn(|| scenario.stream(&items));
        // What happens next, happens among so many more results.
        let mut more = |results: u64, alive: &mut Daemon| {
            at.push(scenario.results());
            scenario.wait_results(at[at.len() - 1] + results, || {
                alive.expect_alive();
                commits.look(&scenario);
            });
        };
        let mut first = Daemon::start(&scenario.config);
        more(100, &mut first);
        let mut second = Daemon::start(&scenario.config);
        more(150, &mut second);
        assert!(first.terminate().success());
        more(100, &mut second);
        let third = Daemon::start(&scenario.config);
        more(100, &mut second);
        let sent = producer.join().expect("the producer does not panic");
        commits.wait_done(&scenario);
        drop(third);
        sent
    });
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    assert_stored(&scenario.snapshot(), &Expected::of(&items), &bundle::manifest());
    message(&format!("members changed at {at:?} of {ITEMS} results; {} came twice", answers.repeats()));
    // What was finished beyond an unfinished record is done again by the next owner: at most what one member has under way.
    let bound = CHANGES_OF_MEMBERS * RECORDS_IN_FLIGHT_MAX;
    assert!(answers.repeats() <= bound, "{} results came twice, at most {bound} could", answers.repeats());
}

#[test]
fn promise_4_a_member_that_was_frozen_past_its_session_writes_nothing_stale_when_it_wakes() {
    let world = world();
    let scenario = Scenario::new(&world, "frozen");
    let items = scenario.items(500, 1);
    let mut sent = scenario.produce(&items);
    let mut commits = Commits::default();
    let mut frozen = Daemon::start(&scenario.config);
    scenario.wait_results(60, || frozen.expect_alive());
    frozen.suspend();
    // The other gets everything after the session of the frozen one is over.
    let mut other = Daemon::start(&scenario.config);
    let newer: Vec<_> = items.iter().map(|item| item.at_version(2, &format!("{} 新", item.title))).collect();
    sent.extend(scenario.produce(&newer));
    wait_until("the other has done everything", STREAM_DEADLINE, || {
        other.expect_alive();
        if commits.look(&scenario) { Ok(()) } else { Err(format!("{:?}", commits.0)) }
    });
    let expected = Expected::of(&newer);
    assert_stored(&scenario.snapshot(), &expected, &bundle::manifest());
    let answered = scenario.results();

    let log_before = frozen.log().len();
    frozen.resume();
    // Until it is back in the group with partitions of its own, nothing of its old work may come through.
    wait_until("the frozen member is back in the group", Duration::from_mins(1), || {
        commits.look(&scenario);
        frozen.expect_alive();
        let log = frozen.log().split_off(log_before);
        let back = log.lines().any(|line| line.contains("partitions assigned") && !line.contains("partitions=0"));
        if back { Ok(()) } else { Err(log) }
    });
    assert_stored(&scenario.snapshot(), &expected, &bundle::manifest());
    // Both work again.
    let last: Vec<_> = items.iter().take(100).map(|item| item.at_version(3, &format!("{} 末", item.title))).collect();
    sent.extend(scenario.produce(&last));
    commits.wait_done(&scenario);
    let mut expected = Expected::of(&newer);
    for item in &last {
        expected.upsert(item);
    }
    assert_stored(&scenario.snapshot(), &expected, &bundle::manifest());
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    message(&format!("{answered} results before the wake, {} at the end, of {} records", scenario.results(), sent.len()));
}
