//! The cut of long texts, against BERT's algorithm written plainly.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::HashMap;

use proptest::prelude::*;
use unicode_categories::UnicodeCategories as _;
use unicode_normalization_alignments::UnicodeNormalization as _;

use super::Tokenizer;

fn tokenizer(max_tokens: usize) -> Tokenizer {
    Tokenizer::from_vocab_bytes(VOCABULARY.as_bytes(), max_tokens).unwrap()
}

#[test]
fn a_cut_text_has_the_tokens_of_the_whole() {
    let short = tokenizer(8);
    let whole = tokenizer(100_000);
    let texts = [
        "中文".repeat(5_000),
        "ab aa ".repeat(5_000),
        format!("{}ab", " ".repeat(5_000)),
        format!("{}中文中文中文", "\u{200b}\u{1}".repeat(900)),
        "a".repeat(4_000),
        format!("{} 中 a", "a".repeat(4_000)),
        format!("{} 中 a", "e\u{301}".repeat(2_000)),
        format!("中{} ab", "!".repeat(3_000)),
        "[SEP] 中[MASK]文".repeat(400),
        format!("a{}b 中", "\u{301}".repeat(3_000)),
    ];
    for text in texts {
        let all = whole.encode(&text);
        let content = &all[1..all.len() - 1];
        let expected: Vec<i64> = [&[2], &content[..content.len().min(6)], &[3]].concat();
        assert_eq!(short.encode(&text), expected, "{:?}", text.chars().take(20).collect::<String>());
    }
}

#[test]
fn an_empty_text_is_its_two_marks() {
    assert_eq!(tokenizer(8).encode(""), [2, 3]);
    assert_eq!(tokenizer(2).encode("中文"), [2, 3]);
}

#[test]
fn a_vocabulary_without_the_marks_is_refused_by_name() {
    let error = Tokenizer::from_vocab_bytes(b"[PAD]\n[UNK]\n[CLS]\n", 8).unwrap_err();
    assert!(error.to_string().contains("[SEP]"), "{error}");
}

const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n中\n文\na\n##a\nab\n!\nb\n##b\ne\n##e\n，\n[\n]\nsep\ni\n##i\n豈\n";
const MARKS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// BERT's tokenization.py over the whole text, a step after the other: marks written out, cleaning, spaces round Chinese characters,
/// words, lower case, accents, punctuation, the longest piece first.
fn plainly(text: &str, max_tokens: usize) -> Vec<i64> {
    let vocabulary: HashMap<&str, i64> = VOCABULARY.lines().zip(0..).collect();
    let mut ids = Vec::new();
    let mut rest = text;
    while let Some((at, mark)) = MARKS.iter().filter_map(|mark| Some((rest.find(mark)?, *mark))).min() {
        words(&rest[..at], &vocabulary, &mut ids);
        ids.push(vocabulary[mark]);
        rest = &rest[at + mark.len()..];
    }
    words(rest, &vocabulary, &mut ids);
    ids.truncate(max_tokens - 2);
    [&[vocabulary["[CLS]"]], &ids[..], &[vocabulary["[SEP]"]]].concat()
}

fn words(text: &str, vocabulary: &HashMap<&str, i64>, ids: &mut Vec<i64>) {
    let is_kept_control = |c| matches!(c, '\t' | '\n' | '\r');
    let mut clean = String::new();
    for c in text.chars().filter(|c| is_kept_control(*c) || !(*c == '\0' || *c == '\u{fffd}' || c.is_other())) {
        if is_kept_control(c) || c.is_whitespace() {
            clean.push(' ');
        } else if is_chinese(c) {
            clean.extend([' ', c, ' ']);
        } else {
            clean.push(c);
        }
    }
    for word in clean.split(' ').filter(|word| !word.is_empty()) {
        let lower: String = word.chars().flat_map(char::to_lowercase).collect();
        let bare: String = lower.nfd().map(|(c, _)| c).filter(|c| !c.is_mark_nonspacing()).collect();
        let mut piece = String::new();
        for c in bare.chars() {
            if c.is_ascii_punctuation() || c.is_punctuation() {
                pieces(&std::mem::take(&mut piece), vocabulary, ids);
                pieces(&c.to_string(), vocabulary, ids);
            } else {
                piece.push(c);
            }
        }
        pieces(&piece, vocabulary, ids);
    }
}

fn pieces(word: &str, vocabulary: &HashMap<&str, i64>, ids: &mut Vec<i64>) {
    let unknown = vocabulary["[UNK]"];
    if word.chars().count() > 100 {
        ids.push(unknown);
        return;
    }
    let (mut found, mut rest, mut prefix) = (Vec::new(), word, "");
    while !rest.is_empty() {
        let mut ends = rest.char_indices().map(|(at, c)| at + c.len_utf8()).rev();
        let known = |end: usize| vocabulary.get(format!("{prefix}{}", &rest[..end]).as_str()).copied();
        let longest = ends.find_map(|end| Some((end, known(end)?)));
        let Some((end, id)) = longest else {
            ids.push(unknown);
            return;
        };
        found.push(id);
        (rest, prefix) = (&rest[end..], "##");
    }
    ids.extend(found);
}

fn is_chinese(c: char) -> bool {
    matches!(c, '\u{4e00}'..='\u{9fff}' | '\u{3400}'..='\u{4dbf}' | '\u{20000}'..='\u{2a6df}' | '\u{2a700}'..='\u{2b73f}'
        | '\u{2b740}'..='\u{2b81f}' | '\u{2b920}'..='\u{2ceaf}' | '\u{f900}'..='\u{faff}' | '\u{2f800}'..='\u{2fa1f}')
}

/// What stands at a cut: letters, all that some definition calls white space, what cleaning drops, what it sets apart.
const CHARACTERS: &str = "abAée\u{301} \t\n\r\u{b}\u{c}\u{1c}\u{1d}\u{1e}\u{1f}\u{85}\u{a0}\u{ad}\u{1680}\u{180e}\u{2000}\u{200b}\u{200d}\u{2028}\u{2029}\
    \u{202f}\u{205f}\u{2060}\u{3000}\u{feff}\u{fffd}\0中文\u{f900}\u{2f800}!，İ가[";

/// Runs of characters, and marks.
fn texts() -> impl Strategy<Value = String> {
    let character =
        prop_oneof![8 => prop::sample::select(CHARACTERS.chars().collect::<Vec<_>>()), 1 => any::<char>()].prop_map(String::from);
    let part = prop_oneof![12 => character, 1 => prop::sample::select(&MARKS[..]).prop_map(str::to_owned)];
    let length = prop_oneof![6 => 1..4_usize, 1 => 4..200_usize];
    prop::collection::vec((part, length).prop_map(|(part, length)| part.repeat(length)), 0..60).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_of_any_length_has_the_tokens_of_berts_algorithm(text in texts(), max_tokens in 2..40_usize) {
        let tokenizer = Tokenizer::from_vocab_bytes(VOCABULARY.as_bytes(), max_tokens).unwrap();
        prop_assert_eq!(tokenizer.encode(&text), plainly(&text, max_tokens));
    }
}

#[test]
fn control_characters_that_berts_cleaning_drops_are_no_place_to_cut() {
    for dropped in ['\u{b}', '\u{c}', '\u{1c}', '\u{1f}', '\u{85}', '\u{200b}', '\u{feff}'] {
        for before in 20..80 {
            let text = format!("中 {}a{dropped}b{dropped}a 文 a", " ".repeat(before));
            assert_eq!(tokenizer(5).encode(&text), plainly(&text, 5), "{dropped:?} after {before} spaces");
        }
    }
}
