//! Bundle → registry → a record on the models topic.

use astromech_schemas::Release;

use super::context::Job;
use super::error::RefreshError;
use super::state::{Run, write_json};
use super::training;
use crate::announce::{AnnounceError, AnnounceOptions, announce as send};

/// The release as it was published, in the run's folder.
const RELEASE_FILE: &str = "release.json";

/// Keeps the checkpoint under the bundle's fingerprint, then publishes the bundle: a live bundle always has its checkpoint.
pub(super) fn publish(job: &mut Job<'_>, run: &Run) -> Result<(), RefreshError> {
    let bundle = job.bundle(run);
    training::keep_checkpoint(job, run, &super::export::fingerprint(&bundle)?)?;
    job.check_lease()?;
    let release = job.registry.publish(&bundle)?;
    write_json(&job.folder(run).join(RELEASE_FILE), &release)
}

/// Announces what was published; acknowledged by all replicas of the topic. A job that is killed in between announces it again, which
/// readers know by its fingerprint.
pub(super) fn announce(job: &mut Job<'_>, run: &Run) -> Result<(), RefreshError> {
    let Some(announce) = &job.config.announce else { return Ok(()) };
    let path = job.folder(run).join(RELEASE_FILE);
    let bytes = std::fs::read(&path).map_err(RefreshError::failed(path.display().to_string()))?;
    let release = Release::from_json(&bytes).map_err(RefreshError::failed(path.display().to_string()))?;
    let properties = job.config.kafka.all_properties().map_err(|error| RefreshError::of("kafka", true, error))?;
    let options = AnnounceOptions { brokers: job.config.kafka.brokers.clone(), topic: announce.topic.clone(), properties };
    let sent = job.registry.runtime.block_on(send(&options, job.registry.url(), &release));
    sent.map_err(|error| RefreshError::of("announce", is_input(&error), error))
}

fn is_input(error: &AnnounceError) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    match error {
        AnnounceError::Client(_) => true,
        AnnounceError::Json(_) => false,
        AnnounceError::Send { error, .. } => matches!(
            error.rdkafka_error_code(),
            Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::TopicAuthorizationFailed | Code::InvalidTopic)
        ),
    }
}
