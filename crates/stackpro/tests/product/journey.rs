//! The main job on the local cloud, also when it loses answers.

use stackpro_testkit::Builder;

use crate::product;
use crate::travel::travel;

#[tokio::test]
async fn from_a_sign_up_to_an_instance_of_ones_own_and_to_the_receipts() {
    with(product()).await;
}

#[tokio::test]
async fn the_journey_survives_a_cloud_that_loses_answers() {
    let faults = "{seed=11, throttle=0.05, error_before=0.05, error_after=0.1, latency_max_ms=20}";
    with(product().env("STACKPRO_FAULTS", faults)).await;
}

async fn with(product: Builder) {
    let app = product.start().await;
    travel(&app).await;
}
