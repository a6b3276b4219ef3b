//! Nothing lost: an offset is committed only when everything up to it is applied and answered, so kill -9 anywhere loses nothing.

use astromech_e2e::checks::{assert_same, assert_stored};
use astromech_e2e::items::Expected;
use astromech_e2e::paths::message;
use astromech_e2e::{Daemon, bundle, world};

use crate::scenario::Scenario;

const ITEMS: usize = 3000;
const KILLS: usize = 3;

#[test]
fn promise_1_kill_9_in_the_middle_loses_nothing() {
    let world = world();
    let scenario = Scenario::slow(&world, "kill");
    let items = scenario.items(ITEMS, 1);
    let sent = scenario.produce(&items);
    let mut committed = 0;
    for kill in 1..=KILLS {
        let mut daemon = Daemon::spawn(&scenario.config);
        // Some is committed, more is applied and not committed, more is under way.
        scenario.wait_committed(committed + 100, || daemon.expect_alive());
        daemon.kill();
        committed = scenario.assert_committed_is_answered();
        message(&format!("kill {kill}: {} results, {committed} records committed", scenario.results()));
    }
    assert!(scenario.answers().results.len() < ITEMS, "the last kill came in the middle");
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    message(&format!("{} results came twice", answers.repeats()));
    assert_stored(&scenario.snapshot(), &Expected::of(&items), &bundle::manifest());
}

#[test]
fn promise_1_a_graceful_stop_in_the_middle_commits_all_that_was_done() {
    let world = world();
    let mut scenario = Scenario::slow(&world, "graceful");
    scenario.config.session_timeout_ms = 45_000; // time enough to drain on a busy machine
    let items = scenario.items(ITEMS, 1);
    let sent = scenario.produce(&items);
    for stop in 1..=2 {
        let before = scenario.results();
        let mut daemon = Daemon::spawn(&scenario.config);
        scenario.wait_results(before + 100 * stop, || daemon.expect_alive());
        let status = daemon.terminate();
        assert!(status.success(), "a graceful stop ends with {status}");
        let committed = scenario.assert_committed_is_answered();
        let answers = scenario.answers();
        assert_eq!(committed, answers.results.len() as i64, "stop {stop}: all that was answered is committed");
    }
    assert!(scenario.results() < ITEMS as u64, "the last stop came in the middle");
    let mut daemon = Daemon::start(&scenario.config);
    scenario.wait_done(&mut daemon);
    let answers = scenario.answers();
    answers.assert_nothing_lost(&sent);
    answers.assert_no_dead_letters();
    assert_eq!(answers.repeats(), 0, "nothing is done twice after graceful stops");
    let before = scenario.snapshot();
    assert_stored(&before, &Expected::of(&items), &bundle::manifest());

    // A daemon with nothing to do stops as well.
    assert!(daemon.terminate().success());
    assert_same(&before, &scenario.snapshot());
}
