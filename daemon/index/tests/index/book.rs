//! The book of generations, held by both engines: what is live changes for all kinds at once, and what is live is never lost.

use std::sync::Arc;

use astromech_index::book::{Backfill, Catalog, Cursor, Mark, Noted, Offsets};
use astromech_index::qdrant::QdrantOptions;
use astromech_index::{self as index, EmbeddedOptions, IndexError, IndexOptions, IndexWriter, Scope, Space};

use crate::support::*;

/// Opens a generation beside whatever is live.
async fn open_beside(engine: &Engine, space: &Space) -> Arc<dyn IndexWriter> {
    let options = match engine.options() {
        IndexOptions::Embedded(options) => IndexOptions::Embedded(EmbeddedOptions { beside: true, ..options }),
        IndexOptions::Qdrant(options) => IndexOptions::Qdrant(QdrantOptions { beside: true, ..options }),
    };
    index::open(&options, space).await.unwrap()
}

async fn what_is_live_is_one_generation_and_another_is_one_change_away(engine: Engine) {
    let catalog = index::catalog(&engine.options()).unwrap();
    assert_eq!(catalog.live().await.unwrap(), None);
    let (a, b) = (space('a'), space('b'));
    let old = open_beside(&engine, &a).await;
    catalog.promote(&a.fingerprint).await.unwrap();
    old.apply(&[image("a", 1, Some(1), Some(1))]).await.unwrap();
    let new = open_beside(&engine, &b).await;
    assert_eq!(catalog.live().await.unwrap(), Some(a.fingerprint.clone()), "opening one beside it changes nothing");
    assert_eq!(found_in(&*catalog).await, [("test-a".to_owned(), None), ("test-b".to_owned(), None)]);

    let retired = Noted { mark: Mark::Retired, since_ms: 7 };
    catalog.note(&a.fingerprint, Some(retired)).await.unwrap();
    catalog.promote(&b.fingerprint).await.unwrap();
    assert_eq!(catalog.live().await.unwrap(), Some(b.fingerprint.clone()));
    assert_eq!(found_in(&*catalog).await[0].1, Some(retired));
    catalog.note(&a.fingerprint, None).await.unwrap();
    assert_eq!(found_in(&*catalog).await[0].1, None);

    let refused = catalog.drop_generation(&b.fingerprint).await.unwrap_err();
    assert!(matches!(&refused, IndexError::Mismatch(problem) if problem.contains("is live")), "{refused}");
    old.close().await.unwrap();
    drop(old);
    catalog.drop_generation(&a.fingerprint).await.unwrap();
    catalog.drop_generation(&a.fingerprint).await.unwrap();
    assert_eq!(found_in(&*catalog).await, [("test-b".to_owned(), None)]);
    new.close().await.unwrap();
}

/// Bundles and notes, in the order of the bundles' names.
async fn found_in(catalog: &dyn Catalog) -> Vec<(String, Option<Noted>)> {
    let mut found: Vec<_> = catalog.generations().await.unwrap().into_iter().map(|one| (one.bundle, one.noted)).collect();
    found.sort_by(|x, y| x.0.cmp(&y.0));
    found
}

async fn the_first_plan_of_a_generation_counts_and_its_place_is_kept(engine: Engine) {
    let catalog = index::catalog(&engine.options()).unwrap();
    let (a, b) = (space('a'), space('b'));
    let old = open_beside(&engine, &a).await;
    let plan = |offset| Backfill::new(a.fingerprint.clone(), Offsets::from([("t".to_owned(), [(3, offset)].into())]));
    assert_eq!(catalog.begin(&a, &plan(1)).await.unwrap(), None, "what was begun without a plan has none");
    assert_eq!(catalog.backfill(&b.fingerprint).await.unwrap(), None);
    assert_eq!(catalog.begin(&b, &plan(5)).await.unwrap(), Some(plan(5)));
    assert_eq!(catalog.begin(&b, &plan(9)).await.unwrap(), Some(plan(5)), "another daemon's plan comes too late");

    let new = open_beside(&engine, &b).await;
    let point = Some(uuid::Uuid::from_u128(7));
    let further = Backfill { group_set: true, cursor: Cursor { kind: 1, point }, read: 12, lost: 2, left_out: 1, ..plan(5) };
    catalog.note_backfill(&b.fingerprint, &further).await.unwrap();
    assert_eq!(catalog.backfill(&b.fingerprint).await.unwrap(), Some(further));
    catalog.note(&b.fingerprint, Some(Noted { mark: Mark::Retired, since_ms: 7 })).await.unwrap();
    assert!(catalog.backfill(&b.fingerprint).await.unwrap().is_some(), "a note leaves it");
    new.close().await.unwrap();
    drop(new);
    catalog.drop_generation(&b.fingerprint).await.unwrap();
    assert_eq!(catalog.backfill(&b.fingerprint).await.unwrap(), None);
    old.close().await.unwrap();
}

async fn a_page_of_points_is_followed_by_the_next_and_leaves_tombstones_out(engine: Engine) {
    let index = engine.open().await;
    let images: Vec<_> = (0..25).map(|i| image(&format!("i{i}"), 1, Some(i), None)).collect();
    index.apply(&images).await.unwrap();
    index.apply(&[delete("i3", 2)]).await.unwrap();
    let (mut ids, mut from) = (Vec::new(), None);
    loop {
        let page = index.scroll(astromech_schemas::Kind::Image, Scope::Live, from, 10).await.unwrap();
        assert!(page.points.len() <= 10);
        ids.extend(page.points.iter().map(|point| point.point_id));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(ids.len(), 24);
    assert!(ids.is_sorted(), "in the order of their ids");
    let all = index.scroll(astromech_schemas::Kind::Image, Scope::All, None, 100).await.unwrap();
    assert_eq!((all.points.len(), all.next), (25, None), "with the tombstone");
}

mod embedded {
    use super::Engine;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_first_plan_of_a_generation_counts_and_its_place_is_kept() {
        super::the_first_plan_of_a_generation_counts_and_its_place_is_kept(Engine::embedded()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn promise_7_what_is_live_is_one_generation_and_another_is_one_change_away() {
        super::what_is_live_is_one_generation_and_another_is_one_change_away(Engine::embedded()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_page_of_points_is_followed_by_the_next_and_leaves_tombstones_out() {
        super::a_page_of_points_is_followed_by_the_next_and_leaves_tombstones_out(Engine::embedded()).await;
    }
}

mod qdrant {
    use super::Engine;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_first_plan_of_a_generation_counts_and_its_place_is_kept() {
        super::the_first_plan_of_a_generation_counts_and_its_place_is_kept(Engine::qdrant().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn promise_7_what_is_live_is_one_generation_and_another_is_one_change_away() {
        super::what_is_live_is_one_generation_and_another_is_one_change_away(Engine::qdrant().await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_page_of_points_is_followed_by_the_next_and_leaves_tombstones_out() {
        super::a_page_of_points_is_followed_by_the_next_and_leaves_tombstones_out(Engine::qdrant().await).await;
    }
}
