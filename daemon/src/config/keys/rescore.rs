//! Keys of `[rescore]` and of the sections below it.

use super::KeyKind::{Bool, Choice, Float, Integer, Text, TextList};
use super::Need::Default;
use super::{GIB, MIB, MINUTE_MS, Section, SectionForm, key};

/// `[rescore]`
pub(super) const SERVICE: Section = Section {
    name: "rescore",
    doc: "Re-scoring by the single tower: POST /v1/rescore, and rescore in a search.",
    form: SectionForm::Table(&[
        key(
            "enabled",
            Bool,
            Default("true"),
            "Whether the cross tower is loaded and re-scoring is served; a bundle without a cross tower needs false.",
        ),
        key("candidates_max", Integer(1, 10_000), Default("200"), "Most candidates of one request; beyond it the answer is 422."),
        key(
            "requests_in_flight_max",
            Integer(1, 65_536),
            Default("32"),
            "Most requests that re-score at once; beyond it the answer is 503.",
        ),
        key(
            "deadline_ms",
            Integer(1, 10 * MINUTE_MS),
            Default("2000"),
            "Time of a request that names none, milliseconds; what is not scored by then is answered as a problem of its own.",
        ),
        key(
            "deadline_ms_max",
            Integer(1, 10 * MINUTE_MS),
            Default("10000"),
            "Most time that a request may ask for, milliseconds. Over HTTP it ends after 0.9 of http.timeout_ms in any case.",
        ),
        key("weight_itm", Float(-1000.0, 1000.0), Default("1.0"), "Weight of the match score in the blend."),
        key("weight_itc", Float(-1000.0, 1000.0), Default("1.0"), "Weight of the cosine in the blend."),
        key(
            "weight_prior",
            Float(-1000.0, 1000.0),
            Default("0.1"),
            "Weight of ln(prior) in the blend, in the mode ads: 0.1 adds 0.07 for a doubled prior.",
        ),
        key(
            "weight_bid",
            Float(-1000.0, 1000.0),
            Default("0.1"),
            "Weight of ln(bid) in the blend, in the mode ads: 0.1 adds 0.07 for a doubled bid.",
        ),
    ]),
};

/// `[rescore.cache]`
pub(super) const CACHE: Section = Section {
    name: "rescore.cache",
    doc: "States of items that were encoded once, by content and bundle: in memory, and on disk where a path is given.",
    form: SectionForm::Table(&[
        key(
            "bytes_max",
            Integer(0, 1024 * GIB),
            Default("268435456"),
            "Most bytes held, the least used fall out; 0 keeps nothing. A picture of R2D2-L takes 0.5 MiB in f16, of the demo 10 KiB.",
        ),
        key(
            "states",
            Choice(&["f16", "f32"]),
            Default("\"f16\""),
            "How states are kept: f16 takes half the bytes and changes scores by less than 0.001.",
        ),
        key(
            "warm",
            Bool,
            Default("false"),
            "Whether indexing puts the states of each picture and text there. It copies them out of the towers, which costs little \
             on a CPU and some bandwidth on a GPU.",
        ),
        key(
            "disk_path",
            Text,
            Default("\"\""),
            "Folder for states on disk, of one process alone; they outlive a restart. Empty keeps them in memory only, as does a disk \
             without the room.",
        ),
        key(
            "disk_bytes_max",
            Integer(64 * MIB, 16 * 1024 * GIB),
            Default("1073741824"),
            "Bytes taken of the disk, all at the start; when they are used up the oldest entries fall out.",
        ),
    ]),
};

/// `[rescore.topics]`
pub(super) const TOPICS: Section = Section {
    name: "rescore.topics",
    doc: "Re-scoring requests out of a topic, with the brokers and properties of [kafka].",
    form: SectionForm::Table(&[
        key("request", Text, Default("\"\""), "Topic of the requests; empty takes them over HTTP only."),
        key("reply", Text, Default("\"astromech.rescore-replies\""), "Topic of the replies."),
        key(
            "reply_to",
            TextList,
            Default("[]"),
            "Further topics that a request may name in its header reply-to; replies go nowhere else.",
        ),
        key(
            "group",
            Text,
            Default("\"\""),
            "Consumer group of the requests; empty takes that of [kafka] with .rescore behind it.",
        ),
        key(
            "requests_in_flight_max",
            Integer(1, 65_536),
            Default("16"),
            "Most requests at once; beyond it they stay in the topic.",
        ),
    ]),
};
