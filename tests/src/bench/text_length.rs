//! Texts at their true length against texts padded to the longest that the model takes.

use std::time::Instant;

use astromech_towers::PreparedText;
use astromech_towers::graph::TextGraph;

use crate::Setting;
use crate::table::{Table, rate};

/// Each way is measured this often, in turn.
const ROUNDS: usize = 3;

/// `texts`, tokenised.
pub(crate) fn prepare(setting: &Setting, texts: &[String]) -> Vec<PreparedText> {
    texts.iter().map(|text| setting.towers.prepare_text(text)).collect()
}

/// Texts a second of one pass; padded to `length` where given, else each batch to its longest.
pub(crate) fn pass(graph: &mut TextGraph, texts: &[&PreparedText], batch: usize, length: Option<usize>) -> Result<f64, String> {
    let began = Instant::now();
    for batch in texts.chunks(batch) {
        let output = match length {
            Some(length) => graph.run_padded(batch, length, false),
            None => graph.run(batch, false),
        };
        output.map_err(|e| e.to_string())?;
    }
    Ok(texts.len() as f64 / began.elapsed().as_secs_f64())
}

pub(crate) fn run(setting: &Setting) -> Result<String, String> {
    let entries = &astromech_e2e::corpus::corpus().entries;
    let titles: Vec<_> = entries.iter().map(|entry| entry.title.clone()).collect();
    let bodies: Vec<_> = entries.iter().map(|entry| format!("{}。{}", entry.title, entry.body)).collect();
    let longest = setting.bundle.manifest.text.max_tokens as usize;
    let head = ["texts", "tokens, mean", "padded to the longest, texts/s", "true length, texts/s", "ratio"];
    let mut table = Table::new(
        format!("Text at its true length against padded to {longest} (batches of {})", setting.config.text.batch_max),
        &head,
    );
    for (name, texts) in [("short (queries, titles)", titles), ("captions and articles", bodies)] {
        let prepared = prepare(setting, &texts);
        let mut graph = TextGraph::open(&setting.bundle, setting.options).map_err(|e| e.to_string())?;
        let in_order: Vec<_> = prepared.iter().collect();
        // As the queue's buckets do: company of about one's own length.
        let mut by_length = in_order.clone();
        by_length.sort_by_key(|text| text.ids().len());
        let batch = setting.config.text.batch_max;
        pass(&mut graph, &in_order[..batch.min(in_order.len())], batch, Some(longest))?;
        let (mut padded, mut true_length) = (0.0, 0.0);
        for _ in 0..ROUNDS {
            padded += pass(&mut graph, &in_order, batch, Some(longest))? / ROUNDS as f64;
            true_length += pass(&mut graph, &by_length, batch, None)? / ROUNDS as f64;
        }
        let tokens = in_order.iter().map(|text| text.ids().len()).sum::<usize>() as f64 / in_order.len() as f64;
        let ratio = format!("{:.2}", true_length / padded);
        table.row(vec![name.to_owned(), format!("{tokens:.1}"), rate(padded), rate(true_length), ratio]);
    }
    Ok(table.to_markdown())
}
