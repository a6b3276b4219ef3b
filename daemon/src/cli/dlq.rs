//! `astromech dlq`: what became dead letters and why, one of them in full, and sending them again once their cause is mended.

mod replay;
mod show;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use anyhow::{Context as _, Result};
use astromech_schemas::dead_letter::Reason;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::ConfigArg;
use super::failure::EXIT_OK;
use super::output;
use crate::config::KafkaConfig;
use crate::dead_letters::{Filter, Letter, read};
use crate::failure::{Usage, hinted};

/// Characters of a key in a list.
const KEY_SHOWN: usize = 60;

#[derive(Debug, Args)]
pub(super) struct DlqArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One line a dead letter, the oldest of each partition first; counts by reason at the end.
    List {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        filter: FilterArgs,
        /// Print each as a JSON object.
        #[arg(long)]
        json: bool,
        /// Print this many at most; all are counted.
        #[arg(long, default_value_t = 1000)]
        limit: usize,
    },
    /// One dead letter in full, as `list` names it: PARTITION:OFFSET of the dead-letter topic.
    Show {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        show: show::ShowArgs,
    },
    /// Send dead letters to the topics and partitions they came from, byte-identical and with their time. They stay in the dead-letter topic.
    Replay {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        filter: FilterArgs,
        #[command(flatten)]
        replay: replay::ReplayArgs,
    },
}

#[derive(Debug, Args)]
struct FilterArgs {
    /// Only for this reason; may be given several times.
    #[arg(long = "reason", value_parser = Reason::ALL.map(Reason::as_str))]
    reasons: Vec<String>,
    /// Only records of this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Only records of this partition of their topic.
    #[arg(long)]
    partition: Option<i32>,
    /// Only records with this key.
    #[arg(long)]
    key: Option<String>,
    /// Only what became a dead letter then or later: RFC 3339, or how long ago, as 30m, 12h, 7d.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<i64>,
    /// Only what became a dead letter before then.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<i64>,
}

impl From<FilterArgs> for Filter {
    fn from(args: FilterArgs) -> Self {
        let FilterArgs { reasons, topic, partition, key, since, until } = args;
        Self { reasons, topic, partition, key: key.map(String::into_bytes), since_ms: since, until_ms: until }
    }
}

/// Milliseconds since 1970.
fn parse_time(text: &str) -> Result<i64, String> {
    let ago = |text: &str| {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        number.parse::<u32>().ok().map(|number| Utc::now().timestamp_millis() - i64::from(number) * seconds * 1000)
    };
    let at = |text: &str| DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis());
    at(text).or_else(|| ago(text)).ok_or_else(|| "write 2026-01-31T08:00:00Z, or how long ago: 30m, 12h, 7d".to_owned())
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// The configuration is wrong, the broker does not answer, or the command line asks for nothing.
pub(super) async fn run(args: DlqArgs) -> Result<u8> {
    match args.what {
        What::List { config, filter, json, limit } => {
            let kafka = kafka(&config)?;
            blocking(move || list(&kafka, &filter.into(), json, limit)).await
        }
        What::Show { config, show } => {
            let kafka = kafka(&config)?;
            blocking(move || show::run(&kafka, &show)).await
        }
        What::Replay { config, filter, replay } => replay::run(kafka(&config)?, filter.into(), replay).await,
    }
}

fn kafka(config: &ConfigArg) -> Result<KafkaConfig> {
    let no_kafka = || Usage {
        problem: "the configuration has no [kafka]".to_owned(),
        hint: "name the configuration of the daemon that wrote the dead letters".to_owned(),
    };
    Ok(config.load()?.kafka.ok_or_else(no_kafka)?)
}

/// Reading blocks in librdkafka.
async fn blocking(work: impl FnOnce() -> Result<u8> + Send + 'static) -> Result<u8> {
    tokio::task::spawn_blocking(work).await.context("reading was interrupted")?
}

fn each(kafka: &KafkaConfig, take: impl FnMut(Letter) -> ControlFlow<()>) -> Result<()> {
    let hint = "look at kafka.brokers and kafka.dead_letter_topic, and whether this user may read it";
    read(kafka, take).with_context(|| hinted("the dead letters were not read", hint))
}

fn list(kafka: &KafkaConfig, filter: &Filter, json: bool, limit: usize) -> Result<u8> {
    let (mut counts, mut listed) = (BTreeMap::new(), 0);
    each(kafka, |letter| {
        if filter.holds(&letter) {
            if listed < limit {
                output::data(&if json { as_json(&letter).to_string() } else { line(&letter) });
                listed += 1;
            }
            *counts.entry(letter.reason).or_insert(0_usize) += 1;
        }
        ControlFlow::Continue(())
    })?;
    output::note(&format!("{} dead letters{}", counts.values().sum::<usize>(), by_reason(&counts)));
    Ok(EXIT_OK)
}

/// `: 3 invalid_image, 1 url_not_found`, or nothing.
fn by_reason(counts: &BTreeMap<String, usize>) -> String {
    let each: Vec<_> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    if each.is_empty() { String::new() } else { format!(": {}", each.join(", ")) }
}

fn line(letter: &Letter) -> String {
    let key = letter.key.as_deref().map_or_else(|| "no key".to_owned(), |key| printable(key, KEY_SHOWN));
    let Letter { partition, offset, reason, detail, .. } = letter;
    let detail = printable(detail.as_bytes(), usize::MAX);
    format!("{partition}:{offset}  {}  {reason}  {}  {key}  {detail}", time(letter.timestamp_ms), origin(letter))
}

fn origin(letter: &Letter) -> String {
    letter
        .origin
        .as_ref()
        .map_or_else(|| "unknown origin".to_owned(), |of| format!("{}/{}@{}", of.topic, of.partition, of.offset))
}

fn time(ms: Option<i64>) -> String {
    let time = ms.and_then(DateTime::<Utc>::from_timestamp_millis);
    time.map_or_else(|| "no time".to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

/// At most so many characters, none of which can move a terminal's cursor or colour it.
fn printable(bytes: &[u8], chars_max: usize) -> String {
    let text = String::from_utf8_lossy(bytes);
    let clean = text.chars().take(chars_max).map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut shown: String = clean.collect();
    if text.chars().nth(chars_max).is_some() {
        shown.push('…');
    }
    shown
}

fn as_json(letter: &Letter) -> Value {
    let lossy = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let origin = letter.origin.as_ref();
    json!({
        "letter": format!("{}:{}", letter.partition, letter.offset),
        "time": letter.timestamp_ms.map(|ms| time(Some(ms))),
        "reason": letter.reason,
        "detail": letter.detail,
        "topic": origin.map(|origin| &origin.topic),
        "partition": origin.map(|origin| origin.partition),
        "offset": origin.map(|origin| origin.offset),
        "record_time": letter.record_time_ms.map(|ms| time(Some(ms))),
        "key": letter.key.as_ref().map(lossy),
        "value_bytes": letter.value.as_ref().map(Vec::len),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_how_long_ago() {
        assert_eq!(parse_time("1970-01-01T08:00:01+08:00"), Ok(1000));
        let now = Utc::now().timestamp_millis();
        let ago = parse_time("2h").unwrap();
        assert!((now - 7_200_000..=now).contains(&ago) && ago <= now - 7_199_000, "{ago} of {now}");
        for text in ["", "h", "2w", "-1h", "yesterday", "2026-01-31", "九h", "时"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_that_is_printed_moves_the_terminals_cursor() {
        assert_eq!(printable("\u{1b}[31m车\n\r\u{9b}x".as_bytes(), 100), "\u{fffd}[31m车\u{fffd}\u{fffd}\u{fffd}x");
        assert_eq!(printable(b"abcd", 3), "abc…");
        assert_eq!(printable(&[0xff, b'a'], 3), "\u{fffd}a");
    }
}
