//! The schema registry, as a start would find it.

use anyhow::{Context as _, Result};
use astromech_avro::Standing;

use crate::config::KafkaConfig;
use crate::failure::hinted;
use crate::index::{Finding, Verdict};
use crate::pipeline::{results_writer, schema_registry};

/// What is found of the registry that topics in Avro need; nothing where none is in Avro.
///
/// # Errors
/// The registry does not answer.
pub(super) async fn survey(kafka: &KafkaConfig) -> Result<Vec<Finding>> {
    let Some(registry) = schema_registry(kafka)? else { return Ok(Vec::new()) };
    let unanswered = || hinted("the schema registry was not looked at", "is it up? check kafka.schema_registry");
    registry.answers().await.with_context(unanswered)?;
    let read: Vec<&str> = kafka.avro_topics().map(|topic| topic.name.as_str()).collect();
    let read = if read.is_empty() { "answers".to_owned() } else { format!("answers; {} are read with it", read.join(", ")) };
    let mut findings = vec![Finding::new("schema registry", Verdict::Right, read)];
    if let Some(results) = results_writer(kafka)? {
        let standing = registry.standing(results.subject()).await.with_context(unanswered)?;
        let (verdict, detail) = judged(standing, results.registers());
        findings.push(Finding::new(format!("subject {}", results.subject().name), verdict, detail));
    }
    Ok(findings)
}

fn judged(standing: Standing, registers: bool) -> (Verdict, String) {
    match standing {
        Standing::Registered(id) => (Verdict::Right, format!("has the schema of results, as id {id}")),
        Standing::Acceptable if registers => (Verdict::Create, "the schema of results is registered".to_owned()),
        Standing::Acceptable => {
            let detail = "does not have the schema of results: register schemas/avro/result.avsc, or set kafka.results.auto_register_schemas = true";
            (Verdict::Wrong, detail.to_owned())
        }
        Standing::Incompatible(words) => {
            let detail = format!(
                "does not take the schema of results ({words}): change its compatibility, or kafka.results.subject_name_strategy"
            );
            (Verdict::Wrong, detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_has_the_schema_takes_it_or_is_wrong() {
        assert_eq!(judged(Standing::Registered(3), false).0, Verdict::Right);
        assert_eq!(judged(Standing::Acceptable, true).0, Verdict::Create);
        assert_eq!(judged(Standing::Acceptable, false).0, Verdict::Wrong);
        let (verdict, detail) = judged(Standing::Incompatible("TYPE_MISMATCH at /fields/0".to_owned()), true);
        assert!(verdict == Verdict::Wrong && detail.contains("TYPE_MISMATCH at /fields/0"), "{detail}");
    }
}
