//! `astromech dlq replay`.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::ControlFlow;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::sync::mpsc;

use super::super::failure::{EXIT_FAILED, EXIT_OK};
use super::super::output;
use super::{each, line};
use crate::config::KafkaConfig;
use crate::dead_letters::{Filter, Letter, NotReplayed, ReplayRules, Replayer};
use crate::failure::{Usage, hinted};

/// Letters read ahead of what is sent. Each is at most as large as the largest Kafka message.
const READ_AHEAD: usize = 4;

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    /// Every dead letter: without it, at least one filter must be given.
    #[arg(long)]
    all: bool,
    /// Say what would be sent, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// Records a second at most.
    #[arg(long, default_value = "100")]
    rate: NonZeroU32,
    /// Send this many at most.
    #[arg(long)]
    limit: Option<usize>,
    /// Also what becomes the newest version of its item by being sent again: records of topics whose versions are offsets.
    #[arg(long)]
    even_as_newest: bool,
}

/// Runs the command; the exit code is 1 where a letter that was meant was not sent.
///
/// # Errors
/// Nothing was asked for; the broker does not answer or refuses.
pub(super) async fn run(kafka: KafkaConfig, filter: Filter, args: ReplayArgs) -> Result<u8> {
    if filter.is_empty() && !args.all {
        let problem = "every dead letter would be sent again".to_owned();
        return Err(Usage { problem, hint: "name what is meant (--reason, --topic, --since, …), or say --all".to_owned() }.into());
    }
    let rules = ReplayRules::new(&kafka, args.even_as_newest);
    let sender = (!args.dry_run).then(|| Replayer::new(&kafka, rules.clone(), args.rate)).transpose();
    let sender = sender.context("no producer")?;
    let (letters, meant) = mpsc::channel(READ_AHEAD);
    let limit = args.limit.unwrap_or(usize::MAX);
    let reading = tokio::task::spawn_blocking(move || {
        let mut left = limit;
        each(&kafka, |letter| {
            if left == 0 {
                return ControlFlow::Break(());
            }
            if filter.holds(&letter) {
                left -= 1;
                // The other side has failed: it says why.
                if letters.blocking_send(letter).is_err() {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })
    });
    let outcome = match sender {
        None => rehearse(&rules, meant).await,
        Some(sender) => send(sender, meant).await?,
    };
    reading.await.context("reading was interrupted")??;
    Ok(outcome.report(args.dry_run))
}

#[derive(Default)]
struct Outcome {
    sent: u64,
    /// How many, by why.
    not_sent: BTreeMap<String, usize>,
}

impl Outcome {
    fn leave(&mut self, letter: &Letter, why: &NotReplayed) {
        let why = why.to_string();
        output::note(&format!("not sent: {}:{}: {why}", letter.partition, letter.offset));
        *self.not_sent.entry(why).or_default() += 1;
    }

    fn report(&self, dry_run: bool) -> u8 {
        let verb = if dry_run { "would be sent" } else { "sent" };
        output::data(&format!("{} {verb}, {} not", self.sent, self.not_sent.values().sum::<usize>()));
        for (why, count) in &self.not_sent {
            output::note(&format!("{count} not {verb}: {why}"));
        }
        if self.not_sent.is_empty() { EXIT_OK } else { EXIT_FAILED }
    }
}

async fn rehearse(rules: &ReplayRules, mut meant: mpsc::Receiver<Letter>) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some(letter) = meant.recv().await {
        match rules.target(&letter) {
            Ok(_) => {
                outcome.sent += 1;
                output::data(&line(&letter));
            }
            Err(why) => outcome.leave(&letter, &why),
        }
    }
    outcome
}

async fn send(mut sender: Replayer, mut meant: mpsc::Receiver<Letter>) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let failed = |replayed: u64| hinted(format!("the replay ended after {replayed} records"), "mend the cause, and run it again");
    while let Some(letter) = meant.recv().await {
        match sender.send(&letter).await {
            Ok(None) => {}
            Ok(Some(why)) => outcome.leave(&letter, &why),
            Err(error) => bail!(anyhow::Error::new(error).context(failed(sender.replayed()))),
        }
    }
    let finished = sender.finish().await;
    outcome.sent = finished.with_context(|| failed(sender.replayed()))?;
    Ok(outcome)
}
