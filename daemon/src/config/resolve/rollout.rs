//! `[rollout]`.

use std::time::Duration;

use super::super::types::{BackfillSource, RegistryConfig, RolloutConfig};
use super::Resolver;

impl Resolver<'_> {
    /// `None` where no registry is named.
    pub(super) fn rollout(&mut self) -> Option<RolloutConfig> {
        let (view, s3) = (self.view("rollout"), self.view("rollout.s3"));
        let url = view.text("registry").to_owned();
        if url.is_empty() {
            return None;
        }
        let is_folder = url.starts_with("file://") || !url.contains("://");
        if !(is_folder || url.starts_with("s3://")) {
            let problem = format!("`{url}` is neither a folder nor object storage");
            self.error(view, "registry", problem, "write file:///folder or s3://bucket/prefix");
        }
        let mut secret = |view: super::View<'_>, key: &str| match view.text(key) {
            "" => None,
            file => self.secret(view, key, file),
        };
        let public_key = secret(view, "public_key_file");
        let (access_key, secret_key) = (secret(s3, "access_key_file"), secret(s3, "secret_key_file"));
        Some(RolloutConfig {
            registry: RegistryConfig {
                url,
                endpoint: s3.text("endpoint").to_owned(),
                region: s3.text("region").to_owned(),
                access_key,
                secret_key,
                allow_http: s3.flag("allow_http"),
            },
            poll: view.millis("poll_ms"),
            bundles: self.join(view.text("bundles")),
            public_key: public_key.map(|key| key.reveal().to_owned()),
            memory_bytes_max: view.integer("memory_bytes_max"),
            keep: Duration::from_secs_f64(view.float("keep_hours") * super::HOUR_SECONDS),
            backfill: if view.text("backfill") == "collection" { BackfillSource::Collection } else { BackfillSource::Topics },
            backfill_lost_max: view.integer("backfill_lost_max"),
            records_per_second_busy: view.size("records_per_second_busy") as u32,
            records_per_second_max: view.size("records_per_second_max") as u32,
            count_difference_max: view.float("count_difference_max"),
            recall_items: view.size("recall_items") as u32,
            recall_min: view.float("recall_min"),
            verify_max: view.millis("verify_ms_max"),
        })
    }
}
