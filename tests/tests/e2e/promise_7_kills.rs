//! kill -9 at each named point of a roll (`daemon/src/generation/kill_point.rs`): what is live is whole each time, and the next start goes on.

use astromech_e2e::bundle::{self, Published};
use astromech_e2e::checks::assert_stored;
use astromech_e2e::daemon::run_to_end;
use astromech_e2e::items::{Expected, Item};
use astromech_e2e::{Daemon, wait_until, world};
use astromech_schemas::Manifest;

use crate::promise_7::{ROLL_DEADLINE, generations, live_of_aliases, wait_group_done, wait_live};
use crate::scenario::Scenario;

/// From a published bundle to the change of the aliases, in order. Only behind that change the new one is live.
const TO_LIVE: [&str; 8] =
    ["mid_download", "downloaded", "replaying", "collections_made", "mid_fill", "verifying", "before_alias", "after_alias"];

/// One roll that is killed again and again.
struct Roll<'w> {
    scenario: Scenario<'w>,
    expected: Expected,
}

impl Roll<'_> {
    /// Starts a daemon that dies at `point`, lets `order` bring it there, and looks what it has left: `live`, whole.
    fn killed_at(&mut self, point: &'static str, live: &Manifest, order: impl FnOnce(&Scenario<'_>, &mut Daemon)) {
        self.scenario.config.kill_at = Some(point);
        let mut daemon = Daemon::spawn(&self.scenario.config);
        self.scenario.config.kill_at = None;
        order(&self.scenario, &mut daemon);
        let status = daemon.wait_exit(ROLL_DEADLINE);
        assert_eq!(status.code(), None, "{point}: it was killed");
        assert_eq!(live_of_aliases(&self.scenario), live.fingerprint.as_str(), "live after a kill at {point}");
        assert_stored(&self.scenario.snapshot(), &self.expected, live);
    }

    fn send(&mut self, items: &[Item]) {
        self.scenario.produce(items);
        for item in items {
            self.expected.upsert(item);
        }
    }
}

/// Waits until a generation is kept beside the live one, and both have every change.
fn wait_kept(scenario: &Scenario<'_>, daemon: &mut Daemon, kept: &Manifest, state: &str, live: &Manifest) {
    daemon.wait_ready();
    let wanted = (kept.fingerprint.as_str(), state);
    wait_until(&format!("{} is {state}", kept.fingerprint.short()), ROLL_DEADLINE, || {
        daemon.expect_alive();
        let known = generations(daemon);
        let mut all = known["generations"].as_array().into_iter().flatten();
        let found = all.any(|one| one["fingerprint"] == wanted.0 && one["state"] == wanted.1);
        if found { Ok(()) } else { Err(known.to_string()) }
    });
    for manifest in [kept, live] {
        wait_group_done(scenario, manifest, daemon);
    }
}

/// Gives an order that the daemon dies over.
fn order(daemon: &Daemon, words: &[&str]) {
    let (status, said) = run_to_end(&[words, &["--url", &daemon.url("")]].concat());
    assert!(!status.success(), "{words:?}: {said}");
}

#[test]
fn promise_7_a_roll_that_is_killed_at_each_of_thirteen_named_points_leaves_a_whole_generation_live_and_goes_on() {
    let world = world();
    let (old, (new_path, new), (next_path, next)) = (bundle::manifest(), bundle::other(24), bundle::other(25));
    let mut scenario = Scenario::new(&world, "rollout-kills");
    let published = Published::new();
    // The group takes a killed member for gone after so long.
    scenario.config.session_timeout_ms = 4500;
    scenario.config.extra = published.rollout("records_per_second_max = 8");
    let items = scenario.items(48, 1);
    let (early, late) = items.split_at(40);
    let mut roll = Roll { scenario, expected: Expected::default() };
    roll.send(early);
    let mut daemon = Daemon::start(&roll.scenario.config);
    wait_group_done(&roll.scenario, &old, &mut daemon);
    assert!(daemon.terminate().success());

    published.publish(&new_path);
    for point in TO_LIVE {
        let live = if point == "after_alias" { &new } else { &old };
        roll.killed_at(point, live, |_, _| ());
    }
    // Written while the new one is live: the old one gets it too, before anybody goes back to it.
    roll.send(late);
    roll.killed_at("before_rollback", &new, |scenario, daemon| {
        wait_kept(scenario, daemon, &old, "retired", &new);
        order(daemon, &["generations", "rollback"]);
    });
    roll.killed_at("after_rollback", &old, |scenario, daemon| {
        wait_kept(scenario, daemon, &old, "retired", &new);
        order(daemon, &["generations", "rollback"]);
    });
    roll.killed_at("before_drop", &old, |scenario, daemon| {
        wait_kept(scenario, daemon, &new, "held", &old);
        order(daemon, &["generations", "drop", new.fingerprint.short()]);
    });
    // The next start ends what was begun.
    roll.killed_at("after_drop", &old, |_, _| ());
    // What was dropped by hand stays away, though the registry points at it; what is published next goes live.
    published.publish(&next_path);
    roll.killed_at("retired", &next, |_, _| ());
    let mut daemon = Daemon::start(&roll.scenario.config);
    wait_live(&mut daemon, &next);
    wait_kept(&roll.scenario, &mut daemon, &old, "retired", &next);
    let known = generations(&daemon).to_string();
    assert!(!known.contains(new.fingerprint.as_str()), "{known}");
    assert_stored(&roll.scenario.snapshot(), &roll.expected, &next);
    assert!(daemon.terminate().success());
}
