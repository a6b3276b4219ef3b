//! Which records make which batch.

use std::collections::{HashSet, VecDeque};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

/// How an epoch is cut into batches.
#[derive(Debug, Clone, Copy)]
pub struct PlanSettings {
    /// Records a batch.
    pub batch: usize,
    /// Avoid two records of one concept in a batch where possible.
    pub distinct_concepts: bool,
    /// Fraction of batches drawn from one domain only, whose negatives are harder.
    pub one_domain_fraction: f64,
}

/// What the plan knows of a record.
#[derive(Debug, Clone, Copy)]
pub struct PlanRecord {
    /// Concept number.
    pub concept: usize,
    /// Domain number.
    pub domain: usize,
}

/// The batches of one epoch: a pure function of seed and epoch, so that a resumed run sees the same order. Every record appears at
/// most once; each batch is full.
pub fn epoch_plan(records: &[PlanRecord], settings: PlanSettings, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut rng = StdRng::seed_from_u64(seed ^ epoch.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.shuffle(&mut rng);
    let single = ((order.len() as f64) * settings.one_domain_fraction.clamp(0.0, 1.0)) as usize;
    let mut batches = Vec::new();
    let mut mixed: Vec<usize> = order.split_off(single.min(order.len()));
    // The first part goes by domain; what does not fill a batch there joins the mixed part.
    let domains = records.iter().map(|record| record.domain + 1).max().unwrap_or(0);
    for domain in 0..domains {
        let own: Vec<usize> = order.iter().copied().filter(|&index| records[index].domain == domain).collect();
        let (full, rest) = cut(&own, records, settings);
        batches.extend(full);
        mixed.extend(rest);
    }
    mixed.shuffle(&mut rng);
    batches.extend(cut(&mixed, records, settings).0);
    batches.shuffle(&mut rng);
    batches
}

/// Cuts an order into full batches; returns them and what is left over.
fn cut(order: &[usize], records: &[PlanRecord], settings: PlanSettings) -> (Vec<Vec<usize>>, Vec<usize>) {
    let count = order.len() / settings.batch.max(1);
    let mut stream: VecDeque<usize> = order.iter().copied().collect();
    let mut deferred: VecDeque<usize> = VecDeque::new();
    let mut batches = Vec::with_capacity(count);
    for _ in 0..count {
        let mut batch = Vec::with_capacity(settings.batch);
        let mut seen = HashSet::new();
        let mut still = VecDeque::new();
        // Records put off earlier come first, then the stream.
        while batch.len() < settings.batch {
            let Some(index) = deferred.pop_front().or_else(|| stream.pop_front()) else { break };
            if settings.distinct_concepts && !seen.insert(records[index].concept) {
                still.push_back(index);
            } else {
                batch.push(index);
            }
        }
        // The stream ran dry: a repeated concept is better than a short batch.
        while batch.len() < settings.batch {
            let Some(index) = still.pop_front() else { break };
            batch.push(index);
        }
        still.extend(deferred);
        deferred = still;
        batches.push(batch);
    }
    deferred.extend(stream);
    (batches, deferred.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(count: usize, concepts: usize) -> Vec<PlanRecord> {
        (0..count).map(|index| PlanRecord { concept: index % concepts, domain: index % 3 }).collect()
    }

    #[test]
    fn every_record_is_used_at_most_once_and_batches_are_full() {
        for one_domain_fraction in [0.0, 0.5] {
            let settings = PlanSettings { batch: 16, distinct_concepts: true, one_domain_fraction };
            let plan = epoch_plan(&records(1000, 200), settings, 1, 0);
            let used: Vec<usize> = plan.iter().flatten().copied().collect();
            let distinct: HashSet<usize> = used.iter().copied().collect();
            assert_eq!(used.len(), distinct.len());
            assert_eq!(plan.len(), 1000 / 16);
            assert!(plan.iter().all(|batch| batch.len() == 16));
        }
    }

    #[test]
    fn batches_hold_distinct_concepts_while_the_stream_lasts() {
        let records = records(1000, 200);
        let settings = PlanSettings { batch: 16, distinct_concepts: true, one_domain_fraction: 0.0 };
        let plan = epoch_plan(&records, settings, 1, 0);
        for batch in &plan[..] {
            let concepts: HashSet<usize> = batch.iter().map(|&index| records[index].concept).collect();
            assert!(concepts.len() >= 15, "{concepts:?}");
        }
    }

    #[test]
    fn the_plan_depends_on_seed_and_epoch_only() {
        let settings = PlanSettings { batch: 8, distinct_concepts: true, one_domain_fraction: 0.0 };
        let records = records(100, 50);
        assert_eq!(epoch_plan(&records, settings, 3, 2), epoch_plan(&records, settings, 3, 2));
        assert_ne!(epoch_plan(&records, settings, 3, 2), epoch_plan(&records, settings, 3, 3));
    }
}
