//! A comparison at tiny size, with the arms that are shipped.

use std::path::Path;

use astromech_trainer::compare::{Arms, Plan, compare, draw, markdown, summarise};
use astromech_trainer::stop::StopFlag;

use crate::{one_run_at_a_time, synthetic};

fn shipped(name: &str) -> Arms {
    Arms::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs").join(name)).unwrap()
}

#[test]
fn every_shipped_arm_trains_is_measured_and_is_not_repeated() {
    let _guard = one_run_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    synthetic::write_corpus(folder.path());
    let config = folder.path().join("train.toml");
    // It leaves the file there.
    synthetic::config(folder.path(), &folder.path().join("unused"), &[]);
    let plan = |arms: Arms| Plan {
        config: config.clone(),
        overrides: vec!["optim.steps=6".to_owned()],
        arms,
        seeds: vec![1, 2],
        tasks: vec!["train.shape.long".to_owned()],
        top_k: 4,
        runs: folder.path().join("runs"),
    };
    for file in ["compare.toml", "ablate.toml"] {
        let plan = plan(shipped(file));
        let results = compare(&plan, &StopFlag::new()).unwrap();
        assert_eq!(results.len(), plan.arms.arms.len() * 2);
        assert!(results.iter().all(|result| result.steps == 6));
        let summaries = summarise(&plan.arms.arms, &plan.tasks, &results);
        assert!(summaries.iter().all(|row| row.seeds == 2));
        let reranks = |name: &str| plan.arms.arms.iter().any(|arm| arm.name == name && arm.rerank);
        assert!(summaries.iter().all(|row| row.reranked.is_some() == reranks(&row.arm)));
        assert!(markdown(&plan.arms.arms, &summaries).contains("| R2D2 | 2 | 6 |"));
        let figure = folder.path().join("figure.svg");
        draw(&figure, &summaries).unwrap();
        assert!(std::fs::read_to_string(&figure).unwrap().contains("R2D2"));
        // Measured results are read back, to the last bit; a run that were repeated would differ in its seconds.
        assert_eq!(compare(&plan, &StopFlag::new()).unwrap(), results);
    }
}

#[test]
fn arms_that_cannot_be_told_apart_or_named_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("arms.toml");
    let arm = |name: &str| format!("[[arm]]\nname = \"{name}\"\nabout = \"\"\nset = []\n");
    std::fs::write(&path, arm("A") + &arm("A")).unwrap();
    assert!(Arms::read(&path).unwrap_err().to_string().contains("two arms are named \"A\""));
    std::fs::write(&path, arm("../A")).unwrap();
    assert!(Arms::read(&path).unwrap_err().to_string().contains("it names a folder"));
}
