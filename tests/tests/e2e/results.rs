//! What results carry where the configuration asks.

use std::collections::BTreeSet;

use astromech_e2e::checks::cosine;
use astromech_e2e::items::Item;
use astromech_e2e::{Daemon, Sent, world};
use astromech_schemas::point_id;
use astromech_schemas::results::ResultMessage;
use astromech_schemas::trace::HEADER_TRACEPARENT;

use crate::scenario::Scenario;

const ITEMS: usize = 40;
const NEIGHBOURS: usize = 3;
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-";

/// The trace that a result carries.
fn trace(sent: &Sent) -> Option<String> {
    let (_, value) = sent.record.headers.iter().find(|(name, _)| name == HEADER_TRACEPARENT)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

#[test]
fn results_carry_the_vectors_of_the_index_and_the_nearest_items_without_the_item_itself() {
    let world = world();
    let mut scenario = Scenario::new(&world, "results");
    scenario.config.extra = format!("[kafka.results]\nembeddings = true\nneighbours = {NEIGHBOURS}\n");
    let mut daemon = Daemon::start(&scenario.config);
    scenario.produce(&scenario.items(ITEMS, 1));
    scenario.wait_done(&mut daemon);
    // A second version of every item meets a full index, and comes out of a trace.
    let traced = |item: &Item| {
        let mut record = item.record();
        record.headers.push((HEADER_TRACEPARENT.to_owned(), format!("{TRACE}00f067aa0ba902b7-01").into_bytes()));
        record
    };
    world.client.produce(&scenario.topics.changes, scenario.items(ITEMS, 2).iter().map(traced).collect());
    scenario.wait_done(&mut daemon);
    let traced: Vec<String> = world.client.read_all(&scenario.topics.results).iter().filter_map(trace).collect();
    assert_eq!(traced.len(), ITEMS, "those whose change carried one, and no others");
    assert!(traced.iter().all(|trace| trace.starts_with(TRACE) && !trace.contains("00f067aa0ba902b7")), "{traced:?}");
    let snapshot = scenario.snapshot();
    let results: Vec<ResultMessage> =
        scenario.answers().results.into_values().flatten().filter(|result| result.version == 2).collect();
    assert_eq!(results.len(), ITEMS);
    for result in &results {
        assert_eq!(result.embeddings.keys().collect::<BTreeSet<_>>(), result.vectors.iter().collect::<BTreeSet<_>>());
        let point = &snapshot[&result.kind][&point_id(result.kind, &result.id)];
        for (name, vector) in &result.embeddings {
            assert!(cosine(vector, &point.vectors[name]) > 0.999, "{name} of {}", result.id);
        }
        for (kind, neighbours) in &result.neighbours {
            assert!(neighbours.len() <= NEIGHBOURS);
            assert!(neighbours.is_sorted_by(|a, b| a.score >= b.score), "{neighbours:?}");
            assert!(*kind != result.kind || neighbours.iter().all(|neighbour| neighbour.id != result.id), "{result:?}");
        }
        let full = result.neighbours.values().filter(|neighbours| neighbours.len() == NEIGHBOURS).count();
        assert!(full >= 2, "articles and pictures are there: {:?}", result.neighbours);
    }
    assert!(daemon.terminate().success());
}
