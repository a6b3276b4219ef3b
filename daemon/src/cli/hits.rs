//! Hits as lines for a terminal, where a Chinese character is two columns wide.

use astromech_schemas::Blend;
use astromech_schemas::http::{Hit, SearchResponse};
use astromech_schemas::rescore::HitRescore;

use super::output;

/// Columns of a title.
const TITLE_COLUMNS: usize = 44;

/// Prints every kind's hits, best first.
pub(super) fn print(response: &SearchResponse) {
    for (kind, hits) in &response.hits {
        if hits.is_empty() {
            continue;
        }
        output::data(&format!("{kind}"));
        for hit in hits {
            let title = fit(hit.title.as_deref().unwrap_or("-"), TITLE_COLUMNS);
            let id = match hit.frame {
                Some(frame) => format!("{} at {:.1} s", hit.id, frame.time_ms as f64 / 1e3),
                None => hit.id.clone(),
            };
            match &hit.rescore {
                None => output::data(&format!("  {:.4}  {title}  {id}", hit.score)),
                Some(rescore) => output::data(&format!("  {}  {title}  {id}", verdict(rescore))),
            }
        }
    }
    if response.hits.values().all(Vec::is_empty) {
        output::note("no hits: the index is empty");
    }
    let rescored = response.rescore_ms.map(|ms| format!(", re-scored in {ms:.1} ms")).unwrap_or_default();
    if response.blend.as_ref().is_some_and(Blend::is_idle) {
        output::note("this bundle's single tower has no weight in the order: fitting found none that ranks better");
    }
    output::note(&format!("embedded in {:.1} ms, searched in {:.1} ms{rescored}", response.embed_ms, response.search_ms));
}

/// The score, the match and the cosine, and the rank by cosine alone.
fn verdict(rescore: &HitRescore) -> String {
    let was = format!("(was {})", rescore.dual_rank);
    match (&rescore.scores, &rescore.problem) {
        (Some(scores), _) => format!("{:.4} (match {:.4}, cosine {:.4})  {was:8}", scores.score, scores.itm, scores.itc),
        (None, Some(problem)) => format!("{:24}  {was:8}", problem.kind.as_str()),
        (None, None) => was,
    }
}

/// The first words of a hit's title: a caption goes on with synonyms after a colon.
pub(super) fn name(hit: &Hit) -> &str {
    let title = hit.title.as_deref().unwrap_or(&hit.id);
    title.split(['：', ':', '。', '\n', '（']).next().unwrap_or(title)
}

/// `text` in exactly `columns` columns: cut with an ellipsis, or padded.
pub(super) fn fit(text: &str, columns: usize) -> String {
    let mut out = String::new();
    let mut used = 0;
    let whole = width(text) <= columns;
    for character in text.chars() {
        let next = width_of(character);
        // One column is kept for the ellipsis.
        if used + next > columns || (!whole && used + next > columns.saturating_sub(1)) {
            break;
        }
        out.push(if character.is_control() { ' ' } else { character });
        used += next;
    }
    if !whole {
        out.push('…');
        used += 1;
    }
    out.extend(std::iter::repeat_n(' ', columns.saturating_sub(used)));
    out
}

/// Columns of `text` on a terminal.
fn width(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

/// Two for the wide blocks of Unicode's East Asian Width (UAX #11) and for emoji, else one.
fn width_of(character: char) -> usize {
    let wide = matches!(u32::from(character),
        0x1100..=0x115f | 0x2e80..=0x303e | 0x3041..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f
        | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd);
    if wide { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_exactly_its_columns_whatever_its_script() {
        for text in ["", "car", "红色的汽车", "红色 car 的汽车和很长的说明", "a\nb"] {
            for columns in [1, 2, 7, 12, 40] {
                assert_eq!(width(&fit(text, columns)), columns, "{text:?} in {columns}");
            }
        }
        assert_eq!(fit("红色的汽车", 7), "红色的…");
        assert_eq!(fit("汽车", 6), "汽车  ");
    }
}
