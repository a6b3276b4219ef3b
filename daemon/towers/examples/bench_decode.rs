//! Pictures a second on one core: `bench_decode FILE…` decodes and squashes each file to 224 x 224 for about a second and prints one
//! line a file. `bench_decode --text VOCAB TEXT…` does the same for tokenising. Time is the thread's own on Linux, so a busy machine
//! does not count.
#![expect(clippy::print_stdout, reason = "the figures are its result")]

use std::time::{Duration, Instant};

use astromech_towers::{ImageLimits, Tokenizer, decode_and_squash};

const SIZE: u32 = 224;
const MEASURE: Duration = Duration::from_secs(1);

/// Time that this thread has had on a core; `None` where the system does not tell.
fn thread_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// Calls a second over about [`MEASURE`], after one call to warm up.
fn rate(mut call: impl FnMut()) -> f64 {
    call();
    let begun = Instant::now();
    let start = thread_time();
    let elapsed = || start.zip(thread_time()).map_or_else(|| begun.elapsed(), |(start, now)| now.saturating_sub(start));
    let mut calls = 0_u32;
    while elapsed() < MEASURE {
        call();
        calls += 1;
    }
    f64::from(calls) / elapsed().as_secs_f64()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, vocabulary, texts @ ..] = arguments.as_slice()
        && flag == "--text"
    {
        let tokenizer = Tokenizer::from_vocab_file(vocabulary, 64)?;
        for text in texts {
            let tokens = tokenizer.encode(text).len();
            let rate = rate(|| drop(std::hint::black_box(tokenizer.encode(text))));
            println!("{rate:10.0} /s  {tokens:3} tokens of {} characters", text.chars().count());
        }
        return Ok(());
    }
    let limits = ImageLimits::default();
    for path in &arguments {
        let bytes = std::fs::read(path)?;
        decode_and_squash(&bytes, SIZE, &limits)?;
        let rate = rate(|| drop(std::hint::black_box(decode_and_squash(&bytes, SIZE, &limits))));
        println!("{rate:8.1} /s  {:8.3} ms  {path}", 1000.0 / rate);
    }
    Ok(())
}
