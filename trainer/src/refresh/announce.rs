//! Bundle → registry → a record on the models topic.

use std::time::Duration;

use astromech_schemas::release::MODEL_ANNOUNCEMENT_SCHEMA;
use astromech_schemas::{Fingerprint, ModelAnnouncement, Release};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::error::RefreshError;
use super::job::Job;
use super::state::Run;
use super::training;
use crate::checkpoint::write_atomically;
use crate::collect::producer;

/// For the broker to confirm the record.
const TIMEOUT: Duration = Duration::from_mins(1);
/// The release as it was published, in the run's folder.
const RELEASE_FILE: &str = "release.json";

/// Keeps the checkpoint under the bundle's fingerprint, then publishes the bundle: a live bundle always has its checkpoint.
pub(super) fn publish(job: &mut Job<'_>, run: &Run) -> Result<(), RefreshError> {
    let bundle = job.bundle(run);
    training::keep_checkpoint(job, run, &super::export::fingerprint(&bundle)?)?;
    job.check_lease()?;
    let release = job.registry.publish(&bundle)?;
    let path = job.folder(run).join(RELEASE_FILE);
    let failed = || RefreshError::failed(path.display().to_string());
    let bytes = serde_json::to_vec_pretty(&release).map_err(failed())?;
    write_atomically(&path, |at| std::fs::write(at, &bytes)).map_err(failed())
}

/// Announces what was published; acknowledged by all replicas of the topic. A job that is killed in between announces it again, which
/// readers know by its fingerprint.
pub(super) fn announce(job: &mut Job<'_>, run: &Run) -> Result<(), RefreshError> {
    let Some(announce) = &job.config.announce else { return Ok(()) };
    let path = job.folder(run).join(RELEASE_FILE);
    let bytes = std::fs::read(&path).map_err(RefreshError::failed(path.display().to_string()))?;
    let release = Release::from_json(&bytes).map_err(RefreshError::failed(path.display().to_string()))?;
    let fingerprint: Fingerprint = release.fingerprint.clone();
    let registry = job.registry.url().to_owned();
    let message = ModelAnnouncement { schema: MODEL_ANNOUNCEMENT_SCHEMA, registry, release };
    let value = serde_json::to_vec(&message).map_err(RefreshError::failed("announce"))?;
    let what = format!("announce on topic {}", announce.topic);
    let sent = job.registry.runtime.block_on(async {
        let producer: FutureProducer = producer(&job.config.kafka).map_err(|error| RefreshError::of("kafka", true, error))?;
        let record = FutureRecord::<str, [u8]>::to(&announce.topic).key(fingerprint.as_str()).payload(&value);
        let sent = producer.send(record, TIMEOUT).await;
        sent.map_err(|(error, _)| RefreshError::of(what.clone(), unknown_topic(&error), error))
    });
    sent.map(|_| ())
}

fn unknown_topic(error: &rdkafka::error::KafkaError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::TopicAuthorizationFailed | Code::InvalidTopic)
    )
}
