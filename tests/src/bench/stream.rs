//! What live traffic gets: records through the daemon, and questions to it, measured at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use astromech_e2e::items::Item;
use astromech_e2e::{Daemon, Record, World, wait_until};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_mins(10);

/// Percentiles of some times.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// `share` of them are no longer than this, milliseconds.
    pub(crate) fn ms(&self, share: f64) -> f64 {
        let at = ((self.0.len() as f64 * share) as usize).min(self.0.len().saturating_sub(1));
        self.0.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    }

    pub(crate) fn cell(&self) -> String {
        format!("{:.1} / {:.1}", self.ms(0.5), self.ms(0.99))
    }
}

/// One question of a caller that asks again and again: route and body.
pub(crate) type Question<'q> = dyn Fn(usize) -> (&'static str, Value) + Sync + 'q;

/// `callers` ask until `stop` says so, each at once after its last answer and `pause`; the times of all answers.
pub(crate) fn ask(daemon: &Daemon, callers: usize, pause: Duration, question: &Question<'_>, stop: &AtomicBool) -> Times {
    let one = |caller: usize| {
        let mut times = Vec::new();
        let mut turn = caller;
        while !stop.load(Ordering::Acquire) {
            let (route, body) = question(turn);
            turn += callers;
            let began = Instant::now();
            let (status, answer) = daemon.post(route, &body);
            assert_eq!(status, 200, "{answer}");
            times.push(began.elapsed());
            std::thread::sleep(pause);
        }
        times
    };
    let times = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..callers).map(|caller| scope.spawn(move || one(caller))).collect();
        asking.into_iter().flat_map(|asking| asking.join().expect("a caller")).collect()
    });
    Times::of(times)
}

/// Sends `items` at once and waits for their results; items a second.
pub(crate) fn index(world: &World, topics: &astromech_e2e::Topics, items: &[Item], done: impl Fn() -> u64) -> f64 {
    let before = done();
    let began = Instant::now();
    world.client.produce(&topics.changes, items.iter().map(Item::record).collect::<Vec<Record>>());
    wait_until("all are indexed", DEADLINE, || {
        let now = done() - before;
        // The harness looks rarely: it shares the cores.
        std::thread::sleep(Duration::from_millis(50));
        if now >= items.len() as u64 { Ok(()) } else { Err(format!("{now} of {}", items.len())) }
    });
    items.len() as f64 / began.elapsed().as_secs_f64()
}

/// Changes that the live generation has applied.
pub(crate) fn applied(daemon: &Daemon) -> u64 {
    daemon.metric("astromech_records_applied_total", &[]) as u64
}
