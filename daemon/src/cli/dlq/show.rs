//! `astromech dlq show`.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::super::failure::EXIT_OK;
use super::super::output;
use super::{each, origin, printable, time};
use crate::config::KafkaConfig;
use crate::dead_letters::Letter;

/// Characters of a value that are printed.
const VALUE_SHOWN: usize = 4096;
/// Characters of a header's value that are printed.
const HEADER_SHOWN: usize = 512;

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// PARTITION:OFFSET of the dead-letter topic.
    letter: Position,
    /// Write the record's value, byte for byte, into this file.
    #[arg(long, value_name = "FILE")]
    value_to: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Position {
    partition: i32,
    offset: i64,
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (partition, offset) = text.split_once(':')?;
            Some(Self { partition: partition.parse().ok()?, offset: offset.parse().ok()? })
        };
        parse().ok_or_else(|| "write PARTITION:OFFSET, as `astromech dlq list` prints it".to_owned())
    }
}

pub(super) fn run(kafka: &KafkaConfig, args: &ShowArgs) -> Result<u8> {
    let Position { partition, offset } = args.letter;
    let mut found = None;
    each(kafka, |letter| {
        if (letter.partition, letter.offset) == (partition, offset) {
            found = Some(letter);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    let Some(letter) = found else {
        bail!("{}: no dead letter {partition}:{offset}; it may have passed the topic's retention", kafka.dead_letter_topic);
    };
    print(&letter);
    if let Some(path) = &args.value_to {
        let value = letter.value.as_deref().unwrap_or_default();
        std::fs::write(path, value).with_context(|| format!("{} can't be written", path.display()))?;
        output::note(&format!("{}: {} bytes", path.display(), value.len()));
    }
    Ok(EXIT_OK)
}

fn print(letter: &Letter) {
    let bytes = |bytes: Option<&[u8]>, max| bytes.map_or_else(|| "null".to_owned(), |bytes| printable(bytes, max));
    output::data(&format!("letter       {}:{} of {}", letter.partition, letter.offset, time(letter.timestamp_ms)));
    output::data(&format!("reason       {}", letter.reason));
    output::data(&format!("detail       {}", printable(letter.detail.as_bytes(), usize::MAX)));
    output::data(&format!("record       {}", origin(letter)));
    output::data(&format!("record time  {}", time(letter.record_time_ms)));
    output::data(&format!("key          {}", bytes(letter.key.as_deref(), HEADER_SHOWN)));
    for header in &letter.headers {
        let name = printable(header.name.as_bytes(), HEADER_SHOWN);
        output::data(&format!("header       {name}: {}", bytes(header.value.as_deref(), HEADER_SHOWN)));
    }
    let length = letter.value.as_ref().map_or(0, Vec::len);
    output::data(&format!("value        {length} bytes: {}", bytes(letter.value.as_deref(), VALUE_SHOWN)));
}
