//! Small businesses over some months, each with a seed of its own. `stackpro simulate` runs greater ones.
#![allow(clippy::unwrap_used)]

use stackpro_simulation::{Plan, Report, run};

async fn simulate(plan: &Plan) -> Report {
    drop(rustls::crypto::ring::default_provider().install_default());
    let folder = tempfile::tempdir().unwrap();
    run(plan, folder.path(), |_| {}).await.unwrap_or_else(|failed| panic!("{failed}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_invariant_breaks() {
    let (mut changes, mut codes, mut gifts) = (0, 0, 0);
    for seed in 1..=3 {
        let report = simulate(&Plan::new(30, 120, seed)).await;
        assert!(report.revenue.0 > 0 && report.crashes > 0 && report.checks > 100, "{report:?}");
        changes += report.changes;
        codes += report.codes;
        gifts += report.gifts;
    }
    assert!(codes >= 5 && gifts >= 3, "only {codes} codes were used and {gifts} plans given");
    assert!(changes >= 5, "only {changes} plans were changed");
}

/// In this run a node died, when it was found, right after it had released the instance that a client moved away from.
#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_gone_is_not_asked() {
    simulate(&Plan::new(60, 90, 3)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seed_gives_the_same_run_and_another_one_another() {
    let once = simulate(&Plan::new(15, 60, 7)).await;
    assert_eq!(simulate(&Plan::new(15, 60, 7)).await, once);
    assert_ne!(simulate(&Plan::new(15, 60, 8)).await, once);
}
