//! The names and labels of the metrics are a contract: with the documentation, the dashboard and the alerts.

use super::*;

#[test]
fn every_metric_has_the_name_and_labels_of_the_contract() {
    let metrics = Metrics::new();
    metrics.record_consumed("articles");
    metrics.record_applied(Kind::Article, Operation::Upsert);
    metrics.dead_letter(Reason::InvalidImage);
    metrics.retry(Stage::Index);
    metrics.stage_time(Stage::Embed, Duration::from_millis(3));
    metrics.batch("image", 16, Duration::from_millis(8));
    metrics.set_queue_depth("image", 4);
    metrics.tower_led(Tower::Cross, Priority::Live);
    metrics.tower_expired(Tower::Cross);
    metrics.tower_dropped(Tower::Text);
    metrics.set_partition_lag("articles", 2, 7);
    metrics.set_oldest_unacked(Duration::from_millis(1500));
    metrics.offsets_committed();
    metrics.set_index_points(Kind::Ad, 9);
    metrics.http_answered("/v1/search", 200, Duration::from_millis(20));
    metrics.set_http_in_flight(1);
    metrics.set_provider("cpu", "int8", "ab");
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
        r#"astromech_index_points{kind="ad"} 9"#,
        r#"astromech_http_requests_total{route="/v1/search",status="200"} 1"#,
        r#"astromech_http_seconds_count{route="/v1/search"} 1"#,
        "astromech_http_in_flight 1",
        r#"astromech_provider_info{provider="cpu",precision="int8",fingerprint="ab"} 1"#,
    ] {
        assert!(text.lines().any(|l| l == line), "no line `{line}` in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_partition_taken_away_is_no_longer_reported() {
    let metrics = Metrics::new();
    metrics.set_partition_lag("articles", 0, 7);
    metrics.forget_partition("articles", 0);
    assert!(!metrics.encode().contains("partition_lag{"));
}
