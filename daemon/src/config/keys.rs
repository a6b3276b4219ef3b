//! The one table of configuration keys. Types, ranges, defaults and documentation are written here and nowhere else.

mod http;
mod rescore;
mod results;
mod rollout;
mod schema_registry;

/// What a key's value may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KeyKind {
    /// A whole number in a range, both ends included.
    Integer(u64, u64),
    /// A number in a range, both ends included.
    Float(f64, f64),
    /// `true` or `false`.
    Bool,
    /// A string.
    Text,
    /// One of these strings.
    Choice(&'static [&'static str]),
    /// An array of strings.
    TextList,
}

/// Whether a key must be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Must be written where its section is needed; the text is an example.
    Required(&'static str),
    /// May be left out; the text is the default, as TOML.
    Default(&'static str),
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Name inside its section.
    pub name: &'static str,
    /// What its value may be.
    pub kind: KeyKind,
    /// Whether it must be written.
    pub need: Need,
    /// What it does: complete sentences.
    pub doc: &'static str,
}

/// One section.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Dotted name.
    pub name: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Its form.
    pub form: SectionForm,
}

/// The form of a section.
#[derive(Debug, Clone, Copy)]
pub enum SectionForm {
    /// `[name]` with these keys.
    Table(&'static [Key]),
    /// `[[name]]`, any number of times, with these keys.
    Array(&'static [Key]),
    /// `[name]` with keys of the user's own and strings as values; the text is an example line.
    Map(&'static str),
}

const fn key(name: &'static str, kind: KeyKind, need: Need, doc: &'static str) -> Key {
    Key { name, kind, need, doc }
}

use KeyKind::{Bool, Choice, Float, Integer, Text, TextList};
use Need::{Default, Required};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const MINUTE_MS: u64 = 60_000;

const BATCH_DOC: &str = "Most items in one batch.";
const QUEUE_DOC: &str = "Most items waiting for a batch, live requests and indexing each: a full backlog of indexing keeps no live \
                         request out. When full, callers wait.";
const WAIT_DOC: &str = "Longest wait for a batch to fill, microseconds; a batch never waits while it is full.";

/// Every section, in the order of the reference file.
pub const SECTIONS: &[Section] = &[
    Section {
        name: "bundle",
        doc: "The model: a folder with manifest, graphs, vocabulary and golden vectors.",
        form: SectionForm::Table(&[
            key(
                "path",
                Text,
                Required("\"bundle\""),
                "Folder of the bundle. Like every path here, relative to this file's folder.",
            ),
            key(
                "precision",
                Choice(&["auto", "f32", "fp16", "int8"]),
                Default("\"auto\""),
                "Graphs to load. auto: int8 on CPU and fp16 on CUDA where the bundle has them, else what it has.",
            ),
        ]),
    },
    Section {
        name: "runtime",
        doc: "ONNX Runtime, which runs the towers.",
        form: SectionForm::Table(&[
            key(
                "onnxruntime",
                Text,
                Default("\"${ORT_DYLIB_PATH:-}\""),
                "Path of libonnxruntime.so; empty looks at ORT_DYLIB_PATH. The wheel onnxruntime==1.31.1 carries one.",
            ),
            key(
                "provider",
                Choice(&["cpu", "cuda"]),
                Default("\"cpu\""),
                "Where the towers run. With cuda and no usable device the daemon does not start.",
            ),
            key("device_id", Integer(0, 255), Default("0"), "CUDA device."),
            key("threads", Integer(0, 1024), Default("0"), "Threads of the towers; 0 for all cores."),
        ]),
    },
    Section {
        name: "towers.image",
        doc: "Batching of the image tower.",
        form: SectionForm::Table(&[
            key("batch_max", Integer(1, 1024), Default("16"), BATCH_DOC),
            key("queue_max", Integer(1, 65_536), Default("64"), QUEUE_DOC),
            key("wait_us_max", Integer(0, 1_000_000), Default("2000"), WAIT_DOC),
        ]),
    },
    Section {
        name: "towers.text",
        doc: "Batching of the text tower.",
        form: SectionForm::Table(&[
            key("batch_max", Integer(1, 4096), Default("64"), BATCH_DOC),
            key("queue_max", Integer(1, 65_536), Default("256"), QUEUE_DOC),
            key("wait_us_max", Integer(0, 1_000_000), Default("1000"), WAIT_DOC),
        ]),
    },
    Section {
        name: "towers.cross",
        doc: "Batching of the cross tower: batches in pairs, of several requests; the queue in chunks of up to batch_max pairs.",
        form: SectionForm::Table(&[
            key("batch_max", Integer(1, 4096), Default("64"), BATCH_DOC),
            key("queue_max", Integer(1, 65_536), Default("64"), QUEUE_DOC),
            key("wait_us_max", Integer(0, 1_000_000), Default("1000"), WAIT_DOC),
        ]),
    },
    Section {
        name: "index",
        doc: "Where points are written.",
        form: SectionForm::Table(&[
            key(
                "engine",
                Choice(&["embedded", "qdrant"]),
                Default("\"embedded\""),
                "embedded: SQLite in this process, its file in a folder. qdrant: a Qdrant server, 1.16 or newer.",
            ),
            key("batch_points_max", Integer(1, 4096), Default("256"), "Most points in one write."),
            key("batch_wait_ms_max", Integer(0, 10_000), Default("20"), "Longest wait for a write to fill, milliseconds."),
            key("in_flight_max", Integer(1, 64), Default("4"), "Most writes under way at once."),
            key(
                "tombstone_retention_hours",
                Float(0.0, 87_600.0),
                Default("0.0"),
                "How long it is remembered that an item was deleted, hours; 0.0 for ever. Longer than an older version of it may still come: \
                 than the topics keep records (compacted: delete.retention.ms), and than dead letters wait to be replayed.",
            ),
        ]),
    },
    Section {
        name: "index.embedded",
        doc: "Used where index.engine = \"embedded\".",
        form: SectionForm::Table(&[
            key(
                "path",
                Text,
                Required("\"data/index\""),
                "Folder of the index, one file for all generations; created where it is missing. One daemon at a time.",
            ),
            key(
                "vector_bytes_max",
                Integer(1 << 20, 1 << 40),
                Default("2147483648"),
                "Most memory for the vectors of all generations, bytes: 2 a number, and about 150 a vector. What goes over it is refused: use a \
                 Qdrant server for more.",
            ),
        ]),
    },
    Section {
        name: "index.qdrant",
        doc: "Used where index.engine = \"qdrant\".",
        form: SectionForm::Table(&[
            key("url", Text, Default("\"http://127.0.0.1:6334\""), "gRPC address of the server."),
            key(
                "api_key_file",
                Text,
                Default("\"\""),
                "File that holds the API key; empty for none. Keys are never written here.",
            ),
            key(
                "timeout_ms",
                Integer(100, 10 * MINUTE_MS),
                Default("10000"),
                "Longest wait for one request, milliseconds; at most kafka.drain_timeout_ms, so that a write ends before its partition is given up.",
            ),
        ]),
    },
    Section {
        name: "kafka",
        doc: "Where changes come from. Needed by `astromech run` only.",
        form: SectionForm::Table(&[
            key("brokers", Text, Required("\"127.0.0.1:9092\""), "Brokers to start from: host:port,host:port."),
            key("group", Text, Required("\"astromech\""), "Consumer group. A new group starts at the oldest record."),
            key(
                "results_topic",
                Text,
                Required("\"astromech.results\""),
                "Topic that gets one record for each change the index holds.",
            ),
            key(
                "dead_letter_topic",
                Text,
                Required("\"astromech.dead-letters\""),
                "Topic that gets records that can never be applied, byte-identical, with their reason in headers.",
            ),
            key(
                "session_timeout_ms",
                Integer(1000, 30 * MINUTE_MS),
                Default("45000"),
                "Silence after which the group takes this member for dead, milliseconds.",
            ),
            key(
                "drain_timeout_ms",
                Integer(100, 10 * MINUTE_MS),
                Default("20000"),
                "Longest wait for work under way when partitions are taken away or the daemon stops, milliseconds; less than session_timeout_ms.",
            ),
            key("commit_interval_ms", Integer(10, 10 * MINUTE_MS), Default("1000"), "Time between two commits, milliseconds."),
            key(
                "window_records_max",
                Integer(1, 10_000_000),
                Default("65536"),
                "Most records of one partition from the oldest that is not finished to the newest that was read; reading waits beyond it.",
            ),
        ]),
    },
    results::RESULTS,
    Section {
        name: "kafka.properties",
        doc: "Passed on to librdkafka's consumer and producers. Properties that the promises rest on are refused.",
        form: SectionForm::Map("\"security.protocol\" = \"sasl_ssl\""),
    },
    Section {
        name: "kafka.properties_files",
        doc: "As kafka.properties, each value read from the file that is named: the place for passwords.",
        form: SectionForm::Map("\"sasl.password\" = \"/run/secrets/kafka-password\""),
    },
    schema_registry::SCHEMA_REGISTRY,
    Section {
        name: "kafka.topics",
        doc: "One for each topic to consume; at least one.",
        form: SectionForm::Array(&[
            key("name", Text, Required("\"astromech.changes\""), "Name of the topic."),
            key(
                "kind",
                Choice(&["", "article", "image", "ad", "video"]),
                Default("\"\""),
                "Kind of every item in it; empty where each message carries its own (a delete: in the header astromech-kind).",
            ),
            key(
                "format",
                Choice(&["json", "avro"]),
                Default("\"json\""),
                "What values are. avro: Confluent's wire format, with schemas from kafka.schema_registry. A key is text in both.",
            ),
            key(
                "version",
                Choice(&["field", "timestamp", "offset"]),
                Default("\"field\""),
                "Where a change's version comes from. field: the message's version; a delete carries the header astromech-version. \
                 timestamp: the record's time. offset: right only where all changes of an item are in one partition of one topic.",
            ),
        ]),
    },
    Section {
        name: "media",
        doc: "Where pictures may be fetched from, and how large they may be.",
        form: SectionForm::Table(&[
            key(
                "file_roots",
                TextList,
                Default("[]"),
                "Folders under which `file:` addresses may lie, links followed. `file:name` without a slash is looked up in each of them.",
            ),
            key(
                "http_hosts",
                TextList,
                Default("[]"),
                "Hosts of `http:` and `https:` addresses: \"host\", or \".domain\" for a domain and everything under it, on ports 80 and 443; \
                 \"host:8443\" for another port, \"host:*\" for any. Redirects are checked too.",
            ),
            key(
                "proxy",
                Text,
                Default("\"\""),
                "Proxy for `http:` and `https:` addresses, for example http://proxy.internal:3128; empty for none. The environment \
                 (HTTP_PROXY) is never asked. A proxy resolves names itself: it must keep private addresses out, for nothing here can.",
            ),
            key(
                "allow_private_networks",
                Bool,
                Default("false"),
                "Whether those hosts may have private, loopback or link-local addresses.",
            ),
            key("bytes_max", Integer(1, GIB), Default("16777216"), "Largest encoded picture, bytes."),
            key(
                "pixels_max",
                Integer(1, 4_000_000_000),
                Default("50000000"),
                "Most pixels of a picture, width by height as its header declares, checked before it is decoded.",
            ),
            key("edge_max", Integer(1, 1_000_000), Default("30000"), "Longest edge of a picture, pixels."),
            key(
                "timeout_ms",
                Integer(1, 10 * MINUTE_MS),
                Default("10000"),
                "Longest time for one picture, redirects and body included, milliseconds.",
            ),
            key(
                "connect_timeout_ms",
                Integer(1, 10 * MINUTE_MS),
                Default("3000"),
                "Longest time for a connection to open, milliseconds.",
            ),
            key("redirects_max", Integer(0, 20), Default("3"), "Most redirects that are followed."),
            key("in_flight_max", Integer(1, 4096), Default("16"), "Most fetched pictures at once, until they are prepared."),
            key("host_in_flight_max", Integer(1, 4096), Default("8"), "Most pictures fetched from one host at once."),
            key(
                "host_failures_max",
                Integer(1, 1_000_000),
                Default("8"),
                "Failures of one host in a row after which it is left alone: its pictures wait, other hosts' go on, nothing becomes a dead letter.",
            ),
            key(
                "host_pause_ms",
                Integer(1, 10 * MINUTE_MS),
                Default("5000"),
                "How long a host is left alone before one picture is tried again, milliseconds.",
            ),
        ]),
    },
    Section {
        name: "record",
        doc: "Limits of one record; beyond them it is a dead letter.",
        form: SectionForm::Table(&[
            key("text_bytes_max", Integer(1, 16 * MIB), Default("262144"), "Longest title, body or caption, bytes of UTF-8."),
            key("id_bytes_max", Integer(1, 64 * KIB), Default("512"), "Longest id, bytes of UTF-8."),
            key("labels_max", Integer(0, 65_536), Default("256"), "Most tags, and most attributes."),
            key("frames_max", Integer(1, 256), Default("64"), "Most key frames of a video."),
        ]),
    },
    Section {
        name: "pipeline",
        doc: "Limits of what is under way.",
        form: SectionForm::Table(&[
            key(
                "records_in_flight_max",
                Integer(1, 100_000),
                Default("1024"),
                "Most records under way; beyond it reading waits.",
            ),
            key(
                "bytes_in_flight_max",
                Integer(MIB, 1024 * GIB),
                Default("268435456"),
                "Most bytes of records under way; beyond it reading waits. One record larger than this goes alone.",
            ),
            key(
                "retry_backoff_ms_min",
                Integer(1, MINUTE_MS),
                Default("100"),
                "First wait before something that may pass is tried again, milliseconds; it doubles from there, with jitter.",
            ),
            key(
                "retry_backoff_ms_max",
                Integer(1, 10 * MINUTE_MS),
                Default("10000"),
                "Longest wait before something that may pass is tried again, milliseconds. It is tried for ever.",
            ),
            key("poison_window", Integer(10, 100_000), Default("200"), "How many of the last records are looked at for poison."),
            key(
                "poison_share_max",
                Float(0.01, 1.0),
                Default("0.8"),
                "Share of dead letters among them at which the daemon stops, because then the producer or the configuration is wrong.",
            ),
        ]),
    },
    rescore::SERVICE,
    rescore::CACHE,
    rescore::TOPICS,
    rollout::ROLLOUT,
    rollout::S3,
    http::SERVER,
    http::RATE,
    http::TLS,
    http::AUTH,
    http::READ_KEYS,
    http::WRITE_KEYS,
    Section {
        name: "telemetry",
        doc: "Traces of records and requests, for an OpenTelemetry collector. Off by default, and then costs nothing.",
        form: SectionForm::Table(&[
            key(
                "otlp_endpoint",
                Text,
                Default("\"\""),
                "gRPC address of the collector, for example \"http://127.0.0.1:4317\"; empty exports nothing.",
            ),
            key(
                "sampling_ratio",
                Float(0.0, 1.0),
                Default("1.0"),
                "Share of the traces that begin here and are recorded. A trace that comes with a record or a request is recorded where its \
                 sender records it.",
            ),
        ]),
    },
    Section {
        name: "log",
        doc: "Logs, on standard error.",
        form: SectionForm::Table(&[
            key("format", Choice(&["text", "json"]), Default("\"text\""), "text for people, json for machines."),
            key(
                "level",
                Text,
                Default("\"info\""),
                "error, warn, info, debug, trace, or a filter such as \"info,astromech=debug\".",
            ),
        ]),
    },
];

/// The section of that name.
pub fn section(name: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.name == name)
}

impl Section {
    /// The keys of the section; empty for a map, whose keys are the user's.
    pub const fn keys(&self) -> &'static [Key] {
        match self.form {
            SectionForm::Table(keys) | SectionForm::Array(keys) => keys,
            SectionForm::Map(_) => &[],
        }
    }
}
