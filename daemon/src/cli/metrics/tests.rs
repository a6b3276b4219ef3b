//! The names and labels of the metrics are a contract: with the documentation, the dashboard and the alerts.

use std::time::Duration;

use astromech_schemas::dead_letter::Reason;
use astromech_schemas::results::{Operation, Outcome};
use astromech_towers::{BatchObserver as _, Priority, Tower};

use super::*;
use crate::assemble::Batches;
use crate::vitals::{Queue, Stage};

#[test]
fn every_metric_has_the_name_and_labels_of_the_contract() {
    let metrics = every_metric();
    let (source, pipeline, stages) =
        (metrics.of::<SourceMetrics>(), metrics.of::<PipelineMetrics>(), metrics.of::<StageMetrics>());
    let (towers, http, index) = (metrics.of::<TowerMetrics>(), metrics.of::<HttpMetrics>(), metrics.of::<IndexMetrics>());
    let batches = Batches(towers.clone());
    source.record_consumed("articles");
    pipeline.record_taken(Kind::Article, Operation::Upsert, Outcome::Applied);
    pipeline.dead_letter(Reason::InvalidImage);
    stages.retry(Stage::Index);
    stages.took(Stage::Embed, Duration::from_millis(3));
    batches.batch(Tower::Image, 16, Duration::from_millis(8));
    metrics.of::<QueueMetrics>().set_depth(Queue::Image, 4);
    batches.led(Tower::Cross, Priority::Live);
    batches.expired(Tower::Cross);
    batches.dropped(Tower::Text);
    source.set_partition_lag("articles", 2, 7);
    source.set_oldest_unacked(Duration::from_millis(1500));
    source.offsets_committed();
    source.reading(["ads"].into_iter());
    source.broker_answered();
    index.set_points(Kind::Ad, 9);
    http.answered("/v1/search", 200, Duration::from_millis(20));
    http.set_in_flight(1);
    towers.set_provider("cpu", "int8", "ab");
    let text = metrics.encode();
    for line in [
        r#"astromech_records_consumed_total{topic="articles"} 1"#,
        r#"astromech_records_applied_total{kind="article",operation="upsert"} 1"#,
        r#"astromech_dead_letters_total{reason="invalid_image"} 1"#,
        r#"astromech_dead_letters_total{reason="invalid_record"} 0"#,
        r#"astromech_retries_total{stage="index"} 1"#,
        r#"astromech_stage_seconds_count{stage="embed"} 1"#,
        r#"astromech_batch_size_sum{tower="image"} 16.0"#,
        r#"astromech_queue_depth{queue="image"} 4"#,
        r#"astromech_tower_batches_total{tower="cross",priority="live"} 1"#,
        r#"astromech_tower_batches_total{tower="cross",priority="indexing"} 0"#,
        r#"astromech_tower_expired_total{tower="cross"} 1"#,
        r#"astromech_tower_dropped_total{tower="text"} 1"#,
        r#"astromech_partition_lag{topic="articles",partition="2"} 7"#,
        "astromech_oldest_unacked_seconds 1.5",
        "astromech_offsets_committed_total 1",
        r#"astromech_records_consumed_total{topic="ads"} 0"#,
        r#"astromech_index_points{kind="ad"} 9"#,
        r#"astromech_http_requests_total{route="/v1/search",status="200"} 1"#,
        r#"astromech_http_seconds_count{route="/v1/search"} 1"#,
        "astromech_http_in_flight 1",
        r#"astromech_provider_info{provider="cpu",precision="int8",fingerprint="ab"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "no line `{line}` in\n{text}");
    }
    assert!(text.contains("\nastromech_kafka_answer_age_seconds 0."));
    assert!(text.ends_with("# EOF\n"));
}
