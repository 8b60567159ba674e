//! Trunks: cases of [`super::conformance`].

use sweep_spec::run::ParentEdge;

use super::*;

/// A run of so many steps that cools down over a fifth of them.
fn cooling(steps: u64) -> Run {
    let mut run = run(steps);
    run.config.schedule =
        Schedule { warmup_steps: 10, warmup_fraction: 1.0, decay: Decay::Wsd { fraction: 0.2 } };
    run
}

/// The trunk of branches of these lengths, then the branches.
fn family(steps: &[u64]) -> Vec<(Run, RunRole)> {
    let mut trunk: Option<Run> = None;
    let mut branches = Vec::new();
    for &steps in steps {
        let mut branch = cooling(steps);
        let config = branch.config.trunk().unwrap();
        let (id, step) = (config.id(), config.steps);
        let stem = Run { config, forks: vec![step], ..branch.clone() };
        trunk = Some(trunk.map_or_else(|| stem.clone(), |trunk| trunk.extended_by(&stem)));
        branch.config.parent = Some(ParentEdge { run: id, step });
        branches.push((branch, RunRole::Fit));
    }
    branches.insert(0, (trunk.unwrap(), RunRole::Trunk));
    branches
}

fn forked(digit: char, steps: &[u64]) -> NewSweep {
    let new = |(run, role)| NewRun { run, role, budget_flops: None, tokens_requested: 1e6 };
    NewSweep { runs: family(steps).into_iter().map(new).collect(), ..sweep(digit, &[]) }
}

/// Trains the trunk up to `step` as its next attempt, with a checkpoint there.
async fn train(store: &Store, trunk: &RunId, number: u32, step: u64) {
    let key = AttemptKey { run: trunk.clone(), number };
    let granted = store.grant(&[grant(trunk, number)]).await.unwrap().remove(0).expect("it waits");
    let resume_step = granted.checkpoint.map_or(0, |at| at.step);
    let points = [(Metric::ValidationLoss, step, 3.0)];
    store.ingest(&[batch(&key, 1, resume_step, &points)]).await.unwrap();
    let row = CheckpointRow {
        key: key.clone(),
        step,
        hash: "h".into(),
        bytes: None,
        requires_seq: 1,
        unix_ms: 3,
    };
    store.commit_checkpoint(&row).await.unwrap();
    let row = EndRow {
        end_step: Some(step),
        resume_step: Some(resume_step),
        ..end(&key, Outcome::Finished, RunState::Finished)
    };
    store.end(&[row]).await.unwrap();
}

pub(super) async fn a_larger_d_extends_a_finished_trunk_and_a_smaller_one_does_not(place: Place) {
    let store = place.with_worker().await;
    assert_eq!(store.submit(&forked('a', &[100, 200])).await.unwrap().runs_new, 3);
    let trunk = family(&[100, 200])[0].0.config.id();
    train(&store, &trunk, 1, 160).await;

    // A fork before its end is no reason to train it again.
    let submitted = store.submit(&forked('b', &[150])).await.unwrap();
    assert_eq!((submitted.runs_new, submitted.runs_finished), (1, 1));
    let record = store.run(&trunk).await.unwrap();
    assert_eq!((record.state, record.facts.steps), (RunState::Finished, 160));
    let stored: Run = serde_json::from_str(&record.run_json).unwrap();
    assert_eq!(stored.forks, [80, 120, 160]);

    let submitted = store.submit(&forked('c', &[400])).await.unwrap();
    assert_eq!((submitted.runs_new, submitted.runs_finished, submitted.runs_known), (1, 0, 1));
    let record = store.run(&trunk).await.unwrap();
    let merged: Run = serde_json::from_str(&record.run_json).unwrap();
    assert_eq!(
        (record.state, merged.forks.as_slice()),
        (RunState::Queued, &[80, 120, 160, 320][..])
    );
    assert_eq!(record.facts, Facts::of(&merged), "every column follows");
    assert_eq!(merged.config.id(), trunk);
    // It goes on where it stood, and what a scheduler loads names its checkpoints.
    train(&store, &trunk, 2, 320).await;
    let saved = store.load_runs(std::slice::from_ref(&trunk)).await.unwrap().remove(0);
    assert_eq!(saved.checkpoints, [(160, "w".to_owned()), (320, "w".to_owned())]);
    assert_eq!(saved.config.steps, 320);
    let loaded = store.load().await.unwrap();
    let again = loaded.runs.iter().find(|run| run.id == trunk).unwrap();
    assert_eq!(again.checkpoints, saved.checkpoints);
    let curve = store.curve(&trunk, Metric::ValidationLoss, -1, 10).await.unwrap();
    assert_eq!(curve.iter().map(|point| point.step).collect::<Vec<_>>(), [160, 320]);

    // A checkpoint that branches fork from is kept, whatever comes after it.
    for (number, step) in [(1, 160), (2, 320)] {
        let key = AttemptKey { run: trunk.clone(), number };
        store.keep_checkpoint(&key, step, "h").await.unwrap().unwrap();
    }
    let saved = store.load_runs(std::slice::from_ref(&trunk)).await.unwrap().remove(0);
    assert_eq!(saved.kept, [160, 320]);
    let fork = store.kept_checkpoint(&trunk, 160).await.unwrap().unwrap();
    assert_eq!((fork.step, fork.hash.as_str(), fork.kept), (160, "h", true));
    assert_eq!(store.kept_checkpoint(&trunk, 80).await.unwrap(), None);
}

pub(super) async fn the_cost_of_a_sweep_counts_its_trunk_once(place: Place) {
    let store = place.open().await;
    store.submit(&forked('a', &[100, 200])).await.unwrap();
    let counts = store.counts(&sweep_id('a')).await.unwrap();
    // By hand: 160 steps of trunk, cool-downs of 20 and 40, of 16 x 64 tokens each.
    let tokens: f64 = counts.iter().map(|count| count.tokens).sum();
    assert_eq!(tokens, f64::from(160 + 20 + 40) * 1024.0);
    let page = store.runs_page(&sweep_id('a'), -1, 10).await.unwrap();
    let facts: Vec<_> = page.iter().map(|record| &record.facts).collect();
    assert_eq!(page[0].role, Some(RunRole::Trunk));
    assert_eq!((facts[0].parent_run.as_ref(), facts[0].parent_step), (None, None));
    assert_eq!((facts[2].tokens, facts[2].own_tokens), (200 * 1024, 40 * 1024));
    assert_eq!(facts[2].parent_run.as_deref(), Some(page[0].id.as_str()));
    assert_eq!(facts[2].parent_step, Some(160));
}
