//! Keys of `[rollout]` and of the section below it.

use super::KeyKind::{Bool, Choice, Float, Integer, Text};
use super::Need::Default;
use super::{GIB, MINUTE_MS, Section, SectionForm, key};

/// `[rollout]`
pub(super) const ROLLOUT: Section = Section {
    name: "rollout",
    doc: "Refreshed models: which registry is watched, and how a new generation is made beside the live one. With a registry each \
          generation has a consumer group of its own, kafka.group with its fingerprint behind it. Topics must hold every item (compacted, \
          or kept for as long as an item lives), or backfill says where else items come from.",
    form: SectionForm::Table(&[
        key(
            "registry",
            Text,
            Default("\"\""),
            "Registry of bundles: file:///folder or s3://bucket/prefix. Empty rolls nothing out: bundle.path serves.",
        ),
        key("poll_ms", Integer(100, 1440 * MINUTE_MS), Default("10000"), "Time between two looks at the registry, milliseconds."),
        key(
            "bundles",
            Text,
            Default("\"bundles\""),
            "Folder that verified bundles are kept in, one a fingerprint; bundle.path serves until something else is live.",
        ),
        key(
            "public_key_file",
            Text,
            Default("\"\""),
            "minisign public key: a release that it did not sign is refused. Empty takes unsigned releases too.",
        ),
        key(
            "memory_bytes_max",
            Integer(64 << 20, 1024 * GIB),
            Default("8589934592"),
            "Most memory of this process with a second bundle in it; a bundle whose graphs would not fit is refused.",
        ),
        key(
            "keep_hours",
            Float(0.0, 8760.0),
            Default("24.0"),
            "How long a generation that is no longer live is kept up to date, so that going back takes seconds; then it is dropped.",
        ),
        key(
            "backfill",
            Choice(&["topics", "collection"]),
            Default("\"topics\""),
            "What a new generation is filled from. topics: their oldest record on. collection: the live generation's points, texts and \
             picture addresses, then the topics from where the live generation was; for topics that don't hold every item.",
        ),
        key(
            "backfill_lost_max",
            Integer(0, 1_000_000_000),
            Default("0"),
            "With backfill = \"collection\": most items that may lose their picture or a part of their text, because it was inline in a \
             record, was cut, or is at its address no more. With one more the bundle is refused.",
        ),
        key(
            "records_per_second_busy",
            Integer(1, 1_000_000),
            Default("20"),
            "How many records a second more than live traffic a generation beside the live one takes while live records or requests are \
             under way: so fast it comes nearer to the live head. While live records pile up it takes this many alone.",
        ),
        key(
            "records_per_second_max",
            Integer(0, 1_000_000),
            Default("0"),
            "Most records a second that it takes otherwise; 0 is no limit.",
        ),
        key(
            "count_difference_max",
            Float(0.0, 1.0),
            Default("0.01"),
            "Largest share by which its number of points of a kind may differ from the live one's, to go live.",
        ),
        key(
            "recall_items",
            Integer(0, 1000),
            Default("32"),
            "Items of each kind that are looked for in it by their own text before it goes live.",
        ),
        key("recall_min", Float(0.0, 1.0), Default("0.8"), "Least share of them that must be among its first ten hits."),
        key(
            "verify_ms_max",
            Integer(100, 1440 * MINUTE_MS),
            Default("600000"),
            "How long these comparisons may fail at the live head before the generation is refused, milliseconds.",
        ),
    ]),
};

/// `[rollout.s3]`
pub(super) const S3: Section = Section {
    name: "rollout.s3",
    doc: "Object storage of the registry; for a folder nothing here counts.",
    form: SectionForm::Table(&[
        key("endpoint", Text, Default("\"\""), "Address of the storage; empty is Amazon's."),
        key("region", Text, Default("\"us-east-1\""), "Region."),
        key("access_key_file", Text, Default("\"\""), "File with the access key."),
        key("secret_key_file", Text, Default("\"\""), "File with the secret key."),
        key("allow_http", Bool, Default("false"), "Whether the endpoint may be without TLS."),
    ]),
};
